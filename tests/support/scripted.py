"""A server that sends what a test says, and a proxy that cuts connections."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from aiohttp import WSMsgType, web
from patience import WAIT_SECONDS
from yarl import URL


class Link:
    """The server's end of one client's connection."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._socket = socket
        self._request = request
        self.done = asyncio.Event()

    async def heard(self) -> dict[str, Any]:
        """Return the client's next packet."""
        message = await self._socket.receive(timeout=WAIT_SECONDS)
        assert message.type is WSMsgType.TEXT, message
        packet: dict[str, Any] = json.loads(message.data)
        return packet

    async def hears(self, event: str) -> dict[str, Any]:
        """Return the client's next packet, which must be of this event."""
        packet = await self.heard()
        assert packet["Header"]["Event"] == event, packet
        return packet

    async def say(self, event: str, user: str, payload: Any = "", **header: Any) -> None:
        """Send a packet; a Payload that is not a string is sent as its JSON text."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        head = {"Event": event, "UserId": user, "RoomId": "room", **header}
        await self.write(json.dumps({"Header": head, "Payload": text}))

    async def write(self, text: str) -> None:
        """Send a text."""
        await self._socket.send_str(text)

    async def answer(self, packet: dict[str, Any], payload: Any) -> None:
        """Send a packet back with another Payload."""
        await self.write(json.dumps({**packet, "Payload": json.dumps(payload)}))

    async def refuse(
        self, packet: dict[str, Any], code: str, *, message: str = "No", retry: bool = False
    ) -> None:
        """Answer a packet with an error."""
        told = {"Code": code, "Message": message, "Retry": retry}
        header = packet["Header"]
        await self.say("error", header["UserId"], told, Id=header["Id"])

    async def seat(self, *users: str, secret: str | None = "s1", **more: Any) -> dict[str, Any]:
        """Seat the client as the last of these users; return its connect options."""
        asked = await self.hears("connect")
        await self.answer(asked, len(users) == 1)
        await self.welcome(*users, secret=secret, **more)
        payload: dict[str, Any] = asked["Payload"]
        return payload

    async def welcome(self, *users: str, secret: str | None, **more: Any) -> None:
        """Welcome the last of these users."""
        welcome: dict[str, Any] = {
            "Initiator": users[0],
            "Users": users,
            "Resume": secret,
            "Grace": 20,
        }
        welcome |= {"IceServers": [], "IceTtl": None, **more}
        await self.say("welcome", users[-1], welcome)

    async def ended(self) -> int | None:
        """Return the code of the client's close, which must come next."""
        message = await self._socket.receive(timeout=WAIT_SECONDS)
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED), message
        self.done.set()
        return self._socket.close_code

    async def close(self, code: int, reason: str = "") -> None:
        """Close it."""
        await self._socket.close(code=code, message=reason.encode())
        self.done.set()

    def cut(self) -> None:
        """Break it: the client sees a RST or the end, without a close."""
        if self._request.transport is not None:
            self._request.transport.abort()
        self.done.set()


class Scripted:
    """A server without rules: each connection is a Link for the test."""

    def __init__(self) -> None:
        self.url = ""
        self.refusal: int | None = None  # the status for all upgrades, if any
        self.refused = asyncio.Semaphore(0)  # counts them
        self._links: asyncio.Queue[Link] = asyncio.Queue()
        self._open: list[Link] = []

    async def link(self) -> Link:
        """Return the next connection."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await self._links.get()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Accept a WebSocket, and keep it until the test is done with it."""
        if self.refusal is not None:
            self.refused.release()
            return web.Response(status=self.refusal)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        link = Link(socket, request)
        self._open.append(link)
        self._links.put_nowait(link)
        await link.done.wait()
        return socket

    def end(self) -> None:
        """Break all connections."""
        for link in self._open:
            link.cut()


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    """Run such a server."""
    server = Scripted()
    app = web.Application()
    app.router.add_get("/echo/websocket", server.serve)
    async with listening(app) as url:
        server.url = url
        try:
            yield server
        finally:
            server.end()


@asynccontextmanager
async def listening(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """Run an application, and give its signalling URL; at the end break all connections."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield "ws://{}:{}/echo".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


class Proxy:
    """A TCP proxy before `target` that breaks connections, on demand or after some bytes.

    `budgets` has the number of bytes for each connection, in both directions together; once it is
    used up, no connection is broken any more.
    """

    def __init__(self, target: str, budgets: Iterator[int]) -> None:
        self._target = URL(target)
        self._budgets = budgets
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.url = ""
        self.connections = 0
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = str(self._target.with_port(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps)

    def retarget(self, target: str) -> None:
        """Connect to another server from now on."""
        self._target = URL(target)

    def cut(self) -> None:
        """Break all connections, at both ends, with a RST: data in flight is lost."""
        for pair in self._pairs:
            for writer in pair:
                if not writer.is_closing():
                    tcp = writer.get_extra_info("socket")
                    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        self._pairs.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        left = [next(self._budgets, -1)]
        host, port = self._target.host, self._target.port
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self._pairs.add(pair)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink, pair, left))
            self._pumps.add(pump)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        left: list[int],
    ) -> None:
        with suppress(OSError):
            while data := await source.read(1 << 16):
                if pair not in self._pairs:
                    return
                if 0 <= left[0] < len(data):  # or nothing would be missing
                    # Data before the cut may arrive.
                    sink.write(data[: left[0]])
                    left[0] = 0
                    self.cuts += 1
                    break
                if left[0] > 0:
                    left[0] -= len(data)
                sink.write(data)
                await sink.drain()
            else:
                sink.close()
                return
        self._pairs.discard(pair)
        for writer in pair:
            # One side gets the rest, the other a RST.
            if writer is sink:
                writer.close()
            else:
                writer.transport.abort()


def budgets(seed: int, count: int, least: int, most: int) -> Iterator[int]:
    """Return this many random numbers of bytes."""
    chance = random.Random(seed)
    return iter([chance.randint(least, most) for _ in range(count)])
