"""WebSockets for a load generator: one connection over a bare socket, and its frames.

Frames are built and masked before a run if possible; of received frames, only what the measurement
needs is read.
"""

import re
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

clock = time.perf_counter_ns

MASK = b"\x12\x34\x56\x78"  # not zero: the npm `ws` server skips unmasking for a zero mask
CHUNK = 1 << 18

EVENT = re.compile(rb'(?:Event|type)\\?": ?\\?"([a-zA-Z])')


class LoadError(Exception):
    """The run is invalid; the message says what the server did."""


@dataclass(slots=True)
class Target:
    """The server under test: where it listens, and its dialect."""

    host: str
    port: int
    framing: str  # "raw", "sockjs" or "peerjs"
    tls: bool = False
    deflate: bool = False  # offer permessage-deflate, as every browser does
    generation: int = 0  # keeps ids apart: PeerServer remembers them for a while

    def request(self, name: str) -> bytes:
        """Return the upgrade request of the connection called `name`."""
        path = {
            "raw": "/echo/websocket",
            "sockjs": f"/echo/000/{name}{self.generation}/websocket",
            "peerjs": f"/peerjs?key=peerjs&id={name}&token=t{self.generation}",
        }[self.framing]
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dmlkZXJlLXNlcnZlciE9PQ==",
        ]
        if self.deflate:
            offer = "permessage-deflate; client_max_window_bits"
            lines.append(f"Sec-WebSocket-Extensions: {offer}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


@dataclass(slots=True, eq=False)
class Conn:
    """One of the generator's WebSockets."""

    name: str
    room: str
    sock: Any
    fd: int
    state: str = "connecting"
    started: int = 0
    buffer: bytearray = field(default_factory=bytearray)

    def receive(self) -> bytes:
        """Return the bytes available, b"" if none; raise `LoadError` at the end of the stream."""
        try:
            data: bytes = self.sock.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        except OSError as error:
            raise LoadError(f"{self.name}: the server broke the connection: {error}") from None
        if not data:
            raise LoadError(f"{self.name}: the server closed the connection")
        return data

    def receive_all(self) -> bytes:
        """Return all bytes available from a TLS socket, whose buffer epoll does not see."""
        chunks = []
        while data := self.receive():
            chunks.append(data)
        return b"".join(chunks)

    def send(self, data: bytes) -> None:
        """Send all of `data`; raise `LoadError` if the server does not accept it."""
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError as error:
            raise LoadError(f"{self.name}: the server broke the connection: {error}") from None
        if sent != len(data):
            raise LoadError(f"{self.name}: the server does not read: {sent} of {len(data)} bytes")

    def abort(self) -> None:
        """Close with a reset, so that no port stays in TIME_WAIT."""
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()


def mask(payload: bytes) -> bytes:
    """Return `payload` masked with `MASK`."""
    size = len(payload)
    key = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return a client's frame of `payload`."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    else:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    return head + MASK + mask(payload)


def frames(conn: Conn, data: bytes) -> Iterator[bytes]:
    """Yield the packets in `data`; answer pings, and keep an incomplete frame for later.

    Skips SockJS's `o` and `h`. Compressed packets are yielded as they are, unreadable.
    """
    buffer = conn.buffer
    buffer += data
    position = 0
    while len(buffer) - position >= 2:
        opcode, size = buffer[position] & 0x0F, buffer[position + 1] & 0x7F
        start = position + 2
        if size == 126:
            size = int.from_bytes(buffer[start : start + 2], "big")
            start += 2
        elif size == 127:
            size = int.from_bytes(buffer[start : start + 8], "big")
            start += 8
        if len(buffer) < start + size:
            break
        payload = bytes(buffer[start : start + size])
        position = start + size
        if opcode == 8:
            raise LoadError(f"{conn.name}: closed by the server: {payload!r}")
        if opcode == 9:
            conn.send(frame(payload, 10))
        elif opcode < 3 and payload not in (b"h", b"o"):
            yield from payload.split(b'","{')  # one SockJS array may hold several packets
    del buffer[:position]


def kind(payload: bytes) -> str:
    """Return the first letter of a packet's event: b, c, d, p or e; raise for an error packet."""
    found = EVENT.search(payload)
    letter = found.group(1).decode() if found else "?"
    if letter in "eE":
        raise LoadError(f"the server answered with an error: {payload[:300]!r}")
    return letter
