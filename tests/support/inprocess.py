"""A signaller in the test's own process, and clients on real sockets.

Every wait has a limit, WAIT_SECONDS. To show that a client receives nothing, `quiet` pings: the
answer must be the next packet.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import aiohttp
from aiohttp import WSMsgType, web
from fakes import Brief, brief, packet
from patience import WAIT_SECONDS

Framing = Literal["raw", "sockjs"]


class Client:
    """A WebSocket client; `say` and `text` handle the framing."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, framing: Framing) -> None:
        self.socket = socket
        self._sockjs = framing == "sockjs"
        self._texts: deque[str] = deque()
        self.goodbye: tuple[int, str] | None = None  # code and reason, once closed

    async def say(self, text: str) -> None:
        """Send one message."""
        await self.socket.send_str(json.dumps([text]) if self._sockjs else text)

    async def send(
        self, event: str, user: str, room: str, payload: Any = "{}", **head: Any
    ) -> None:
        """Send a packet."""
        await self.say(packet(event, user, room, payload, **head))

    async def text(self) -> str:
        """Return the next message."""
        while not self._texts:
            message = await self._frame()
            assert message.type is WSMsgType.TEXT, message
            self._unpack(message.data)
        return self._texts.popleft()

    async def heard(self) -> Brief:
        """Return the next packet, in short form."""
        return brief(await self.text())

    async def hears(self, *expected: Brief) -> None:
        """Check that these are the next packets."""
        for each in expected:
            assert await self.heard() == each

    async def join(self, user: str, room: str = "room") -> str:
        """Connect; return the role."""
        await self.send("connect", user, room)
        event, *who, role = await self.heard()
        assert (event, who) == ("connect", [user, room])
        return str(role)

    async def users(self, room: str = "room") -> list[str]:
        """Return a room's members; fail if a packet precedes the answer."""
        await self.send("ping", "asker", room)
        event, *who, users = await self.heard()
        assert (event, who) == ("ping", ["asker", room])
        return list(json.loads(users))

    async def quiet(self) -> None:
        """Check that nothing has arrived, and that the connection is alive."""
        await self.users("nowhere")

    async def closed(self) -> int | None:
        """Return the code of the close that must come next; None if the connection just ends."""
        assert not self._texts
        while True:
            message = await self._frame()
            if message.type is WSMsgType.TEXT:
                self._unpack(message.data)
                assert not self._texts, "a packet instead of a close"
                continue
            assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING), message
            if self._sockjs and self.goodbye is not None:
                return self.goodbye[0]
            if message.type is not WSMsgType.CLOSE:
                return None
            self.goodbye = message.data, message.extra or ""
            return self.goodbye[0]

    async def close(self, code: int = 1000) -> None:
        """Close normally."""
        await self.socket.close(code=code)

    def reset(self) -> None:
        """Break the connection with an RST, without a WebSocket close."""
        tcp = self.socket.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection = self.socket._response.connection
        assert connection is not None and connection.transport is not None
        connection.transport.abort()

    async def _frame(self) -> aiohttp.WSMessage:
        return await self.socket.receive(timeout=WAIT_SECONDS)

    def _unpack(self, frame: str) -> None:
        if not self._sockjs:
            self._texts.append(frame)
        elif frame[0] == "a":
            self._texts.extend(json.loads(frame[1:]))
        elif frame[0] == "c":
            self.goodbye = tuple(json.loads(frame[1:]))
        else:
            assert frame in ("o", "h")


class Server:
    """An application that listens on its own port; `client()` connects to it."""

    def __init__(self, runner: web.AppRunner, session: aiohttp.ClientSession) -> None:
        self.runner = runner
        self.http = session
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        self._clients: list[Client] = []  # unreferenced clients would be closed

    async def client(self, framing: Framing = "raw", *, prefix: str = "/echo") -> Client:
        """Open a connection that sends nothing yet."""
        path = "/websocket"
        if framing == "sockjs":
            path = f"/000/{secrets.token_hex(8)}/websocket"
        socket = await self.http.ws_connect(self.url + prefix + path, max_msg_size=0)
        self._clients.append(Client(socket, framing))
        return self._clients[-1]

    async def members(self, *users: str, room: str = "room") -> list[Client]:
        """Return clients that joined a room in this order, after each has heard of the others."""
        clients: list[Client] = []
        for user in users:
            client = await self.client()
            await client.join(user, room)
            for each in clients:
                await each.heard()
            clients.append(client)
        return clients

    def close_sockets(self) -> None:
        """Close what the clients left open; a connection they reset still counts as open."""
        for client in self._clients:
            client.socket._response.close()


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[Server]:
    """Run an application on a free port."""
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        session = await stack.enter_async_context(aiohttp.ClientSession())
        server = Server(runner, session)
        stack.callback(server.close_sockets)
        async with asyncio.timeout(2 * WAIT_SECONDS):  # for a whole test, so that none hangs
            yield server
