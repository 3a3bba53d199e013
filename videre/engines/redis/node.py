"""State that the parts of one node share: its seats, its views of rooms, access to the store."""

from __future__ import annotations

import asyncio
import enum
import logging
import math
import secrets
from collections.abc import Awaitable
from typing import Any, TypeVar

from videre.engines import Listener
from videre.engines.nodes import About, this_process
from videre.engines.redis.leases import lease
from videre.engines.redis.outage import Outage, StoreFull
from videre.engines.redis.store import RedisStore
from videre.engines.redis.view import KNOWN, OwnSeat, View
from videre.errors import EngineError
from videre.ids import RoomId, SeatId
from videre.jobs import Jobs
from videre.tally import Tally

logger = logging.getLogger("videre.engines")

# Limits on unanswered steps and the characters of their arguments; more are refused, so that a slow
# store costs bounded memory. A join or a candidate takes a few hundred characters.
MAX_STEPS = 5_000
MAX_STEP_CHARACTERS = 32 * 1024 * 1024

# Seconds after which the store no longer executes an old command: a command has 3 s, and the same
# to wait for its turn; a frozen server executes what it finds when it resumes.
LATE_SECONDS = 10.0

# Seconds for which a node remembers rooms it left: in a cluster, the shard with a room may come
# back with older data than the shard with the notes.
RELEASED_SECONDS = 60.0

NO_LEASE = "The store has lost data, or the other nodes declared this node dead"
NOT_WHOLE = "Not all members can be reached"
NOT_HEARD = "the messages of the rooms do not arrive"

Found = TypeVar("Found")


class NodeState(enum.Enum):
    """How a node is connected to the store (docs/cluster-protocol.md)."""

    AWAY = "away"  # a step failed, and no beat has succeeded since
    DEAF = "deaf"  # messages may not arrive
    READY = "ready"


AWAY, DEAF, READY = NodeState


class Node:
    """One node, under the name that the store knows. A failed `step` wakes its duties early."""

    def __init__(self, store: RedisStore, tally: Tally, name: str = "") -> None:
        self.store = store
        self._tally = tally
        self.listener: Listener
        self.name = name  # "" until it starts, because forked processes need different names
        self.views: dict[RoomId, View] = {}
        self.own: dict[SeatId, OwnSeat] = {}  # by seat; also adopted ones, of rooms without a view
        self._own_in: dict[RoomId, dict[SeatId, OwnSeat]] = {}  # by room and seat
        self.owed: set[RoomId] = set()  # rooms whose state must be sent to the store again
        self.settling: set[RoomId] = set()  # owed rooms whose state is being sent
        self.restoring: set[str] = set()  # other nodes that have not restored all their seats
        self.server = ""  # the store's process when it had all our seats
        self.whole_at = -math.inf  # when all living nodes have restored a restarted store
        self.late: dict[RoomId, float] = {}  # by room: when a failed step can no longer be executed
        self.released: dict[RoomId, float] = {}  # by room without seats here: when it was left
        self.adopting: set[RoomId] = set()  # rooms in which this node may adopt seats
        self.leased_until = -math.inf  # when the others may give this node up
        self.sound_since: float | None = None  # since when the store answers; None: it does not
        self.deaf = False  # whether messages do not arrive
        self.outage = Outage(store.where)
        self.breaks = 0  # how often it became deaf
        self.lost = 0  # rooms found lost in the store, since last logged
        self.closing = False  # whether the other nodes take over its seats
        self.trouble = asyncio.Event()  # wakes the duties early
        self._leases = 0  # number of leases written
        self._process = ""  # see this_process; like the name, only known where it runs
        self._began = 0.0
        self._steps = 0
        self._step_characters = 0
        # Background tasks. Steps that the store does not take are owed, and taken later.
        self.jobs = Jobs(EngineError)

    def begin(self, listener: Listener) -> None:
        """Start as a node, with a name that no other process has."""
        self.listener = listener
        self.name = self.name or secrets.token_hex(8)
        self._process = this_process()
        self._began = asyncio.get_running_loop().time()

    def lease(self, seconds: float) -> str:
        """Return a lease that lasts for `seconds`; each one differs."""
        self._leases += 1
        age = int(asyncio.get_running_loop().time() - self._began)
        return lease(self._leases, seconds, About(age, len(self.own), self._process))

    @property
    def state(self) -> NodeState:
        """See NodeState. A node that is away may be deaf as well."""
        if self.sound_since is None:
            return AWAY
        return DEAF if self.deaf else READY

    @property
    def ready(self) -> bool:
        """Whether the store answers and its messages arrive."""
        return self.state is READY

    def take(self, own: OwnSeat) -> OwnSeat:
        """Add a seat."""
        self.own[own.seat] = self._own_in.setdefault(own.room, {})[own.seat] = own
        return own

    def drop(self, own: OwnSeat) -> None:
        """Forget a seat, and end its grace."""
        if own.grace is not None:
            own.grace.cancel()
        self.own.pop(own.seat, None)
        if (here := self._own_in.get(own.room)) is not None:
            here.pop(own.seat, None)
            if not here:
                del self._own_in[own.room]
        if (view := self.views.get(own.room)) is not None:
            view.own.pop(own.seat, None)

    def drop_all(self) -> None:
        """Forget all seats."""
        for own in list(self.own.values()):
            self.drop(own)

    @property
    def seated(self) -> int:
        """The number of rooms where this node has seats; each of them is noted."""
        return len(self._own_in)

    def own_in(self, room: RoomId) -> list[OwnSeat]:
        """Return this node's seats in a room."""
        return list(self._own_in.get(room, {}).values())

    def require(self, step: str = "") -> str:
        """Return the node's name; raise EngineError unless it is ready and its lease is valid.

        A `step` counts as failed then.

        A process that stood still may have been given up: it must renew its lease first, because
        nobody would look for seats that it takes under a dead name.
        """
        if not self.ready or asyncio.get_running_loop().time() >= self.leased_until:
            if step:
                self._tally.failures[step] += 1
            raise EngineError("The rooms cannot be reached")
        return self.name

    def require_settled(self, room: RoomId) -> None:
        """Raise EngineError while the store may have older data of a room than this node."""
        if room in self.owed or room in self.settling:
            raise EngineError("The store may have lost data of the room")

    def require_whole(self, room: RoomId) -> View | None:
        """Return the view that knows a room's members; None: only the store knows them.

        Raise EngineError unless the store has them all: it may have lost data, and some members'
        nodes have not restored them. Those would miss a packet, and nobody would notice.
        """
        view = self.views.get(room)
        if view is None or view.is_blank:
            view, whole = None, asyncio.get_running_loop().time() >= self.whole_at
        else:
            whole = view.state is KNOWN and not view.doubted
        if not whole:
            raise EngineError(NOT_WHOLE)
        return view

    def require_known(self, room: RoomId, answer: str) -> None:
        """Raise EngineError if the store answered that its room is an "other" one than ours."""
        if answer == "other":
            self.owe(room)
            raise EngineError("The store has lost data, and not all members are back")

    async def require_same(self, server: str) -> None:
        """Raise EngineError if the store is not the process that this node knew: `server`."""
        if await self.store.node("process", self.name) != server:
            self.trouble.set()
            raise EngineError("The store restarted, and not all members are back")

    async def step(self, room: RoomId, op: str, *arguments: str) -> Any:
        """Take a step in the store; if its outcome is unknown, the room is owed.

        A full store (StoreFull) has not taken it, and can be used for what needs no space.
        """
        size = sum(map(len, arguments))
        if self._steps >= MAX_STEPS or self._step_characters + size > MAX_STEP_CHARACTERS:
            raise EngineError("Too many packets are waiting for the store")
        self._steps += 1
        self._step_characters += size
        try:
            return await self.timed(op, self.store.step(room, op, *arguments))
        except StoreFull as error:
            self.filled(error)
            raise
        except EngineError as error:
            self.owe(room)
            self.unsound(error)
            raise
        except BaseException:
            self.owe(room)
            raise
        finally:
            self._steps -= 1
            self._step_characters -= size

    async def timed(self, step: str, asked: Awaitable[Found]) -> Found:
        """Await the store's answer to a step. Record its time, or that it failed."""
        began = self._tally.clock()
        try:
            answer = await asked
        except EngineError:
            self._tally.failures[step] += 1
            raise
        self._tally.steps[step].observe(self._tally.clock() - began)
        return answer

    async def or_later(self, room: RoomId, op: str, *arguments: str) -> Any:
        """Take a step that must be taken: now, or when the store is back."""
        if not self.ready:
            self.owed.add(room)
            return None
        try:
            return await self.step(room, op, *arguments)
        except EngineError:
            self.owed.add(room)  # it may not even have been tried
            self.trouble.set()
            return None

    async def unnote(self, node: str, room: RoomId) -> None:
        """Remove the note that a node has seats in a room, unless the store has restarted."""
        if not await self.store.node("unnote", node, room, self.server):
            raise EngineError("The store restarted without its data")
        if node == self.name:
            self.released.pop(room, None)  # moves it to the end
            self.released[room] = asyncio.get_running_loop().time()

    def forget_released(self) -> None:
        """Forget the rooms that this node left long ago."""
        old = asyncio.get_running_loop().time() - RELEASED_SECONDS
        for room, since in list(self.released.items()):
            if since > old:
                break
            del self.released[room]

    @property
    def is_waiting(self) -> bool:
        """Whether the store may still execute an earlier step."""
        return bool(self._steps or self.late)

    @property
    def fault(self) -> str:
        """Why this node is not ready; "" if it is."""
        return self.outage.reason or ("" if self.ready else NOT_HEARD)

    def unsound(self, error: BaseException) -> None:
        """Record that the store cannot be used, and why."""
        self.outage.tell(error, asyncio.get_running_loop().time())
        if self.sound_since is not None:
            self.sound_since = None
            self.trouble.set()

    def sound(self) -> None:
        """Record that the store can be used."""
        self.sound_since = asyncio.get_running_loop().time()
        self.outage.pause()

    def filled(self, error: StoreFull) -> None:
        """Record that the store is full, until Outage.relieve; nothing else ends."""
        self.outage.tell(error, asyncio.get_running_loop().time())

    def owe_counts(self, view: View) -> None:
        """Owe a room that its members here heard packets of which the store has no messages.

        Its counts of their packets are wrong from now on: nobody could say what they missed.
        """
        view.uncounted = True
        self.owed.add(view.room)
        self.trouble.set()

    def owe(self, room: RoomId) -> None:
        """Owe a room: send its state to the store soon, and again LATE_SECONDS later."""
        self.owed.add(room)
        self.late[room] = asyncio.get_running_loop().time() + LATE_SECONDS
        self.trouble.set()
