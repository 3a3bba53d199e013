"""WebSockets for a load generator: one connection each over a bare socket, and its frames.

Frames are built and masked before a run where that is possible, and of a received frame only what
the measurement needs is read.
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

MASK = b"\x12\x34\x56\x78"  # not zeros: the npm `ws` server skips the unmasking of a zero mask
CHUNK = 1 << 18

EVENT = re.compile(rb'(?:Event|type)\\?": ?\\?"([a-zA-Z])')


class LoadError(Exception):
    """The run is worth nothing: what the server did is in the message."""


@dataclass(slots=True)
class Target:
    """Where the server under test listens, and which dialect to speak to it."""

    host: str
    port: int
    framing: str  # "raw", "sockjs" or "peerjs"
    tls: bool = False
    deflate: bool = False  # offer permessage-deflate, as every browser does
    generation: int = 0  # told apart in PeerServer's ids, which it keeps for a while

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
    """One WebSocket of the generator's."""

    name: str
    room: str
    sock: Any
    fd: int
    state: str = "connecting"
    started: int = 0
    buffer: bytearray = field(default_factory=bytearray)

    def receive(self) -> bytes:
        """Return what there is to read, b"" if nothing; raise `LoadError` at the end."""
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
        """Return all there is to read from a TLS socket, which epoll cannot see into."""
        chunks = []
        while data := self.receive():
            chunks.append(data)
        return b"".join(chunks)

    def send(self, data: bytes) -> None:
        """Send `data` whole; raise `LoadError` if the server does not take it."""
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError as error:
            raise LoadError(f"{self.name}: the server broke the connection: {error}") from None
        if sent != len(data):
            raise LoadError(f"{self.name}: the server does not read: {sent} of {len(data)} bytes")

    def abort(self) -> None:
        """Close with a reset, so that no port is left in TIME_WAIT."""
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()


def mask(payload: bytes) -> bytes:
    """Return `payload` masked with `MASK`."""
    size = len(payload)
    key = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return the client's frame of `payload`."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    else:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    return head + MASK + mask(payload)


def frames(conn: Conn, data: bytes) -> Iterator[bytes]:
    """Yield the packets in `data`, as they came; answer pings, keep an unfinished frame.

    SockJS's `o` and `h` are no packets. A compressed packet comes as it is, unreadable.
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
            yield from payload.split(b'","{')  # SockJS may put several packets into one array
    del buffer[:position]


def kind(payload: bytes) -> str:
    """Return the first letter of a packet's event: b, c, d, p or e; raise for an error packet."""
    found = EVENT.search(payload)
    letter = found.group(1).decode() if found else "?"
    if letter in "eE":
        raise LoadError(f"the server answered with an error: {payload[:300]!r}")
    return letter
