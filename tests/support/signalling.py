"""A small signalling client for the tests, in either of the two WebSocket framings."""

from __future__ import annotations

import json
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any, Literal

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

Packet = dict[str, Any]
Framing = Literal["sockjs", "raw"]


class Closed(Exception):
    """The server closed the session, with `code` and `reason`."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Raw:
    """One packet is one WebSocket message."""

    path = "/websocket"

    def encode(self, text: str) -> str:
        return text

    def decode(self, frame: str) -> list[str]:
        return [frame]


class SockJS:
    """SockJS's frames: `o` opens, `h` is a heartbeat, `a[...]` brings messages, `c[...]` closes."""

    def __init__(self) -> None:
        self.path = f"/000/{secrets.token_hex(8)}/websocket"

    def encode(self, text: str) -> str:
        return json.dumps([text])

    def decode(self, frame: str) -> list[str]:
        kind, content = frame[:1], frame[1:]
        if kind == "a":
            return list(json.loads(content))
        if kind == "c":
            raise Closed(*json.loads(content))
        assert frame in ("o", "h"), frame
        return []


class Signalling:
    """One user's connection to a signaller; `connect()` opens it."""

    def __init__(
        self, socket: ClientWebSocketResponse, framing: Raw | SockJS, *, user: str, room: str
    ) -> None:
        self.user = user
        self.room = room
        self._socket = socket
        self._framing = framing
        self._texts: deque[str] = deque()

    def packet(self, event: str, payload: object = "{}") -> Packet:
        header = {"Event": event, "UserId": self.user, "RoomId": self.room}
        return {"Header": header, "Payload": payload}

    async def send(self, packet: Packet) -> None:
        await self._socket.send_str(self._framing.encode(json.dumps(packet)))

    async def receive(self) -> Packet:
        """Return the next packet; raise `Closed` if the server closes the session instead."""
        while not self._texts:
            message = await self._socket.receive()
            if message.type is not WSMsgType.TEXT:
                raise Closed(self._socket.close_code, str(message.extra or ""))
            self._texts.extend(self._framing.decode(message.data))
        packet: Packet = json.loads(self._texts.popleft())
        return packet

    async def ask(self, event: str, payload: object = "{}") -> Packet:
        """Send a packet and return the next one that comes."""
        await self.send(self.packet(event, payload))
        return await self.receive()

    async def close(self, code: int = 1000) -> None:
        await self._socket.close(code=code)


@asynccontextmanager
async def connect(
    url: str,
    framing: Framing,
    *,
    user: str,
    room: str,
    ssl: SSLContext | None = None,
) -> AsyncIterator[Signalling]:
    """Open a connection to the signaller at `url` (http or https), and close it at the end."""
    frames = SockJS() if framing == "sockjs" else Raw()
    address = f"ws{url.removeprefix('http')}{frames.path}"
    async with (
        ClientSession() as session,
        session.ws_connect(address, ssl=ssl or True, max_msg_size=0) as socket,
    ):
        yield Signalling(socket, frames, user=user, room=room)
