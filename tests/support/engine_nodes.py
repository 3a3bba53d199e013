"""Nodes of a cluster in one process: engines that share a store, and what each hears.

Their time, that of the event loop, passes when a test says so (`elapse`, `until`): no busy machine
makes a node miss a lease, and no test waits for one to end.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast

from engine_contract import HALVES, Recorder, in_short
from fakes import FakeClock
from patience import eventually
from simulated_store import Cluster, Soon
from skipping import skip

from videre.engines import Gap, choice
from videre.engines.redis import RedisEngine
from videre.engines.redis.leases import BEATS
from videre.engines.redis.store import RedisStore
from videre.errors import EngineError
from videre.ids import RoomId
from videre.settings import JoinPolicy, Retention

#: How long a lease lasts on the nodes' clock, and a lost seat is kept, in seconds.
LEASE = 10.0
GRACE = 20.0

#: Steps of time in which what a test waits for must happen: more than ten leases.
STEPS = 50


class Node:
    """An engine, the events it hears, and shortcuts to use it. `all` are the nodes beside it."""

    def __init__(self, engine: RedisEngine, all: Sequence[Node] | None = None) -> None:
        self.engine = engine
        self.pause = engine._duties._timeout / BEATS  # between two beats, in seconds
        self.beats = 0  # completed or failed
        self._all = [self] if all is None else all
        self._is_beating = False
        self._beat = engine._duties.beat
        engine._duties.beat = self._count_beat  # type: ignore[method-assign]
        self.heard = Recorder()
        self.heard.hears_of_losses = True

    async def _count_beat(self) -> None:
        self._is_beating = True
        try:
            await self._beat()
        finally:
            self._is_beating = False
            self.beats += 1

    @property
    def beats_on(self) -> bool:
        """Whether it renews its lease."""
        return self.engine._beating is not None and not self.engine._beating.done()

    @property
    def is_busy(self) -> bool:
        """Whether it waits for the store."""
        return self._is_beating or self.engine._node._steps > 0

    async def join(
        self, user: str, *, room: str = "room", ticket: str | None = None, replace: bool = True
    ) -> str:
        """Seat a user; return its seat."""
        seat = uuid.uuid4().hex
        await self.engine.join(room, user, seat, HALVES, JoinPolicy(replace=replace), ticket)
        return seat

    async def resume(
        self, user: str, shown: str, received: int = 0
    ) -> tuple[str, list[tuple[str, ...]] | type[Gap] | None]:
        """Resume with a ticket, which is issued again; return the seat, and the missed events."""
        seat = uuid.uuid4().hex
        found = await self.engine.resume("room", user, seat, shown, shown, received)
        return seat, in_short(found)

    async def hears(self, *kinds: str, room: str = "room") -> list[tuple[str, ...]]:
        """Wait for exactly these kinds of events in a room; return them."""

        def events() -> list[tuple[str, ...]]:
            return [
                event for event in self.heard.events if event[1] == room and event[0] != "found"
            ]

        await eventually(lambda: len(events()) >= len(kinds))
        heard = events()
        assert [event[0] for event in heard] == list(kinds), heard
        self.heard.take()
        return heard

    async def sees(self, members: int) -> None:
        """Return when the room has this many members, as far as this node knows."""
        await eventually(
            lambda: len(self.engine._node.views[RoomId("room")].believed.members) == members
        )

    async def keep_publishing(self, seat: str, text: str) -> None:
        """Publish, repeatedly while it is refused, as time passes."""
        for _ in range(STEPS):
            with suppress(EngineError):
                return await self.engine.publish("room", seat, text)
            await step(self._all)
        raise AssertionError("It is always refused")

    async def is_ready(self) -> None:
        """Return when the store answers and messages arrive, as time passes."""
        node = self.engine._node
        await until(lambda: node.ready and not node.owed and not node.settling, self._all)

    async def freeze(self) -> None:
        """Stop renewing the lease; nothing else changes."""
        assert self.engine._beating is not None
        self.engine._beating.cancel()
        await asyncio.gather(self.engine._beating, return_exceptions=True)

    def thaw(self) -> None:
        """Renew the lease again."""
        self.engine._beating = asyncio.create_task(self.engine._duties.run())

    async def die(self) -> None:
        """Disappear silently, like a killed process."""
        await self.freeze()
        self.engine._seats.end()
        await self.engine._node.jobs.end()
        await self.engine._node.store.close()


class Nodes:
    """Creates nodes that share a namespace on one store."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = uuid.uuid4().hex
        self.all: list[Node] = []

    async def add(
        self, *, node_timeout: float = LEASE, grace: float = GRACE, namespace: str | None = None
    ) -> Node:
        """Start one more node."""
        engine = choice.make(
            self.url,
            namespace or self.namespace,
            Retention(grace=grace),
            node_timeout,
            FakeClock().later,
        )
        assert isinstance(engine, RedisEngine)
        node = Node(engine, self.all)
        self.all.append(node)
        await engine.start(node.heard)
        return node

    async def elapse(self, seconds: float) -> None:
        """Let time pass, while all living nodes beat as often as they do."""
        await elapse(seconds, self.all)

    async def until(self, met: Callable[[], bool]) -> None:
        """Let time pass until a condition is met."""
        await until(met, self.all)


@asynccontextmanager
async def nodes_on(url: str) -> AsyncIterator[Nodes]:
    """Give nodes, and close them at the end."""
    nodes = Nodes(url)
    try:
        yield nodes
    finally:
        for node in nodes.all:
            with suppress(EngineError):
                await node.engine.close()


@asynccontextmanager
async def simulated(
    *names: str, node_timeout: float = LEASE
) -> AsyncIterator[tuple[Cluster, list[Node]]]:
    """Give nodes with these names, on a simulated store, and close them at the end."""
    cluster = Cluster(Soon(), time.time, random.Random(0))
    nodes = [
        Node(
            RedisEngine(cast(RedisStore, cluster.store(name)), node_timeout=node_timeout, node=name)
        )
        for name in names
    ]
    for node in nodes:
        await node.engine.start(node.heard)
    try:
        yield cluster, nodes
    finally:
        for node in nodes:
            await node.engine.close()


async def step(nodes: Sequence[Node]) -> float:
    """Let time pass until the next beat of each living node; return the seconds."""
    living = [node for node in nodes if node.beats_on]
    await eventually(lambda: not any(node.is_busy for node in living))
    seconds = min(node.pause for node in living)
    before = {node: node.beats for node in living if node.pause == seconds}
    skip(seconds)
    await eventually(lambda: all(node.beats > beats for node, beats in before.items()))
    return seconds


async def elapse(seconds: float, nodes: Sequence[Node]) -> None:
    """Let time pass, while the living nodes beat as often as they do."""
    while seconds > 0:
        seconds -= await step(nodes)


async def until(met: Callable[[], bool], nodes: Sequence[Node]) -> None:
    """Let time pass until a condition is met."""
    for _ in range(STEPS):
        if met():
            return
        await step(nodes)
    raise AssertionError("It does not happen")
