"""Limits: what one session and one address may ask for in a time. Clocks are arguments."""

from __future__ import annotations

import collections
import enum

#: Failed tokens of one address within FAILURE_SECONDS, after which its next tries are slowed.
FAILURES = 10
FAILURE_SECONDS = 60.0
# The first delay, doubled with each further failure up to the longest: long enough that guessing
# is hopeless, short enough that no client's or proxy's own timeout (30 s and more) comes first.
FIRST_DELAY = 0.5  # seconds
LONGEST_DELAY = 25.0  # seconds

# Addresses remembered for their failures; the oldest are forgotten first.
MAX_FAILING_ADDRESSES = 10_000


class TokenBucket:
    """Allows `rate` takes a second, and `burst` of them at once when it is full.

    Keeps one number, the time at which it will be full again (the generic cell rate algorithm).
    """

    __slots__ = ("_full_at", "_interval", "_tolerance")

    def __init__(self, rate: float, burst: int) -> None:
        self._interval = 1.0 / rate
        # Sums of intervals are not exact, so that one of them more or less needs some leave.
        self._tolerance = (burst - 1) * self._interval + 1e-6
        self._full_at = 0.0

    def take(self, now: float) -> bool:
        """Take one and return True, or return False if there is none. `now` never goes back."""
        full_at = self._full_at
        if full_at <= now:
            self._full_at = now + self._interval
            return True
        if full_at - now > self._tolerance:
            return False
        self._full_at = full_at + self._interval
        return True

    def is_full(self, now: float) -> bool:
        """Tell whether all that was taken has come back."""
        return now >= self._full_at


class Verdict(enum.Enum):
    """What is to be done with a packet."""

    PASS = enum.auto()
    WARN = enum.auto()  # dropped, the first of its episode: say so
    DROP = enum.auto()  # dropped without a word
    CLOSE = enum.auto()  # one too many: close the session


PASS = Verdict.PASS  # looked at for every packet


class Throttle:
    """Judges the packets of one session: pings by one bucket, all others by another.

    An episode begins with the first packet that finds its bucket empty, and is over when the
    bucket is full again. A session that goes on sending in it, as much again as its burst, is
    closed.
    """

    __slots__ = ("_burst", "_dropped", "_packets", "_pings")

    def __init__(self, rate: float, burst: int) -> None:
        self._packets = TokenBucket(rate, burst)
        self._pings = TokenBucket(rate, burst)
        self._burst = burst
        self._dropped = 0  # in this episode

    def judge(self, is_ping: bool, now: float) -> Verdict:
        """Return what is to be done with a packet that came at `now`, in seconds."""
        if self._dropped and self._packets.is_full(now) and self._pings.is_full(now):
            self._dropped = 0
        if (self._pings if is_ping else self._packets).take(now):
            return PASS
        self._dropped += 1
        if self._dropped == 1:
            return Verdict.WARN
        return Verdict.DROP if self._dropped <= self._burst else Verdict.CLOSE


class Penalties:
    """Remembers which addresses brought tokens that were refused, for a minute."""

    def __init__(self) -> None:
        self._failures: dict[str, collections.deque[float]] = {}

    def record(self, address: str, now: float) -> None:
        """Count a refused token."""
        failures = self._failures.pop(address, None)
        if failures is None:
            failures = collections.deque(maxlen=2 * FAILURES)
            if len(self._failures) >= MAX_FAILING_ADDRESSES:
                del self._failures[next(iter(self._failures))]
        failures.append(now)
        self._failures[address] = failures  # last in order: the first is the oldest

    def delay(self, address: str, now: float) -> float:
        """Return for how many seconds the next try of an address is to wait; 0 for most."""
        failures = self._failures.get(address)
        if failures is None:
            return 0.0
        while failures and now - failures[0] > FAILURE_SECONDS:
            failures.popleft()
        if not failures:
            del self._failures[address]
        if len(failures) < FAILURES:
            return 0.0
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (len(failures) - FAILURES))
