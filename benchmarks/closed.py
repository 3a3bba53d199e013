"""Closed loops, in which each answer triggers the next packet: relay, storm and hops."""

import select
from collections import deque
from collections.abc import Callable

from benchmarks.load import (
    SALT,
    Figures,
    Meter,
    Spec,
    couples,
    dial,
    dialer,
    drain,
    percentiles,
    target_of,
)
from benchmarks.packets import CANDIDATE, SPEECH, Connect, broadcast
from benchmarks.wire import Conn, LoadError, clock, frames, kind


def equal_parts(data: bytes, count: int) -> int:
    """Return the size of the `count` equal frames in `data`, or 0 if they are not equal."""
    size = len(data) // count
    return size if data == data[:size] * count and data[0] == 0x81 else 0


def relay(spec: Spec) -> Figures:
    """One speaker in each room of two keeps `window` packets of 200 B in flight."""
    window, framing = spec["window"], spec["framing"]
    conns = dial(spec, couples(spec["rooms"]))
    drain(conns)
    poll = select.epoll()
    receive: dict[int, Callable[[], bytes]] = {}
    send: dict[int, Callable[[bytes], None]] = {}
    batches: dict[int, list[bytes]] = {}
    stamps: dict[int, deque[int]] = {}
    by_fd: dict[int, Conn] = {}
    for speaker, listener in zip(conns[::2], conns[1::2], strict=True):
        fd = listener.fd
        one = broadcast(framing, speaker, listener, CANDIDATE)
        batches[fd] = [one * k for k in range(window + 1)]
        receive[fd] = listener.receive_all if spec["tls"] else listener.receive
        send[fd] = speaker.send
        stamps[fd] = deque()
        by_fd[fd] = listener
        poll.register(fd, select.EPOLLIN)
    latencies: list[int] = []
    size = 0

    def pump(seconds: float, again: bool) -> None:
        nonlocal size
        end = clock() + int(seconds * 1e9)
        while (now := clock()) < end:
            events = poll.poll(0.5 if again else 0.05)
            for fd, _ in events:
                data = receive[fd]()
                now = clock()
                count, rest = divmod(len(data), size) if size else (0, 1)
                if rest or by_fd[fd].buffer:
                    packets = list(frames(by_fd[fd], data))
                    count = len(packets)
                    if count and not size:
                        size = equal_parts(data, count)
                waiting = stamps[fd]
                latencies.extend([now - waiting.popleft() for _ in range(count)])
                if again and count:
                    send[fd](batches[fd][count])
                    waiting.extend([now] * count)
            if not again and not any(stamps.values()):
                return

    for fd, batch in batches.items():
        stamps[fd].extend([clock()] * window)
        send[fd](batch[window])
    pump(spec["warmup"], again=True)
    meter = Meter(spec)
    latencies.clear()
    pump(spec["seconds"], again=True)
    figures: Figures = meter.stop()
    figures |= {"deliveries": len(latencies), "latency": {"all": percentiles(latencies)}}
    pump(10, again=False)
    if lost := sum(map(len, stamps.values())):
        raise LoadError(f"{lost} packets never arrived")
    return figures


def storm(spec: Spec) -> Figures:
    """One speaker in a room of `peers`: 300 B; the next packet when all have the last."""
    target = target_of(spec)
    names = [(f"{SALT}-{i:06}", "room-" + SALT) for i in range(spec["peers"])]
    seats = dialer(spec, target)
    conns: list[Conn] = []
    for start in range(0, len(names), 50):  # read the joins, which everybody receives
        conns += seats.dial(names[start : start + 50])
        drain(conns, 0.05)
    drain(conns)
    speaker, listeners = conns[0], conns[1:]
    packet = broadcast(spec["framing"], speaker, listeners[0], SPEECH)
    poll = select.epoll()
    by_fd = {conn.fd: conn for conn in listeners}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    receive = {conn.fd: conn.receive for conn in listeners}
    latencies: list[int] = []
    size = 0

    def pump(seconds: float) -> None:
        nonlocal size
        end = clock() + int(seconds * 1e9)
        while (sent := clock()) < end:
            speaker.send(packet)
            missing = len(listeners)
            while missing:
                for fd, _ in poll.poll(1):
                    data = receive[fd]()
                    if len(data) != size or by_fd[fd].buffer:
                        count = sum(1 for _ in frames(by_fd[fd], data))
                        size = size or (len(data) if count == 1 else 0)
                        if not count:
                            continue
                    missing -= 1
                    latencies.append(clock() - sent)
                if clock() > end + 10**10:
                    raise LoadError(f"{missing} of {len(listeners)} never heard the speaker")

    pump(spec["warmup"])
    meter = Meter(spec)
    latencies.clear()
    pump(spec["seconds"])
    figures: Figures = meter.stop()
    return figures | {"deliveries": len(latencies), "latency": {"all": percentiles(latencies)}}


def hops(spec: Spec) -> Figures:
    """`peers` connections move from one fresh room to the next, as soon as they have joined."""
    framing = spec["framing"]
    names = [(f"{SALT}-{i:05}", f"{SALT}-{i:05}") for i in range(spec["peers"])]
    conns = dial(spec, names)
    drain(conns)
    fresh = {conn.fd: Connect(framing, conn.name) for conn in conns}
    poll = select.epoll()
    by_fd = {conn.fd: conn for conn in conns}
    stamps: dict[int, int] = {}
    latencies: list[int] = []
    rooms, salt = 0, SALT.encode()

    def hop(conn: Conn) -> None:
        nonlocal rooms
        rooms += 1
        packet = fresh[conn.fd].to(b"%s-%08d" % (salt, rooms))
        stamps[conn.fd] = clock()
        conn.send(packet)

    def pump(seconds: float) -> None:
        end = clock() + int(seconds * 1e9)
        while clock() < end:
            for fd, _ in poll.poll(1):
                for payload in frames(by_fd[fd], by_fd[fd].receive()):
                    if kind(payload) == "c":
                        latencies.append(clock() - stamps[fd])
                        hop(by_fd[fd])

    for conn in conns:
        poll.register(conn.fd, select.EPOLLIN)
        hop(conn)
    pump(spec["warmup"])
    meter = Meter(spec)
    latencies.clear()
    pump(spec["seconds"])
    figures: Figures = meter.stop()
    if not latencies:
        raise LoadError("nobody got into a room")
    return figures | {"deliveries": len(latencies), "latency": {"all": percentiles(latencies)}}
