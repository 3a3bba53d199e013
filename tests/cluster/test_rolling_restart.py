"""A rolling restart of a loaded cluster: no packet is lost or doubled, and no seat is lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cluster import Cluster, cluster
from patience import patient
from process import Signaller
from valkey_server import valkey

from videre.client import Backoff, Client, Event, Joined, Lost, Message, Resumed

pytestmark = pytest.mark.process

ROOMS = 4
PAUSE = 0.02  # seconds between two packets of a client
DRAIN_SECONDS = 1
PATIENCE = patient(180)  # seconds; a safety net

CONFIG: dict[str, Any] = {
    "DrainSeconds": DRAIN_SECONDS,
    "Grace": 30,
    "NodeTimeout": 10,
    "PacketsPerSecond": None,
}


class Balancer:
    """Sends each new connection to the next ready node, like a load balancer."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.nodes: list[Signaller] = []
        self.port = 0
        self._http = http
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either end closes it."""
        node = await self._ready()
        away, back = await asyncio.open_connection("127.0.0.1", node.port)
        pumps = [asyncio.create_task(pump(*ends)) for ends in ((reader, back), (away, writer))]
        self._tasks.update(pumps)
        await asyncio.wait(pumps)
        self._tasks.difference_update(pumps)

    async def _ready(self) -> Signaller:
        while True:
            self._turn += 1
            node = self.nodes[self._turn % len(self.nodes)]
            try:
                async with self._http.get(f"http://127.0.0.1:{node.port}/ready") as answer:
                    if answer.status == 200:
                        return node
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(PAUSE)  # it is being restarted


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward the data, and the end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        writer.transport.abort()
    else:
        writer.close()


@asynccontextmanager
async def balancer() -> AsyncIterator[Balancer]:
    """Run a load balancer."""
    async with aiohttp.ClientSession() as http:
        running = Balancer(http)
        async with await asyncio.start_server(running.accept, "127.0.0.1", 0) as server:
            running.port = server.sockets[0].getsockname()[1]
            yield running


class Talker:
    """One of two members: it broadcasts numbers, and records what it hears."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.said = 0
        self.heard: list[int] = []
        self.events: list[Event] = []
        self._news = asyncio.Event()

    async def talk(self, enough: asyncio.Event) -> None:
        """Broadcast numbers until there are enough."""
        while not enough.is_set():
            await self.client.broadcast(self.said)
            self.said += 1
            await asyncio.sleep(PAUSE)

    async def listen(self) -> None:
        """Record what arrives."""
        async for event in self.client:
            if isinstance(event, Message):
                self.heard.append(event.payload)
            else:
                self.events.append(event)
            self._news.set()

    async def has_heard(self, count: int) -> None:
        """Return when this many numbers have arrived."""
        while len(self.heard) < count:
            self._news.clear()
            await self._news.wait()

    async def has_come_back(self) -> None:
        """Return when the client has lost a connection, and has resumed."""
        while Resumed() not in self.events:
            self._news.clear()
            await self._news.wait()


async def restart(nodes: Cluster, way: Balancer, index: int) -> None:
    """Stop a node as a service manager does, and start it again."""
    node = way.nodes[index]
    node.process.send_signal(signal.SIGTERM)
    assert await node.process.wait() == 0
    [way.nodes[index]] = await nodes.add(1, **CONFIG)


@pytest.mark.parametrize("count", [2, 1])
async def test_a_rolling_restart(count: int, tmp_path: Path) -> None:
    """Each node is drained, stopped and started while all members of all rooms talk.

    A cluster of one is away for a while: its members wait, and lose nothing either.
    """
    (tmp_path / "valkey").mkdir()
    async with (
        asyncio.timeout(PATIENCE),
        valkey(tmp_path / "valkey") as store,
        cluster(tmp_path, store.url) as nodes,
        balancer() as way,
        AsyncExitStack() as stack,
    ):
        way.nodes = await nodes.add(count, **CONFIG)
        url = f"ws://127.0.0.1:{way.port}/echo"
        talkers = []
        for number in range(2 * ROOMS):
            client = Client(
                url,
                user=f"user{number}",
                room=f"room{number // 2}",
                backoff=Backoff(first=0.1, most=0.5),
            )
            talkers.append(Talker(await stack.enter_async_context(client)))
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            listening = [group.create_task(each.listen()) for each in talkers]
            talking = [group.create_task(each.talk(enough)) for each in talkers]
            for index in range(count):
                await restart(nodes, way, index)
            for each in talkers:  # the last ones may still be reconnecting
                await each.has_come_back()
            enough.set()
            await asyncio.wait(talking)
            for one, other in zip(talkers[::2], talkers[1::2], strict=True):
                await one.has_heard(other.said)
                await other.has_heard(one.said)
            for task in listening:
                task.cancel()
    for one, other in zip(talkers[::2], talkers[1::2], strict=True):
        assert one.heard == list(range(other.said)) and other.said > 0
        assert other.heard == list(range(one.said)) and one.said > 0
    for each in talkers:  # nobody left, joined afresh, or was promoted
        assert {type(event) for event in each.events} <= {Joined, Lost, Resumed}
