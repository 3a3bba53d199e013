"""Limits: how much one session or one address may do in a period. Clocks are arguments."""

from __future__ import annotations

import collections
import contextlib
import enum
import math
from collections.abc import Iterator

from videre.settings import Limits

#: Failed tokens from one address within FAILURE_SECONDS before its next tries are delayed.
FAILURES = 10
FAILURE_SECONDS = 60.0
# The first delay doubles with each further failure, up to the longest: long enough to make guessing
# hopeless, and shorter than the timeouts of clients and proxies (30 s and more).
FIRST_DELAY = 0.5  # seconds
LONGEST_DELAY = 25.0  # seconds

# Addresses whose failures are remembered; the oldest are dropped first.
MAX_FAILING_ADDRESSES = 10_000


# Slack for rounding errors in sums of intervals, in seconds.
ROUNDING = 1e-6


class TokenBucket:
    """Allows `rate` takes per second, and bursts of `burst`.

    Stores one number: when the bucket will be full again (the generic cell rate algorithm).
    """

    __slots__ = ("_full_at", "_interval", "_tolerance")

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1.0 / rate
        self._tolerance = (burst - 1) * self._interval + ROUNDING
        self._full_at = 0.0

    def take(self, now: float) -> bool:
        """Take one and return True, or False if the bucket is empty. `now` never decreases."""
        full_at = self._full_at
        if full_at <= now:
            self._full_at = now + self._interval
            return True
        if full_at - now > self._tolerance:
            return False
        self._full_at = full_at + self._interval
        return True

    def is_full(self, now: float) -> bool:
        """Return whether the bucket is full again."""
        return now >= self._full_at


class Verdict(enum.Enum):
    """What to do with a packet."""

    PASS = enum.auto()
    WARN = enum.auto()  # drop it and send an error: the first of its episode
    DROP = enum.auto()  # drop it silently
    CLOSE = enum.auto()  # too many dropped: close the session


PASS = Verdict.PASS  # needed for every packet


# Bytes are added up, and charged to the bucket once they exceed this part of the burst, 1/64: most
# packets then cost only an addition.
PARTS = 64


class Throttle:
    """Limits the packets of one session by number, with pings counted apart, and by bytes.

    It has three buckets, each stored as the time when it will be full again, as in TokenBucket. A
    packet that arrives before the bytes are used up passes whole, and so does its answer, however
    large they are; later packets are dropped until the debt is paid. In t seconds, at most
    `byte_burst` + t * `byte_rate` bytes pass, plus one packet with everything it causes. Rates are
    per second; None: no limit.

    An episode begins with the first packet that finds a bucket empty, and ends when all are full
    again. If the packets dropped in it exceed the burst of packets or of bytes, the session is
    closed.
    """

    __slots__ = (
        "_burst",
        "_byte_burst",
        "_bytes_full_at",
        "_dropped",
        "_dropped_bytes",
        "_interval",
        "_packets_full_at",
        "_part",
        "_pings_full_at",
        "_seconds_per_byte",
        "_span",
        "_tolerance",
        "due",
        "owed",
    )

    def __init__(
        self,
        rate: float | None,
        burst: int,
        *,
        byte_rate: float | None = None,
        byte_burst: int = 0,
    ) -> None:
        self._burst = math.inf if rate is None else burst
        self._interval = 0.0 if rate is None else 1.0 / rate
        self._tolerance = math.inf if rate is None else (burst - 1) * self._interval + ROUNDING
        self._byte_burst = math.inf if byte_rate is None else byte_burst
        self._seconds_per_byte = 0.0 if byte_rate is None else 1.0 / byte_rate
        # Seconds an empty bucket takes to fill, less half a byte, so that rounding cannot hide that
        # it is empty.
        self._span = math.inf if byte_rate is None else (byte_burst - 0.5) / byte_rate
        self._part = math.inf if byte_rate is None else byte_burst // PARTS
        self._packets_full_at = self._pings_full_at = self._bytes_full_at = 0.0
        self._dropped = 0  # packets in this episode
        self._dropped_bytes = 0
        #: Bytes that passed but are not charged yet. Code that adds to it calls `charge` once it
        #: exceeds `due`, which is -1 when the bucket is nearly empty.
        self.owed = 0
        self.due = self._part

    def judge(self, is_ping: bool, now: float, size: int = 0) -> Verdict:
        """Return what to do with a packet of `size` bytes that arrived at `now`, in seconds.

        `now` never decreases.
        """
        if self._dropped and self._is_calm(now):
            self._dropped = self._dropped_bytes = 0
        if self.due < 0 and self._bytes_full_at - now > self._span:
            return self._drop(size)
        # TokenBucket.take inlined, twice: it runs for every packet, and a call costs as much.
        if is_ping:
            full_at = self._pings_full_at
            if full_at <= now:
                full_at = now
            elif full_at - now > self._tolerance:
                return self._drop(size)
            self._pings_full_at = full_at + self._interval
        else:
            full_at = self._packets_full_at
            if full_at <= now:
                full_at = now
            elif full_at - now > self._tolerance:
                return self._drop(size)
            self._packets_full_at = full_at + self._interval
        self.owed += size
        if self.owed > self.due:
            self.charge(0, now)
        return PASS

    def charge(self, size: int, now: float) -> None:
        """Charge `size` bytes and those in `owed` to the byte bucket at `now`, in seconds.

        A late charge never costs the session less: the bucket begins to refill later.
        """
        full_at = max(self._bytes_full_at, now) + (self.owed + size) * self._seconds_per_byte
        self._bytes_full_at = full_at
        self.owed = 0
        # While more than one part is left, what is owed cannot overdraw the bucket.
        left = self._span - (full_at - now)
        self.due = self._part if left >= self._part * self._seconds_per_byte else -1

    def _is_calm(self, now: float) -> bool:
        return now >= max(self._packets_full_at, self._pings_full_at, self._bytes_full_at)

    def _drop(self, size: int) -> Verdict:
        self._dropped += 1
        self._dropped_bytes += size
        if self._dropped == 1:
            return Verdict.WARN
        is_too_much = self._dropped > self._burst or self._dropped_bytes > self._byte_burst
        return Verdict.CLOSE if is_too_much else Verdict.DROP


def throttle(limits: Limits) -> Throttle | None:
    """Return the Throttle for one session under these limits; None if they set no rate."""
    if limits.packets_per_second is None and limits.bytes_per_second is None:
        return None
    return Throttle(
        limits.packets_per_second,
        limits.packet_burst,
        byte_rate=limits.bytes_per_second,
        byte_burst=limits.byte_burst,
    )


class Penalties:
    """Remembers for a minute which addresses sent refused tokens, and slows their next tries."""

    def __init__(self) -> None:
        self._failures: dict[str, collections.deque[float]] = {}
        self._tries: collections.Counter[str] = collections.Counter()  # delayed now

    def record(self, address: str, now: float) -> None:
        """Count a refused token."""
        failures = self._failures.pop(address, None)
        if failures is None:
            failures = collections.deque(maxlen=2 * FAILURES)
            if len(self._failures) >= MAX_FAILING_ADDRESSES:
                del self._failures[next(iter(self._failures))]
        failures.append(now)
        self._failures[address] = failures  # reinserted last: the first is the oldest

    def tries(self, address: str) -> int:
        """Return how many tries of an address are delayed now."""
        return self._tries[address]

    @contextlib.contextmanager
    def delayed(self, address: str) -> Iterator[None]:
        """Count a try as a failure while it is delayed: parallel tries wait as consecutive ones do.

        Only `record` counts it for longer: who succeeds after the delay slows nobody's next try.
        """
        self._tries[address] += 1
        try:
            yield
        finally:
            self._tries[address] -= 1
            if not self._tries[address]:
                del self._tries[address]

    def delay(self, address: str, now: float) -> float:
        """Return how many seconds an address's next try must wait; 0 for most."""
        failures = self._failures.get(address)
        if failures is None:
            return 0.0
        while failures and now - failures[0] > FAILURE_SECONDS:
            failures.popleft()
        if not failures:
            del self._failures[address]
        if len(failures) < FAILURES:
            return 0.0
        doubled = len(failures) - FAILURES + self._tries[address]
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(doubled, FAILURES))
