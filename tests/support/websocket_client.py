"""A WebSocket client for the transport tests: it sends any frame, valid or not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import struct
from typing import Self

from patience import WAIT_SECONDS
from sockjs_client import Answer, Headers, Wire

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, MASKED = 0x80, 0x80
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
WEBSOCKET_KEY = base64.b64encode(b"sixteen bytes ok").decode()


def accept_key(key: str = WEBSOCKET_KEY) -> str:
    """Return the required answer to this Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode() + WEBSOCKET_GUID).digest()).decode()


def handshake(headers: Headers | None = None) -> dict[str, str]:
    """Return the headers of a WebSocket handshake, with these added or replaced."""
    return {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": WEBSOCKET_KEY,
        **(headers or {}),
    }


def encode(payload: bytes, opcode: int) -> bytes:
    """Return one masked frame."""
    mask = os.urandom(4)
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", FIN | opcode, MASKED | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", FIN | opcode, MASKED | 126, size)
    else:
        head = struct.pack("!BBQ", FIN | opcode, MASKED | 127, size)
    pad = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return head + mask + masked.to_bytes(size, "big")


def fragment(payload: bytes, opcode: int) -> bytes:
    """Return one masked frame that is not the last of its message."""
    frame = encode(payload, opcode)
    return bytes([frame[0] & ~FIN]) + frame[1:]


class Socket:
    """A WebSocket connection whose every frame the test chooses."""

    def __init__(self, wire: Wire, head: Answer) -> None:
        self.wire = wire
        self.head = head

    @classmethod
    async def open(
        cls,
        base: str,
        target: str,
        headers: Headers | None = None,
        *,
        source: str | None = None,
        receive_buffer: int = 0,
    ) -> Self:
        """Do the handshake; `head` is the answer, accepted or not."""
        wire = await Wire.open(base, source=source, receive_buffer=receive_buffer)
        wire.say("GET", target, headers=handshake(headers))
        return cls(wire, await wire.head())

    def send(self, payload: str | bytes, opcode: int = TEXT) -> None:
        """Write one whole frame."""
        data = payload.encode() if isinstance(payload, str) else payload
        self.wire.writer.write(encode(data, opcode))

    async def frame(self) -> tuple[int, bytes]:
        """Return the next frame's opcode and payload."""
        reader = self.wire.reader
        async with asyncio.timeout(WAIT_SECONDS):
            first, size = await reader.readexactly(2)
            assert not size & MASKED, "a server must not mask"
            assert not first & 0x70, "an extension which nobody agreed to"
            if size == 126:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await reader.readexactly(8))
            return first & 0x0F, await reader.readexactly(size)

    async def text(self) -> str:
        """Return the next message, answering pings on the way."""
        while True:
            opcode, payload = await self.frame()
            if opcode == PING:
                self.send(payload, PONG)
            elif opcode in (TEXT, BINARY):
                return payload.decode()
            else:
                raise AssertionError(f"opcode {opcode} instead of a message: {payload!r}")

    async def goodbye(self) -> tuple[int, str]:
        """Return the close frame's code and reason and answer it; (1006, "") if none comes."""
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    self.send(payload[:2], CLOSE)
                    code = int.from_bytes(payload[:2], "big") if payload else 1005
                    return code, payload[2:].decode()
        except (asyncio.IncompleteReadError, ConnectionError):
            return 1006, ""
