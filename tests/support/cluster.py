"""Servers that share a store, and their clients.

A server is a process of its own, or it runs in the test's: then its time passes as engine_nodes
says, and no test waits for a lease to end.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from engine_nodes import LEASE, Node, elapse, until
from network import Island
from patience import WAIT_SECONDS, patient
from process import SIGNALLER, Signaller, signaller
from signalling import Closed, Packet, Signalling, connect

from videre.app import NAMESPACES, create_app
from videre.config import load
from videre.engines.redis import RedisEngine

TOLD_SECONDS = LEASE + 2  # within which others hear that a node's members are gone
LOADED_SECONDS = patient(5)  # extra time for a machine that is busy with other tests

#: Event, user and Payload: the code of an error, the content of a welcome or of an odd packet.
Brief = tuple[str, str, Any]


class Client:
    """A client with a raw WebSocket, which returns packets in short form."""

    def __init__(self, signalling: Signalling) -> None:
        self.signalling = signalling
        self.user = signalling.user
        self._kept: deque[Brief] = deque()  # heard while waiting for other packets

    async def send(self, event: str, payload: object = "{}") -> None:
        await self.signalling.send(self.signalling.packet(event, payload))

    async def hear(self) -> Brief:
        """Return the next packet in short form; raise `Closed`."""
        return self._kept.popleft() if self._kept else await self._receive()

    async def _receive(self) -> Brief:
        async with asyncio.timeout(WAIT_SECONDS):
            return brief(await self.signalling.receive())

    async def hears(self, *expected: Brief) -> None:
        """Check that these packets come next, in this order."""
        heard = [await self.hear() for _ in expected]
        assert heard == list(expected), (self.user, heard, expected)

    async def hears_nothing(self) -> None:
        """Check that nothing arrives but the answer to a ping."""
        await self.send("ping")
        event, user, _ = await self.hear()
        assert (event, user) == ("ping", self.user), (self.user, event, user)

    async def keep_sending(self, event: str, payload: object = "{}") -> None:
        """Send a packet until it is not refused for lack of a store; keep the other packets."""
        refused = ("error", self.user, "unavailable")
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                await self.send(event, payload)
                await self.send("ping")
                again = False
                while (heard := await self._receive())[0] != "ping":
                    if heard == refused:
                        again = True
                    else:
                        self._kept.append(heard)
                if not again:
                    return
                await asyncio.sleep(0.05)

    async def says(self, text: str) -> None:
        """Broadcast, repeatedly if need be."""
        await self.keep_sending("broadcast", text)

    async def close_code(self) -> int | None:
        """Return the code of the session's close, skipping earlier packets."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                try:
                    await self.signalling.receive()
                except Closed as closed:
                    return closed.code


def brief(packet: Packet) -> Brief:
    """Return a packet in short form."""
    header, payload = packet["Header"], packet["Payload"]
    if header["Event"] == "error":
        error = json.loads(payload)
        assert error["Retry"] is (error["Code"] == "unavailable")
        payload = error["Code"]
    elif header["Event"] in ("welcome", "ping"):
        payload = json.loads(payload)
    return header["Event"], header["UserId"], payload


class Local:
    """A server in the test's own process, at `url`. `node` is its part in the cluster."""

    def __init__(self, port: int, node: Node) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/echo"
        self.node = node


class Cluster:
    """Servers on one store."""

    def __init__(self, tmp: Path, engine: str, stack: AsyncExitStack) -> None:
        self._tmp = tmp
        self._engine = engine
        self._stack = stack
        self._count = 0
        self._local: list[Node] = []

    async def local(self, count: int, *, engine: str = "", **config: object) -> list[Local]:
        """Start this many servers in the test's process."""
        return [
            await self._start({"Engine": engine or self._engine, **config}) for _ in range(count)
        ]

    async def _start(self, config: dict[str, object]) -> Local:
        settings = {"NodeTimeout": LEASE, "Grace": 10, "JoinTimeout": None, **config}
        app = create_app(load(options={key: (key, value) for key, value in settings.items()}))
        [namespace] = app[NAMESPACES]
        engine = namespace.rooms._engine
        assert isinstance(engine, RedisEngine)
        self._local.append(Node(engine, self._local))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return Local(runner.addresses[0][1], self._local[-1])

    async def elapse(self, seconds: float, *some: Local) -> None:
        """Let time pass in the test's process, while some servers there, or all, beat."""
        await elapse(seconds, [each.node for each in some] or self._local)

    async def until(self, met: Callable[[], bool]) -> None:
        """Let time pass in the test's process until a condition is met."""
        await until(met, self._local)

    async def ready(self) -> None:
        """Let time pass until all servers in the test's process can use the store again."""
        for node in self._local:
            await node.is_ready()

    async def add(
        self,
        count: int,
        *,
        engine: str = "",
        island: Island | None = None,
        code: str = SIGNALLER,
        **config: object,
    ) -> list[Signaller]:
        """Start this many servers at once."""
        return await asyncio.gather(
            *(self._add(engine or self._engine, island, code, config) for _ in range(count))
        )

    async def _add(
        self, engine: str, island: Island | None, code: str, config: dict[str, object]
    ) -> Signaller:
        self._count += 1
        (tmp := self._tmp / f"signaller{self._count}").mkdir()
        config = {
            "Engine": engine,
            "NodeTimeout": LEASE,
            "Grace": 10,
            "JoinTimeout": None,  # a refused client asks again
            **config,
        }
        where: dict[str, Any] = {"code": code}
        if island is not None:
            where |= {"host": island.node.there, "within": island.within}
        return await self._stack.enter_async_context(signaller(tmp=tmp, config=config, **where))

    async def client(
        self, node: Signaller | Local, user: str, payload: object = "{}", room: str = "room"
    ) -> Client:
        """Connect to a node, and ask for a seat."""
        client = Client(
            await self._stack.enter_async_context(connect(node.url, "raw", user=user, room=room))
        )
        await client.send("connect", payload)
        return client

    async def join_when_ready(
        self, node: Signaller | Local, user: str, payload: object = "{}", room: str = "room"
    ) -> Client:
        """Connect to a node, and ask for a seat until there is a store."""
        client = await self.client(node, user, payload, room)
        while (heard := await client._receive()) == ("error", user, "unavailable"):
            await asyncio.sleep(0.05)
            await client.send("connect", payload)
        client._kept.append(heard)
        return client

    async def seated(
        self, node: Signaller | Local, user: str, *others: Client, room: str = "room"
    ) -> Client:
        """Seat a user without a welcome; the others hear of it."""
        client = await self.join_when_ready(node, user, room=room)
        role = "false" if others else "true"
        for each in (client, *others):
            await each.hears(("connect", user, role))
        return client

    async def welcomed(
        self, node: Signaller | Local, user: str, *others: Client
    ) -> tuple[Client, str]:
        """Seat a user with a welcome; return its secret."""
        client = await self.join_when_ready(node, user, {"Welcome": True})
        role = "false" if others else "true"
        for each in (client, *others):
            await each.hears(("connect", user, role))
        event, _, welcome = await client.hear()
        assert event == "welcome"
        return client, welcome["Resume"]


@asynccontextmanager
async def cluster(tmp: Path, engine: str) -> AsyncIterator[Cluster]:
    """Give a cluster without servers; stop those added at the end."""
    async with AsyncExitStack() as stack:
        yield Cluster(tmp, engine, stack)


class Stopwatch:
    """Checks that something happens within a time from now, on the loop's clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()

    def within(self, seconds: float) -> None:
        """Fail if more than this many seconds have passed, with some extra for a busy machine."""
        assert self._loop.time() - self._start < seconds + LOADED_SECONDS


class Proxy:
    """A connection to a server that can be cut: then nothing gets through, silently."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """The server's apparent URL."""
        return f"redis://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Let nothing through."""
        self._open.clear()

    def mend(self) -> None:
        """Let everything through, including the data held back."""
        self._open.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._open.wait()
            there, away = await asyncio.open_connection("127.0.0.1", self._port)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass(reader, away))
                ways.create_task(self._pass(there, writer))
        except* OSError:
            pass
        finally:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while some := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(some)
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def proxy(port: int) -> AsyncIterator[Proxy]:
    """Run a proxy in front of a server on this machine."""
    way = Proxy(port)
    server = await asyncio.start_server(way._accept, "127.0.0.1", 0)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        for task in list(way._tasks):
            task.cancel()
        await asyncio.gather(*way._tasks, return_exceptions=True)
