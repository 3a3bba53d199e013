"""Closed loops, in which each answer triggers the next packet."""

import select
from collections import deque
from collections.abc import Callable

from benchmarks.load import SALT, Spec, couples, dial, dialer, drain, target_of
from benchmarks.packets import CANDIDATE, SPEECH, Connect, broadcast
from benchmarks.wire import Conn, LoadError, clock, frames, kind


def equal_parts(data: bytes, count: int) -> int:
    """Return the size of the `count` equal frames in `data`, or 0 if they are not equal."""
    size = len(data) // count
    return size if data == data[:size] * count and data[0] == 0x81 else 0


class Relay:
    """One speaker in each room of two keeps `window` packets of 200 B in flight."""

    def __init__(self, spec: Spec) -> None:
        self.window: int = spec["window"]
        self.latencies: list[int] = []
        self.conns = dial(spec, couples(spec["rooms"]))
        drain(self.conns)
        self.poll = select.epoll()
        self.listeners: dict[int, Conn] = {}
        self.receive: dict[int, Callable[[], bytes]] = {}
        self.send: dict[int, Callable[[bytes], None]] = {}
        self.batches: dict[int, list[bytes]] = {}
        self.sent: dict[int, deque[int]] = {}
        self.size = 0
        for speaker, listener in zip(self.conns[::2], self.conns[1::2], strict=True):
            fd = listener.fd
            one = broadcast(spec["framing"], speaker, listener, CANDIDATE)
            self.listeners[fd] = listener
            self.receive[fd] = listener.receive_all if spec["tls"] else listener.receive
            self.send[fd] = speaker.send
            self.batches[fd] = [one * k for k in range(self.window + 1)]
            self.sent[fd] = deque()
            self.poll.register(fd, select.EPOLLIN)

    def run(self, seconds: float) -> int:
        """Keep the packets in flight for `seconds`, then read the last; return how many arrived."""
        before = len(self.latencies)
        for fd, batch in self.batches.items():
            self.sent[fd].extend([clock()] * self.window)
            self.send[fd](batch[self.window])
        self._pump(seconds, again=True)
        self._pump(10, again=False)
        if lost := sum(map(len, self.sent.values())):
            raise LoadError(f"{lost} packets never arrived")
        return len(self.latencies) - before

    def _pump(self, seconds: float, again: bool) -> None:
        end = clock() + int(seconds * 1e9)
        while clock() < end and (again or any(self.sent.values())):
            for fd, _ in self.poll.poll(0.5):
                data = self.receive[fd]()
                now = clock()
                count, rest = divmod(len(data), self.size) if self.size else (0, 1)
                if rest or self.listeners[fd].buffer:
                    packets = list(frames(self.listeners[fd], data))
                    count = len(packets)
                    if count and not self.size:
                        self.size = equal_parts(data, count)
                waiting = self.sent[fd]
                self.latencies.extend([now - waiting.popleft() for _ in range(count)])
                if again and count:
                    self.send[fd](self.batches[fd][count])
                    waiting.extend([now] * count)


class Storm:
    """One speaker in a room of `peers`: 300 B; the next packet when all have the last."""

    def __init__(self, spec: Spec) -> None:
        names = [(f"{SALT}-{i:06}", "room-" + SALT) for i in range(spec["peers"])]
        seats = dialer(spec, target_of(spec))
        conns: list[Conn] = []
        for start in range(0, len(names), 50):  # read the joins, which everybody receives
            conns += seats.dial(names[start : start + 50])
            drain(conns, 0.05)
        drain(conns)
        self.latencies: list[int] = []
        self.speaker, *listeners = conns
        self.packet = broadcast(spec["framing"], self.speaker, listeners[0], SPEECH)
        self.poll = select.epoll()
        self.listeners = {conn.fd: conn for conn in listeners}
        for fd in self.listeners:
            self.poll.register(fd, select.EPOLLIN)
        self.size = 0

    def run(self, seconds: float) -> int:
        """Speak for `seconds`; return how many packets arrived."""
        before = len(self.latencies)
        end = clock() + int(seconds * 1e9)
        while (sent := clock()) < end:
            self.speaker.send(self.packet)
            missing = len(self.listeners)
            while missing:
                for fd, _ in self.poll.poll(1):
                    if self._arrived(fd):
                        missing -= 1
                        self.latencies.append(clock() - sent)
                if clock() > end + 10**10:
                    raise LoadError(f"{missing} of {len(self.listeners)} never heard the speaker")
        return len(self.latencies) - before

    def _arrived(self, fd: int) -> bool:
        conn = self.listeners[fd]
        data = conn.receive()
        if len(data) == self.size and not conn.buffer:
            return True
        count = sum(1 for _ in frames(conn, data))
        self.size = self.size or (len(data) if count == 1 else 0)
        return bool(count)


class Hops:
    """`peers` connections move from one fresh room to the next, as soon as they have joined."""

    def __init__(self, spec: Spec) -> None:
        names = [(f"{SALT}-{i:05}", f"{SALT}-{i:05}") for i in range(spec["peers"])]
        conns = dial(spec, names)
        drain(conns)
        self.latencies: list[int] = []
        self.fresh = {conn.fd: Connect(spec["framing"], conn.name) for conn in conns}
        self.poll = select.epoll()
        self.conns = {conn.fd: conn for conn in conns}
        for fd in self.conns:
            self.poll.register(fd, select.EPOLLIN)
        self.sent: dict[int, int] = {}
        self.rooms = 0

    def run(self, seconds: float) -> int:
        """Move for `seconds`, then wait for the last to join; return how many joins it were."""
        before = len(self.latencies)
        end = clock() + int(seconds * 1e9)
        for conn in self.conns.values():
            self._hop(conn)
        while self.sent:
            for fd, _ in self.poll.poll(1):
                for payload in frames(self.conns[fd], self.conns[fd].receive()):
                    if kind(payload) == "c":
                        self.latencies.append(clock() - self.sent.pop(fd))
                        if clock() < end:
                            self._hop(self.conns[fd])
            if clock() > end + 10**10:
                raise LoadError(f"{len(self.sent)} of {len(self.conns)} never got into a room")
        return len(self.latencies) - before

    def _hop(self, conn: Conn) -> None:
        self.rooms += 1
        packet = self.fresh[conn.fd].to(b"%s-%08d" % (SALT.encode(), self.rooms))
        self.sent[conn.fd] = clock()
        conn.send(packet)
