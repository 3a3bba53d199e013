"""A store in this process: each node's connection to one simulated server has its own faults.

Calls take time, get lost or are answered too late, independently: a single connection would keep
their order and lose all at once, which tests less. Messages keep their order in a channel, and
overtake each other between channels; a subscription breaks, and the node notices later.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any, Protocol

from simulated_server import Server

from videre.engines.redis.connecting import COMMAND_SECONDS
from videre.engines.redis.store import Broken, Heard
from videre.errors import EngineError
from videre.ids import RoomId

# How long after a loss a node notices, and how long a new connection takes at most.
RECONNECTING_SECONDS = 5.0
CONNECT_SECONDS = 0.01


class Clock(Protocol):
    """Calls back: the server always acts, a node only while it runs."""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back in the world."""

    def later_on(self, node: str, seconds: float, call: Callable[[], None]) -> None:
        """Call back on a node."""


class Soon:
    """A clock for one real event loop: delays of less than a second are skipped."""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """See Clock.later."""
        loop = asyncio.get_running_loop()
        loop.call_soon(call) if seconds < 1 else loop.call_later(seconds, call)

    def later_on(self, node: str, seconds: float, call: Callable[[], None]) -> None:
        """See Clock.later_on."""
        self.later(seconds, call)


@dataclasses.dataclass
class Faults:
    """The faults of a node's connection to the server; none at first."""

    away: bool = False  # nothing gets through, either way
    lost_calls: float = 0.0  # probability that a call, or its answer, is lost
    call_seconds: float = 0.002  # the longest delay of a call, or its answer
    message_seconds: float = 0.002  # the longest delay of a message


class Cluster:
    """One server, and the connections of all nodes."""

    def __init__(
        self,
        clock: Clock,
        now: Callable[[], float],
        random: random.Random,
        *,
        keep_ms: int = 60_000,
        keep_bytes: int | None = None,
    ) -> None:
        self.clock = clock
        self.random = random
        self.now = now
        self.jumped = 0.0  # how far the server's clock was moved, in seconds
        keep: dict[str, Any] = {"keep_ms": keep_ms, "keep_bytes": keep_bytes}
        self.server = Server(self._server_now, self._publish, **keep)
        self.stores: list[SimulatedStore] = []
        self.era = 0  # the number of restarts: data in flight then is lost
        self.began = -math.inf  # the time of the last one
        self.renewed: dict[str, float] = {}  # when a node has renewed its lease
        self.back: dict[str, float] = {}  # since when it has had one without a break
        #: Gets everything that is published.
        self.watch: Callable[[str, list[Any], str], None] = lambda room, line, body: None
        #: Gets each node that is condemned, or was.
        self.watch_condemned: Callable[[str], None] = lambda node: None
        #: Is called when a node was buried.
        self.watch_buried: Callable[[], None] = lambda: None

    def _server_now(self) -> float:
        return self.now() + self.jumped

    def node_step(self, op: str, node: str, *arguments: str) -> Any:
        """Let the server take a step of nodes.lua."""
        taken = self.server.node(op, node, *arguments)
        if op == "beat" and taken[0] != "condemned":
            self.renewed[node] = self.now()
            if taken[0] == "new":
                self.back[node] = self.now()
        if op == "condemn":
            self.watch_condemned(node)
        if op == "buried":
            self.watch_buried()
        return taken

    def drop_connections(self) -> None:
        """Drop all connections to the server, and the data in flight on them."""
        self.era += 1
        self.began = self.now()

    def _publish(self, room: str, line: list[Any], body: str) -> None:
        self.watch(room, line, body)
        for store in self.stores:
            if room in store.channels:
                store.carry(room, lambda store=store: store.heard(room, (line, body)))  # type: ignore[misc]

    def store(self, name: str) -> SimulatedStore:
        """Return the connection of one more node."""
        store = SimulatedStore(self, name)
        self.stores.append(store)
        return store


class SimulatedStore:
    """One node's connection to the server, with the methods of RedisStore."""

    format = "simulated"
    where = "simulated://"

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._name = name
        self.faults = Faults()
        self.channels: set[str] = set()  # as the server knows them
        self._line = 0  # the number of the connection that carries messages
        self._arrivals: dict[str, float] = {}  # when the last message of a room arrives
        self._waiting: set[asyncio.Future[None]] = set()  # for channels to be subscribed
        self.deaf = False  # the connection is gone, and the node does not know
        self._heard: Heard
        self._broken: Broken = lambda: None

    # Calls.

    async def _call(self, call: Callable[[], Any]) -> Any:
        """Let the server do something, and return its answer."""
        cluster, faults = self._cluster, self.faults
        answered = asyncio.get_running_loop().create_future()
        name, clock, chance = self._name, cluster.clock, cluster.random

        def answer(result: Any, error: BaseException | None) -> None:
            if not answered.done():
                if error is None:
                    answered.set_result(result)
                else:
                    answered.set_exception(error)

        def fail() -> None:
            answer(None, EngineError("The store cannot be reached"))

        began, era = cluster.now(), cluster.era

        def lose() -> None:
            """Lose the answer: the node times out."""
            clock.later_on(name, max(0.0, began + COMMAND_SECONDS - cluster.now()), fail)

        def execute() -> None:
            if self.faults.away or cluster.era != era:
                return lose()
            result, error = None, None
            try:
                result = call()
            except Exception as raised:
                error = raised
            if self.faults.lost_calls and chance.random() < self.faults.lost_calls:
                return lose()
            seconds = self.faults.call_seconds * chance.random()
            if cluster.now() + seconds > began + COMMAND_SECONDS:
                return lose()
            clock.later_on(name, seconds, lambda: answer(result, error))

        if faults.away and chance.random() < 0.5:  # nobody is there
            clock.later_on(name, 0.001, fail)
        elif faults.away or (faults.lost_calls and chance.random() < faults.lost_calls):
            lose()
        else:
            seconds = faults.call_seconds * chance.random()
            if began < cluster.began + RECONNECTING_SECONDS and chance.random() < 0.5:
                seconds += CONNECT_SECONDS * chance.random()  # others overtake it
            if seconds > COMMAND_SECONDS:  # it is carried out all the same
                lose()
            clock.later(seconds, execute)
        return await answered

    async def open(self, heard: Heard, broken: Broken) -> None:
        """See RedisStore.open."""
        self._heard, self._broken = heard, broken
        await self._call(lambda: None)

    async def close(self) -> None:
        """See RedisStore.close."""
        self._forget()
        self._broken = lambda: None

    async def step(self, room: str, op: str, *arguments: str) -> Any:
        """See RedisStore.step."""
        return await self._call(lambda: self._cluster.server.step(room, op, *arguments))

    async def node(self, op: str, node: str, *arguments: str) -> Any:
        """See RedisStore.node."""
        return await self._call(lambda: self._cluster.node_step(op, node, *arguments))

    async def noted(self, node: str) -> list[str]:
        """See RedisStore.noted."""
        server = self._cluster.server
        found: list[str] = await self._call(lambda: sorted(server.noted.get(node, ())))
        return found

    async def rooms(self, after: str | None, limit: int) -> list[str]:
        """See RedisStore.rooms."""
        data = self._cluster.server.data
        names = await self._call(lambda: [name for name, room in data.items() if room.seats])
        return sorted(name for name in names if after is None or name > after)[:limit]

    async def evicts(self) -> str:
        """See RedisStore.evicts."""
        return ""

    # Messages.

    async def subscribe(self, room: str) -> None:
        """See RedisStore.subscribe."""
        cluster = self._cluster
        confirmed = asyncio.get_running_loop().create_future()
        self._waiting.add(confirmed)
        line = self._line

        def begin() -> None:
            if line == self._line and not self.faults.away and not self.deaf:
                self.channels.add(room)
                self.carry(room, lambda: None if confirmed.done() else confirmed.set_result(None))

        def fail() -> None:
            if not confirmed.done():
                confirmed.set_exception(EngineError("The store cannot be reached"))

        cluster.clock.later(self.faults.call_seconds * cluster.random.random(), begin)
        cluster.clock.later_on(self._name, COMMAND_SECONDS, fail)
        try:
            await confirmed
        finally:
            self._waiting.discard(confirmed)

    async def unsubscribe(self, room: str) -> None:
        """See RedisStore.unsubscribe."""
        line = self._line

        def end() -> None:
            if line == self._line:
                self.channels.discard(room)

        await self._call(end)

    def listen_anew(self) -> None:
        """See RedisStore.listen_anew."""
        if self.channels or self.deaf or self._waiting:
            self._forget()
            self._broken()

    def heard(self, room: str, message: tuple[list[Any], str]) -> None:
        """Deliver a message to the node."""
        self._heard(RoomId(room), message)

    def carry(self, room: str, call: Callable[[], None]) -> None:
        """Call back on the node, after earlier messages of this room."""
        cluster = self._cluster
        if self.faults.away or self.deaf:
            return
        now = cluster.now()
        due = now + self.faults.message_seconds * cluster.random.random()
        due = self._arrivals[room] = max(due, self._arrivals.get(room, 0.0))
        line = self._line

        def arrive() -> None:
            if line == self._line:
                call()

        cluster.clock.later_on(self._name, due - now, arrive)

    def lose_line(self, seconds: float) -> None:
        """Lose the connection that carries messages; the node notices later."""
        if self.deaf:
            return
        self.deaf = True
        self.channels.clear()
        self._line += 1
        self._cluster.clock.later_on(self._name, seconds, self._notice)

    def close_line(self) -> None:
        """Lose the connection for good: the process is gone."""
        self.channels.clear()
        self._line += 1
        self.deaf = True

    def _notice(self) -> None:
        if self.deaf:
            self._forget()
            self._broken()

    def _forget(self) -> None:
        self.deaf = False
        self._line += 1
        self.channels.clear()
        self._arrivals.clear()
        for waiting in list(self._waiting):
            if not waiting.done():
                waiting.set_exception(EngineError("The store cannot be reached"))
