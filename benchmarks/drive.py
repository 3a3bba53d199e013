"""The traffic patterns, run by a process of its own: `python -m benchmarks.drive`, a spec on stdin.

A pattern sets up its connections, warms the server up, measures one interval and returns figures:
`deliveries`, `latency` (name -> [p50, p99] in us), and what `Meter` saw.
"""

import json
import os
import random
import select
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from typing import Any

from benchmarks.load import (
    Conn,
    Dialer,
    LoadError,
    Meter,
    Target,
    clock,
    frames,
    kind,
    resident,
)
from benchmarks.packets import (
    CALL,
    CANDIDATE,
    SPEECH,
    Connect,
    broadcast,
    connect,
    sizes,
    text,
    wrap,
)

Spec = dict[str, Any]
Figures = dict[str, Any]

SALT = f"{os.getpid():07}"  # two runs against one server share no name
QUIET = 0.2  # s without a byte after which the traffic of the set-up is over


def percentiles(latencies: list[int]) -> list[float]:
    """Return [p50, p99] in us of latencies in ns."""
    if not latencies:
        return [0.0, 0.0]
    ordered = sorted(latencies)
    last = len(ordered) - 1
    return [round(ordered[round(last * share)] / 1000, 1) for share in (0.50, 0.99)]


def drain(conns: list[Conn], quiet: float = QUIET, limit: float = 60) -> int:
    """Read and drop what comes until nothing came for `quiet` s; return how many packets."""
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
    """Return a dialer; PeerServer knows no rooms, so there is nothing to join."""
    framing = spec["framing"]
    seats = join and framing != "peerjs"
    return Dialer(target, (lambda conn: connect(framing, conn)) if seats else None)


def target_of(spec: Spec) -> Target:
    """Return the server of a spec."""
    keys = ("host", "port", "framing", "tls", "deflate")
    return Target(**{key: spec[key] for key in keys if key in spec})


def couples(count: int, prefix: str = "") -> list[tuple[str, str]]:
    """Return the (user, room) of `count` rooms of two, names of one length."""
    pairs = ((f"{prefix}{SALT}-{i:05}", f"{SALT}-{i:05}") for i in range(count))
    return [(user + side, room) for user, room in pairs for side in "ab"]


def equal_parts(data: bytes, count: int) -> int:
    """Return the size of the `count` equal frames that `data` is made of, 0 if it is not."""
    size = len(data) // count
    return size if data == data[:size] * count and data[0] == 0x81 else 0


def relay(spec: Spec) -> Figures:
    """One speaker in each room of two keeps `window` packets of 200 B in flight."""
    window, framing = spec["window"], spec["framing"]
    target = target_of(spec)
    conns = dialer(spec, target).dial(couples(spec["rooms"]))
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
    meter = Meter(spec["pid"])
    latencies.clear()
    pump(spec["seconds"], again=True)
    figures: Figures = meter.stop()
    figures |= {"deliveries": len(latencies), "latency": {"all": percentiles(latencies)}}
    pump(10, again=False)
    if lost := sum(map(len, stamps.values())):
        raise LoadError(f"{lost} packets never arrived")
    return figures


def storm(spec: Spec) -> Figures:
    """One speaker in a room of `peers`: 300 B, the next packet when all have the last."""
    target = target_of(spec)
    names = [(f"{SALT}-{i:06}", "room-" + SALT) for i in range(spec["peers"])]
    seats = dialer(spec, target)
    conns: list[Conn] = []
    for start in range(0, len(names), 50):  # each join is told to all: read it
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
    meter = Meter(spec["pid"])
    latencies.clear()
    pump(spec["seconds"])
    figures: Figures = meter.stop()
    return figures | {"deliveries": len(latencies), "latency": {"all": percentiles(latencies)}}


class Mix:
    """The real client's traffic at a fixed rate: 89 % pings, 8 % broadcasts, 3 % connects.

    A connect moves a peer between its room and a lobby of its own. A latency runs from the moment
    of sending; the rate does not wait for the answers.
    """

    def __init__(self, spec: Spec, conns: list[Conn]) -> None:
        self.framing, self.rate, self.conns = spec["framing"], spec["rate"], conns
        self.random = random.Random(4)
        self.poll = select.epoll()
        self.by_fd = {conn.fd: conn for conn in conns}
        for fd in self.by_fd:
            self.poll.register(fd, select.EPOLLIN)
        self.partner = {}
        for a, b in zip(conns[::2], conns[1::2], strict=True):
            self.partner[a.fd], self.partner[b.fd] = b, a
        self.away: set[int] = set()
        self.pings = {
            conn.fd: wrap(self.framing, text("ping", conn.name, conn.room)) for conn in conns
        }
        self.calls = {size: self._speech(size) for size in set(CALL)}
        self.waiting: dict[tuple[int, str], deque[int]] = {}
        self.reset()

    def _speech(self, size: int) -> list[bytes]:
        return [broadcast(self.framing, conn, self.partner[conn.fd], size) for conn in self.conns]

    def reset(self) -> None:
        """Forget the latencies and deliveries so far, not what is under way."""
        self.latencies: dict[str, list[int]] = {"p": [], "b": [], "c": []}
        self.extra = 0

    def pump(self, seconds: float) -> None:
        """Send on schedule and read, for `seconds`; a late generator catches up."""
        step = int(1e9 / self.rate)
        now = clock()
        end, due = now + int(seconds * 1e9), now
        while now < end:
            while due <= now:
                self.speak()
                due += step
            self.listen(max(0.0, (due - now) / 1e9))
            now = clock()

    def finish(self, seconds: float = 10) -> int:
        """Read until all is answered; return how many never were."""
        end = clock() + int(seconds * 1e9)
        while any(self.waiting.values()) and clock() < end:
            self.listen(0.05)
        return sum(map(len, self.waiting.values()))

    def expect(self, conn: Conn, letter: str) -> None:
        """Stamp an answer that is to come."""
        self.waiting.setdefault((conn.fd, letter), deque()).append(clock())

    def speak(self) -> None:
        """Send one packet."""
        dice = self.random.random()
        index = self.random.randrange(len(self.conns))
        if dice < 0.03:
            conn = self.conns[self.next_pair(index, both_home=False)]
            self.move(conn, self.partner[conn.fd])
        elif dice < 0.11:
            index = self.next_pair(index, both_home=True)
            conn = self.conns[index]
            self.expect(self.partner[conn.fd], "b")
            conn.send(self.calls[next(sizes)][index])
        else:
            conn = self.conns[index]
            self.expect(conn, "p")
            conn.send(self.pings[conn.fd])

    def next_pair(self, index: int, both_home: bool) -> int:
        """Return the next peer from `index` on in whose pair no connect is under way."""
        for offset in range(len(self.conns)):
            at = (index + offset) % len(self.conns)
            fd = self.conns[at].fd
            pair = (fd, self.partner[fd].fd)
            away = both_home and (pair[0] in self.away or pair[1] in self.away)
            if not away and not any(self.waiting.get((each, "c")) for each in pair):
                return at
        raise LoadError("no pair is at rest: the server is far behind")

    def move(self, conn: Conn, partner: Conn) -> None:
        """Send a peer to its lobby, or home, where its partner hears of it if it is there."""
        room = conn.room
        if conn.fd in self.away:
            self.away.discard(conn.fd)
            if partner.fd not in self.away:
                self.expect(partner, "c")
        else:
            self.away.add(conn.fd)
            room = "lobby-" + conn.name
        self.expect(conn, "c")
        conn.send(wrap(self.framing, text("connect", conn.name, room)))

    def listen(self, timeout: float) -> None:
        """Read what has come, or wait for it."""
        for fd, _ in self.poll.poll(timeout):
            conn = self.by_fd[fd]
            data = conn.receive()
            now = clock()
            for payload in frames(conn, data):
                letter = kind(payload)
                stamps = self.waiting.get((fd, letter))
                if stamps:
                    self.latencies[letter].append(now - stamps.popleft())
                else:
                    self.extra += 1


def mix(spec: Spec) -> Figures:
    """Run the real client's mix for `peers` peers at `rate` packets per s in all."""
    target = target_of(spec)
    conns = dialer(spec, target).dial(couples(spec["peers"] // 2))
    drain(conns)
    traffic = Mix(spec, conns)
    traffic.pump(spec["warmup"])
    meter = Meter(spec["pid"])
    traffic.reset()
    traffic.pump(spec["seconds"])
    figures: Figures = meter.stop()
    names = {"p": "ping", "b": "broadcast", "c": "connect"}
    all_kinds = [value for values in traffic.latencies.values() for value in values]
    latency = {names[letter]: percentiles(got) for letter, got in traffic.latencies.items()}
    figures |= {"deliveries": len(all_kinds), "extra": traffic.extra}
    figures["latency"] = {"all": percentiles(all_kinds), **latency}
    if lost := traffic.finish():
        raise LoadError(f"{lost} packets of the mix were never answered")
    return figures


def reconnect(spec: Spec) -> Figures:
    """Cut all connections of `peers` peers at once, and let all come back and join."""
    target = target_of(spec)
    names = couples(spec["peers"] // 2)
    conns = dialer(spec, target).dial(names)
    drain(conns)
    target.generation = 1
    if spec["framing"] == "peerjs":
        names = couples(spec["peers"] // 2, "again-")
    again = dialer(spec, target)
    meter = Meter(spec["pid"])
    for conn in conns:
        conn.abort()
    again.dial(names)
    figures: Figures = meter.stop()
    latency = {"all": percentiles(again.latencies)}
    return figures | {"deliveries": len(again.latencies), "latency": latency}


def hops(spec: Spec) -> Figures:
    """`peers` connections go from one fresh room to the next, each as soon as it is in."""
    framing = spec["framing"]
    target = target_of(spec)
    names = [(f"{SALT}-{i:05}", f"{SALT}-{i:05}") for i in range(spec["peers"])]
    conns = dialer(spec, target).dial(names)
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
    meter = Meter(spec["pid"])
    latencies.clear()
    pump(spec["seconds"])
    figures: Figures = meter.stop()
    if not latencies:
        raise LoadError("nobody got into a room")
    return figures | {"deliveries": len(latencies), "latency": {"all": percentiles(latencies)}}


def idle(spec: Spec) -> Figures:
    """Open `peers` connections and let them be: memory and tasks of each, before and after joining.

    The first hundred are opened and closed before, so that what a server loads once is not counted.
    """
    target, pid = target_of(spec), spec["pid"]
    for conn in dialer(spec, target).dial(couples(50, "warm-")):
        conn.abort()
    time.sleep(spec["settle"])
    memory, tasks = resident(pid), count_tasks(spec)
    meter = Meter(pid)
    names = couples(spec["peers"] // 2)
    entry = dialer(spec, target, join=False)
    conns = entry.dial(names)
    figures: Figures = meter.stop()
    drain(conns, spec["settle"])
    opened, n = resident(pid), len(conns)
    figures |= {"deliveries": n, "latency": {"all": percentiles(entry.latencies)}}
    figures["bytes"] = (opened - memory) / n
    if tasks is not None:
        figures["tasks"] = ((count_tasks(spec) or 0) - tasks) / n
    if spec["framing"] != "peerjs":
        for start in range(0, n, 500):
            for conn in conns[start : start + 500]:
                conn.send(connect(spec["framing"], conn))
            drain(conns[start : start + 500], 0.02)
        drain(conns, spec["settle"])
        figures["bytes_joined"] = (resident(pid) - memory) / n
    return figures


def count_tasks(spec: Spec) -> int | None:
    """Return how many asyncio tasks the server has, None if it does not tell."""
    if not spec.get("tasks"):
        return None
    with urllib.request.urlopen(f"http://{spec['host']}:{spec['port']}/_tasks", timeout=10) as got:
        return int(got.read())


PATTERNS: dict[str, Callable[[Spec], Figures]] = {
    "relay": relay,
    "storm": storm,
    "mix": mix,
    "reconnect": reconnect,
    "hops": hops,
    "idle": idle,
}


def main() -> None:
    """Run the spec on stdin; print the figures as JSON, or {"error": why}."""
    spec = json.load(sys.stdin)
    try:
        figures = PATTERNS[spec["pattern"]](spec)
    except LoadError as error:
        figures = {"error": str(error)}
    print(json.dumps(figures))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
