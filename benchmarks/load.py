"""The load generator's machinery: many WebSockets in one thread, over epoll.

It must cost far less than the servers it measures, so it uses neither asyncio nor a WebSocket
library. Every function has a time limit.
"""

import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from benchmarks.packets import connect
from benchmarks.store import StoreMeter, cpu_ns
from benchmarks.wire import Conn, LoadError, Target, clock, frames, kind

Spec = dict[str, Any]
Figures = dict[str, Any]

IN_FLIGHT = 100  # handshakes at a time, below any listen backlog (aiohttp's is 128)
PORTS_PER_ADDRESS = 20_000  # connections from one loopback address, fewer than its ephemeral ports
IP_BIND_ADDRESS_NO_PORT = 24
SALT = f"{os.getpid():07}"  # keeps the names of two runs apart
QUIET = 0.2  # s without a byte that end the set-up's traffic


class Meter:
    """CPU time of the server, or of all nodes and their store, and of this process.

    The server's time is its process clock: all its threads, including ended ones, in nanoseconds.
    It includes system calls; on loopback, the sender's call delivers the packet. `wait` is how long
    a main thread was ready to run but had no core: noise from other processes.
    """

    def __init__(self, spec: Spec) -> None:
        self.pids = [pid for _, pid in spec["nodes"]] or [spec["pid"]]
        self.store = StoreMeter(*spec["store"]) if spec["nodes"] else None
        self.start()

    def start(self) -> None:
        """Begin the interval."""
        if self.store is not None:
            self.store.start()
        self.begun = self._read()

    def stop(self) -> Figures:
        """Return the interval's `seconds`, and both sides' CPU and waiting times in seconds."""
        names = ("load_cpu", "load_wait", "server_cpu", "server_wait", "seconds")
        passed = (now - then for now, then in zip(self._read(), self.begun, strict=True))
        figures: Figures = {name: value / 1e9 for name, value in zip(names, passed, strict=True)}
        if self.store is not None:
            figures["store"] = self.store.stop()
        return figures

    def _read(self) -> tuple[int, int, int, int, int]:
        server = sum(map(cpu_ns, self.pids))
        waits = self._wait("self"), sum(self._wait(str(pid)) for pid in self.pids)
        return time.process_time_ns(), waits[0], server, waits[1], clock()

    @staticmethod
    def _wait(pid: str) -> int:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])


class Traffic(Protocol):
    """Connections that carry a pattern's packets whenever they are asked to."""

    def run(self, seconds: float) -> int:
        """Carry packets for about `seconds`, until none is in flight; return how many arrived."""


class Closed(Traffic, Protocol):
    """Traffic in which each answer triggers the next packet."""

    latencies: list[int]  # ns, of all packets so far


def measured(spec: Spec, traffic: Closed) -> Figures:
    """Warm the server up, then measure one interval."""
    traffic.run(spec["warmup"])
    traffic.latencies.clear()
    meter = Meter(spec)
    count = traffic.run(spec["seconds"])
    figures = meter.stop()
    return figures | {"deliveries": count, "latency": {"all": percentiles(traffic.latencies)}}


def resident(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Dialer:
    """Opens many connections, `IN_FLIGHT` at a time, each up to its `goal`.

    goal "open": the handshake is done, and SockJS sent `o` or PeerServer `OPEN`. goal "joined": the
    `connect` packet was also sent, and its echo has arrived.
    """

    def __init__(self, target: Target, join: Callable[[Conn], bytes] | None) -> None:
        self.target = target
        self.join = join
        self.poll = select.epoll()
        self.waiting: dict[int, Conn] = {}
        self.latencies: list[int] = []  # ns from connect() to the goal
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
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
                conn.state = "joined"  # the rest of this read belongs to the caller

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


def percentiles(latencies: list[int]) -> list[float]:
    """Return [p50, p99] in us of latencies in ns."""
    if not latencies:
        return [0.0, 0.0]
    ordered = sorted(latencies)
    last = len(ordered) - 1
    return [round(ordered[round(last * share)] / 1000, 1) for share in (0.50, 0.99)]


def drain(conns: list[Conn], quiet: float = QUIET, limit: float = 60) -> int:
    """Read and drop packets until none came for `quiet` s; return how many came."""
    poll = select.epoll()
    by_fd = {conn.fd: conn for conn in conns}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    deadline, count = time.monotonic() + limit, 0
    while events := poll.poll(quiet):
        for fd, _ in events:
            count += sum(1 for _ in frames(by_fd[fd], by_fd[fd].receive_all()))
        if time.monotonic() > deadline:
            raise LoadError("the server does not come to rest")
    poll.close()
    return count


def dialer(spec: Spec, target: Target, join: bool = True) -> Dialer:
    """Return a dialer; PeerServer has no rooms, so there is nothing to join."""
    framing = spec["framing"]
    seats = join and framing != "peerjs"
    return Dialer(target, (lambda conn: connect(framing, conn)) if seats else None)


def dial(spec: Spec, names: list[tuple[str, str]]) -> list[Conn]:
    """Open a connection for each (name, room), and join; the nodes of a cluster take turns.

    If there are several nodes, the two members of a room are on different ones.
    """
    target = target_of(spec)
    ports = [port for port, _ in spec["nodes"]] or [target.port]
    conns: list[Any] = [None] * len(names)
    for at, port in enumerate(ports):
        part = names[at :: len(ports)]
        conns[at :: len(ports)] = dialer(spec, replace(target, port=port)).dial(part)
    return conns


def target_of(spec: Spec) -> Target:
    """Return the server in a spec."""
    keys = ("host", "port", "framing", "tls", "deflate")
    return Target(**{key: spec[key] for key in keys if key in spec})


def couples(count: int, prefix: str = "") -> list[tuple[str, str]]:
    """Return (user, room) for `count` rooms of two, with names of equal length."""
    pairs = ((f"{prefix}{SALT}-{i:05}", f"{SALT}-{i:05}") for i in range(count))
    return [(user + side, room) for user, room in pairs for side in "ab"]
