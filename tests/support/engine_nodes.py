"""Nodes of a cluster in one process: engines that share a store, and what each hears."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from engine_contract import HALVES, Recorder, in_short
from fakes import FakeClock
from patience import WAIT_SECONDS

from videre.engines import Gap, choice
from videre.engines.redis import RedisEngine
from videre.errors import EngineError
from videre.ids import RoomId
from videre.settings import JoinPolicy, Retention


class Node:
    """An engine, the events it hears, and shortcuts to use it."""

    def __init__(self, engine: RedisEngine) -> None:
        self.engine = engine
        self.heard = Recorder()
        self.heard.hears_of_losses = True

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
        """Publish, repeatedly while it is refused."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    return await self.engine.publish("room", seat, text)
                except EngineError:
                    await asyncio.sleep(0.02)

    async def is_ready(self) -> None:
        """Return when the store answers and messages arrive."""
        await eventually(lambda: self.engine._node.ready and not self.engine._node.owed)

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
        self, *, node_timeout: float = 10.0, grace: float = 20.0, namespace: str | None = None
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
        node = Node(engine)
        self.all.append(node)
        await engine.start(node.heard)
        return node


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


async def eventually(met: Callable[[], bool]) -> None:
    """Return when a condition is met."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not met():  # noqa: ASYNC110  # of what is looked at nobody tells
            await asyncio.sleep(0.005)
