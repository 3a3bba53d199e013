"""The load generator's machinery: many WebSockets in one thread, over bare sockets and epoll.

It must cost far less than the servers it measures, so it does without asyncio and without a
WebSocket library: frames are built and masked before the run, and of a received frame only what
the measurement needs is read. Every function here is bounded in time.
"""

import os
import re
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

clock = time.perf_counter_ns

MASK = b"\x12\x34\x56\x78"  # not zeros: the npm `ws` server skips the unmasking of a zero mask
IN_FLIGHT = 100  # handshakes at a time, below any listen backlog (aiohttp's is 128)
PORTS_PER_ADDRESS = 20_000  # connections from one loopback address, below the ephemeral range
IP_BIND_ADDRESS_NO_PORT = 24
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


class Meter:
    """CPU time of the server and of this process over an interval.

    The server's is its process clock: all its threads, the dead included, in nanoseconds. What the
    kernel does in a system call counts; loopback hands a packet over within the sender's call.
    `wait` is how long a main thread was ready to run and had no core: somebody else's noise.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.start()

    def start(self) -> None:
        """Begin the interval."""
        self.begun = self._read()

    def stop(self) -> dict[str, float]:
        """Return the interval's `seconds`, and the CPU and waiting seconds of both sides."""
        names = ("load_cpu", "load_wait", "server_cpu", "server_wait", "seconds")
        passed = (now - then for now, then in zip(self._read(), self.begun, strict=True))
        return {name: value / 1e9 for name, value in zip(names, passed, strict=True)}

    def _read(self) -> tuple[int, int, int, int, int]:
        server = time.clock_gettime_ns((~self.pid << 3) | 2)
        waits = self._wait("self"), self._wait(str(self.pid))
        return time.process_time_ns(), waits[0], server, waits[1], clock()

    @staticmethod
    def _wait(pid: str) -> int:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Dialer:
    """Opens many connections, `IN_FLIGHT` at a time, each up to its `goal`.

    goal "open": the handshake is done, and SockJS said `o` or PeerServer `OPEN`.
    goal "joined": the `connect` packet was sent too and its echo came.
    """

    def __init__(self, target: Target, join: Callable[[Conn], bytes] | None) -> None:
        self.target = target
        self.join = join
        self.poll = select.epoll()
        self.waiting: dict[int, Conn] = {}
        self.latencies: list[int] = []  # ns from connect() to the goal
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def dial(self, names: list[tuple[str, str]], timeout: float = 120) -> list[Conn]:
        """Open a connection for each (name, room), and return them in this order."""
        deadline = clock() + int(timeout * 1e9)
        conns: list[Conn] = []
        todo = iter(enumerate(names))
        more = True
        while more or self.waiting:
            while more and len(self.waiting) < IN_FLIGHT:
                entry = next(todo, None)
                if entry is None:
                    more = False
                    break
                conns.append(self._open(entry[0], *entry[1]))
            for fd, _ in self.poll.poll(1):
                self._advance(self.waiting[fd])
            if clock() > deadline:
                raise LoadError(f"{len(self.waiting)} of {len(conns)} handshakes hang")
        return conns

    def _open(self, index: int, name: str, room: str) -> Conn:
        sock = socket.socket()
        if len(self.latencies) + index >= PORTS_PER_ADDRESS:
            sock.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.1.{1 + index // PORTS_PER_ADDRESS}", 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        started = clock()
        address = (self.target.host, self.target.port)
        if self.target.tls:
            sock.settimeout(10)
            sock.connect(address)
            sock = self.context.wrap_socket(sock)
            sock.setblocking(False)
        else:
            sock.setblocking(False)
            sock.connect_ex(address)
        conn = Conn(name, room, sock, sock.fileno(), started=started)
        self.waiting[conn.fd] = conn
        self.poll.register(conn.fd, select.EPOLLOUT)
        return conn

    def _advance(self, conn: Conn) -> None:
        if conn.state == "connecting":
            conn.send(self.target.request(conn.name))
            self.poll.modify(conn.fd, select.EPOLLIN)
            conn.state = "upgrading"
            return
        data = conn.receive_all() if self.target.tls else conn.receive()
        if conn.state == "upgrading":
            data = self._upgraded(conn, data)
        if conn.state == "greeting" and self._greeted(conn, data):
            if self.join is None:
                self._done(conn)
            else:
                conn.send(self.join(conn))
                conn.state = "joining"
        elif conn.state == "joining":
            for payload in frames(conn, data):
                if payload[:1] in b"{a" and kind(payload) != "c":
                    continue
                self._done(conn)
                conn.state = "joined"  # what follows, in this read too, is for the others

    def _upgraded(self, conn: Conn, data: bytes) -> bytes:
        conn.buffer += data
        end = conn.buffer.find(b"\r\n\r\n")
        if end < 0:
            return b""
        if b" 101 " not in conn.buffer[:16]:
            raise LoadError(f"no upgrade: {bytes(conn.buffer[:200])!r}")
        rest = bytes(conn.buffer[end + 4 :])
        conn.buffer.clear()
        conn.state = "greeting"
        return rest

    def _greeted(self, conn: Conn, data: bytes) -> bool:
        if self.target.framing == "raw":
            return True
        conn.buffer += data
        if len(conn.buffer) < 3:
            return False
        if conn.buffer[0] & 0x0F == 8:
            raise LoadError(f"refused: {bytes(conn.buffer)!r}")
        conn.buffer.clear()
        return True

    def _done(self, conn: Conn) -> None:
        if self.waiting.pop(conn.fd, None) is not None:
            self.poll.unregister(conn.fd)
            self.latencies.append(clock() - conn.started)
