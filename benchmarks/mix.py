"""The real client's traffic, at a rate that does not depend on the answers."""

import random
import select
from collections import deque

from benchmarks.load import Figures, Meter, Spec, couples, dial, drain, percentiles
from benchmarks.packets import CALL, broadcast, sizes, text, wrap
from benchmarks.wire import Conn, LoadError, clock, frames, kind


class Mix:
    """The real client's traffic at a fixed rate: 89 % pings, 8 % broadcasts, 3 % connects.

    A connect moves a peer between its room and a lobby of its own. Latencies count from sending;
    the rate does not wait for the answers.
    """

    def __init__(self, spec: Spec) -> None:
        self.framing, self.rate = spec["framing"], spec["rate"]
        self.conns = conns = dial(spec, couples(spec["peers"] // 2))
        drain(conns)
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
        """Forget the latencies and deliveries so far, but not the packets in flight."""
        self.latencies: dict[str, list[int]] = {"p": [], "b": [], "c": []}
        self.extra = self.sent = 0

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
        """Read until every packet is answered; return how many were not."""
        end = clock() + int(seconds * 1e9)
        while any(self.waiting.values()) and clock() < end:
            self.listen(0.05)
        return sum(map(len, self.waiting.values()))

    def run(self, seconds: float) -> int:
        """Send for `seconds` and read every answer; return how many packets were sent."""
        before = self.sent
        self.pump(seconds)
        if lost := self.finish():
            raise LoadError(f"{lost} packets of the mix were never answered")
        return self.sent - before

    def expect(self, conn: Conn, letter: str) -> None:
        """Record the time for an expected answer."""
        self.waiting.setdefault((conn.fd, letter), deque()).append(clock())

    def speak(self) -> None:
        """Send one packet."""
        self.sent += 1
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
        """Return the first peer from `index` on whose pair has no connect in flight.

        A connect also needs a pair without a broadcast in flight: a pair's connections are not
        served in sending order, and a peer that has left would miss it.
        """
        busy = "c" if both_home else "bc"
        for offset in range(len(self.conns)):
            at = (index + offset) % len(self.conns)
            fd = self.conns[at].fd
            pair = (fd, self.partner[fd].fd)
            away = both_home and (pair[0] in self.away or pair[1] in self.away)
            at_rest = not any(self.waiting.get((end, letter)) for end in pair for letter in busy)
            if at_rest and not away:
                return at
        raise LoadError("no pair is at rest: the server is far behind")

    def move(self, conn: Conn, partner: Conn) -> None:
        """Move a peer to its lobby or back; a partner in the room hears of the return."""
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
        """Read what has arrived, waiting at most `timeout` s."""
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
    """Run the real client's mix for `peers` peers at `rate` packets per s in total."""
    traffic = Mix(spec)
    traffic.pump(spec["warmup"])
    meter = Meter(spec)
    traffic.reset()
    traffic.pump(spec["seconds"])
    figures: Figures = meter.stop()
    names = {"p": "ping", "b": "broadcast", "c": "connect"}
    all_kinds = [value for values in traffic.latencies.values() for value in values]
    latency = {names[letter]: percentiles(got) for letter, got in traffic.latencies.items()}
    figures |= {"deliveries": len(all_kinds), "extra": traffic.extra}
    figures["kept"] = traffic.sent / (traffic.rate * figures["seconds"])
    figures["latency"] = {"all": percentiles(all_kinds), **latency}
    if lost := traffic.finish():
        raise LoadError(f"{lost} packets of the mix were never answered")
    return figures
