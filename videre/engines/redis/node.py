"""What the parts of one node share: its seats, its views of rooms, and the way to the store."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from typing import Any

from videre.engines import Listener
from videre.engines.redis.leases import lease
from videre.engines.redis.outage import Outage
from videre.engines.redis.store import Store
from videre.engines.redis.view import OwnSeat, View
from videre.errors import EngineError
from videre.jobs import Jobs

logger = logging.getLogger("videre.engines")

# Steps that a node may be waiting for, and characters of what they say: more is refused, so that a
# slow store costs bounded memory. A join or a candidate says some hundred.
MAX_STEPS = 5_000
MAX_STEP_CHARACTERS = 32 * 1024 * 1024

# Seconds after which nothing that was asked of the store is done any more: a command has 3, and one
# that waits for its turn as many; a server that was frozen takes what it finds when it goes on.
LATE_SECONDS = 10.0


# Seconds for which a node remembers the rooms that it has had seats in: of a cluster, the shard
# with a room may come back with older data than the one with the notes.
RELEASED_SECONDS = 60.0

# Why a node takes no part. In words for who has just started it.
FOREIGN = (
    "another version of videre-server uses the store (its format is {other}, ours is {ours}):"
    " stop those servers first, or set another Engine"
)

NOT_HEARD = "the messages of the rooms are not heard"


class Node:
    """One node, by the name that the store knows it by. It is told of trouble by `step`."""

    def __init__(self, store: Store, name: str = "") -> None:
        self.store = store
        self.listener: Listener
        self.name = name  # "" until it starts: a process that is forked has a name of its own
        self.views: dict[str, View] = {}
        self.own: dict[str, OwnSeat] = {}  # by seat; also adopted ones, of rooms without a view
        self._own_in: dict[str, dict[str, OwnSeat]] = {}  # by room and seat
        self.owed: set[str] = set()  # rooms in which the store may not know what is so
        self.restoring: set[str] = set()  # other nodes that have yet to put right what they have
        self.server = ""  # the process that the store was when it was told all
        self.whole_at = -math.inf  # when all living nodes have told another process what they have
        self.late: dict[str, float] = {}  # rooms in which what failed may be done yet: until when
        self.released: dict[str, float] = {}  # rooms without seats of its own any more: since when
        self.adopting: set[str] = set()  # rooms in which seats may become this node's
        self.leased_until = -math.inf  # from when on the others may have given this node up
        self.sound_since: float | None = None  # since when the store answers; None: it does not
        self.deaf = False  # whether messages are not heard
        self.outage = Outage(store.where)
        self.breaks = 0  # how often that began
        self.lost = 0  # rooms that the store turned out to have lost, since that was last logged
        self.closing = False  # what is left is given to the other nodes
        self.trouble = asyncio.Event()  # something is to be looked after soon
        self._leases = 0  # so many were written
        self._steps = 0
        self._step_characters = 0
        # What nobody waits for. What the store does not take is owed, and done later.
        self.jobs = Jobs(EngineError)

    def begin(self, listener: Listener) -> None:
        """Begin to be a node, with a name that no other process has."""
        self.listener = listener
        self.name = self.name or secrets.token_hex(8)

    def lease(self, seconds: float) -> str:
        """Return a lease for so long, which is another one each time."""
        self._leases += 1
        return lease(self._leases, seconds)

    @property
    def ready(self) -> bool:
        """Whether the store answers, and is heard."""
        return self.sound_since is not None and not self.deaf

    def take(self, own: OwnSeat) -> OwnSeat:
        """Have one more seat."""
        self.own[own.seat] = self._own_in.setdefault(own.room, {})[own.seat] = own
        if not own.lost and (view := self.views.get(own.room)) is not None:
            view.own[own.seat] = own  # for an adopted one nothing need be heard
        return own

    def drop(self, own: OwnSeat) -> None:
        """Have a seat no more."""
        self.own.pop(own.seat, None)
        if (here := self._own_in.get(own.room)) is not None:
            here.pop(own.seat, None)
            if not here:
                del self._own_in[own.room]
        if (view := self.views.get(own.room)) is not None:
            view.own.pop(own.seat, None)

    def drop_all(self) -> None:
        """Have no seat any more."""
        self.own.clear()
        self._own_in.clear()

    def own_in(self, room: str) -> list[OwnSeat]:
        """Return the seats in a room."""
        return list(self._own_in.get(room, {}).values())

    def require(self) -> str:
        """Return the node's name; raise EngineError unless the store answers, and is heard.

        A process that stood still may have been given up: it must renew its lease first, since
        nobody looks for seats that it takes afterwards.
        """
        if not self.ready or asyncio.get_running_loop().time() >= self.leased_until:
            raise EngineError("The rooms cannot be reached")
        return self.name

    def require_whole(self) -> None:
        """Raise EngineError while other nodes may not have told the store what they have."""
        if asyncio.get_running_loop().time() < self.whole_at:
            raise EngineError("Not all members can be reached")

    async def require_same(self) -> None:
        """Raise EngineError if the store is another process than this node knows."""
        if await self.store.node("process", self.name) != self.server:
            self.trouble.set()
            raise EngineError("The store began again, and not all members are back")

    async def step(self, room: str, op: str, *arguments: str) -> Any:
        """Take a step in the store; if nobody knows whether it was taken, it is owed."""
        size = sum(map(len, arguments))
        if self._steps >= MAX_STEPS or self._step_characters + size > MAX_STEP_CHARACTERS:
            raise EngineError("Too many packets are waiting for the store")
        self._steps += 1
        self._step_characters += size
        try:
            return await self.store.step(room, op, *arguments)
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

    async def or_later(self, room: str, op: str, *arguments: str) -> Any:
        """Take a step that must be taken: if not now then when the store is back."""
        if not self.ready:
            self.owed.add(room)
            return None
        try:
            return await self.step(room, op, *arguments)
        except EngineError:
            self.owed.add(room)  # it may not even have been tried
            self.trouble.set()
            return None

    async def unnote(self, node: str, room: str) -> None:
        """Note that a node has no seats in a room, unless the store is another process now."""
        if not await self.store.node("unnote", node, room, self.server):
            raise EngineError("The store restarted without its data")
        if node == self.name:
            self.released.pop(room, None)  # to come last
            self.released[room] = asyncio.get_running_loop().time()

    def forget_released(self) -> None:
        """Forget the rooms in which this node has had no seats for long."""
        old = asyncio.get_running_loop().time() - RELEASED_SECONDS
        for room, since in list(self.released.items()):
            if since > old:
                break
            del self.released[room]

    def meet(self, other: str | None) -> None:
        """Take note of another format that living nodes write; raise EngineError if there is."""
        if other is not None:
            raise EngineError(FOREIGN.format(other=other, ours=self.store.format))

    @property
    def is_waiting(self) -> bool:
        """Whether something was asked of the store that may be done yet."""
        return bool(self._steps or self.late)

    @property
    def fault(self) -> str:
        """Why this node is not ready; "": it is."""
        return self.outage.reason or ("" if self.ready else NOT_HEARD)

    def unsound(self, error: BaseException) -> None:
        """Take note that the store cannot be used, and why."""
        self.outage.tell(error, asyncio.get_running_loop().time())
        if self.sound_since is not None:
            self.sound_since = None
            self.trouble.set()

    def sound(self) -> None:
        """Take note that the store can be used."""
        self.sound_since = asyncio.get_running_loop().time()
        self.outage.end()
        logger.info("connected to the store")

    def owe(self, room: str) -> None:
        """Take note that the store may not know what is so in a room, now or a while later."""
        self.owed.add(room)
        self.late[room] = asyncio.get_running_loop().time() + LATE_SECONDS
        self.trouble.set()
