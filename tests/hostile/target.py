"""The needs of an attack: a server, its own address, tokens, and a count of what was done."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from patience import patient
from sockjs_client import Wire
from websocket_client import Socket

from videre.auth import secret_key, sign

SECRET = "the hostile run's very own secret, 32 bytes or more"
KEY = secret_key(SECRET)
PREFIX = "/echo"
RAW = f"{PREFIX}/websocket"

#: Exceptions that a connection to a server under attack may raise, and attackers ignore.
REFUSALS = (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError)


def token(user: str, room: str, ttl: float = 3600.0) -> str:
    """Return a valid token."""
    return sign(KEY, user, room, now=time.time(), ttl=ttl)


def packet(event: str, user: str, room: str, payload: Any = "{}") -> str:
    """Return the text of a packet."""
    header = {"Event": event, "UserId": user, "RoomId": room}
    return json.dumps({"Header": header, "Payload": payload})


class Target:
    """The server, as an attacker sees it from `source`, its loopback address."""

    def __init__(self, base: str, source: str, tally: Counter[str]) -> None:
        self.base = base
        self.source = source
        self.tally = tally

    @asynccontextmanager
    async def wire(self, *, receive_buffer: int = 0, rude: bool = False) -> AsyncIterator[Wire]:
        """Open a TCP connection, and end it (`rude`: by a RST)."""
        wire = await Wire.open(self.base, source=self.source, receive_buffer=receive_buffer)
        Wire.opened.clear()
        try:
            yield wire
        finally:
            if rude:
                wire.reset()
            else:
                wire.writer.transport.abort()

    @asynccontextmanager
    async def socket(
        self,
        *,
        path: str = RAW,
        headers: dict[str, str] | None = None,
        receive_buffer: int = 0,
        rude: bool = False,
    ) -> AsyncIterator[Socket]:
        """Open a WebSocket; raise ConnectionRefusedError if the server refuses."""
        socket = await Socket.open(
            self.base, path, headers, source=self.source, receive_buffer=receive_buffer
        )
        Wire.opened.clear()
        try:
            if socket.head.status != 101:
                self.tally[f"answer {socket.head.status}"] += 1
                raise ConnectionRefusedError(socket.head.status)
            yield socket
        finally:
            if rude:
                socket.wire.reset()
            else:
                socket.wire.writer.transport.abort()

    @asynccontextmanager
    async def member(self, room: str, **options: Any) -> AsyncIterator[tuple[Socket, str]]:
        """Open a WebSocket and join a room with a valid token; give it and the user's name."""
        user = secrets.token_hex(4)
        async with self.socket(**options) as socket:
            socket.send(packet("connect", user, room, {"Token": token(user, "attack-*")}))
            yield socket, user


async def drained(socket: Socket) -> int | None:
    """Read and discard everything; return the close code, None for an end without one."""
    reader = socket.wire.reader
    while True:
        try:
            first, size = await reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await reader.readexactly(8))
            payload = await reader.readexactly(size)
        except (EOFError, OSError):
            return None
        if first & 0x0F == 8:
            return int.from_bytes(payload[:2], "big")


async def closed(socket: Socket, within: float = patient(10)) -> int | None:
    """Return the server's close code; -1 if it does not close `within` this many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            return await drained(socket)
    return -1
