"""When packets may go, so that the server's limits drop none. The clock is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of the server's rate, how much is used. It is halved by each refusal, for a server whose limits
# are not known.
SHARE, LEAST_SHARE = 0.9, 0.05
# Of the burst, halved with it: what was held up on its way for two seconds and comes at once
# still passes, by the default limits (100 of 400 packets, at 45 a second).
BURST_SHARE = 0.75
# Seconds to wait after a refusal: until the server's own buckets are full again, within these.
SHORTEST, LONGEST = 1.0, 30.0
# What a server allows that does not say, in the shape of the welcome's `Limits`.
DEFAULTS: Mapping[str, Any] = {"PacketsPerSecond": 50, "PacketBurst": 200}


class _Bucket:
    """Holds `burst` at most, and fills at `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = self.level = max(1.0, burst)

    def fill(self, seconds: float) -> None:
        self.level = min(self.burst, self.level + seconds * self.rate)

    def lacks(self, amount: float) -> float:
        """Return after how many seconds there is enough; a full bucket is enough for anything."""
        return max(0.0, min(amount, self.burst) - self.level) / self.rate


class Pacer:
    """The limits of one connection, by its packets and by their bytes."""

    def __init__(self) -> None:
        self._packets: _Bucket | None = None
        self._bytes: _Bucket | None = None
        self._at = 0.0  # the time that the buckets are filled up to
        self._paused = 0.0  # until then
        self._limits: Mapping[str, Any] = DEFAULTS
        self._share = SHARE

    def begin(self, limits: Mapping[str, Any] | None, now: float) -> None:
        """Begin a connection to a server that allows this: all of it may be used."""
        self._limits = DEFAULTS if limits is None else limits
        self._fill()
        self._at = now
        self._paused = 0.0

    def wait(self, size: int, now: float) -> float:
        """Return after how many seconds a packet of this size may go; 0.0: now."""
        seconds, self._at = max(0.0, now - self._at), now
        waits = [self._paused - now, 0.0]
        for bucket, amount in ((self._packets, 1), (self._bytes, size)):
            if bucket is not None:
                bucket.fill(seconds)
                waits.append(bucket.lacks(amount))
        return max(waits)

    def take(self, size: int) -> None:
        """Count a packet that goes."""
        if self._packets is not None:
            self._packets.level -= 1
        if self._bytes is not None:
            self._bytes.level -= size

    def refused(self, now: float) -> None:
        """Pause until the server's buckets are full again, and use half as much from then on."""
        buckets = [each for each in (self._packets, self._bytes) if each is not None]
        fill = max((each.burst / each.rate for each in buckets), default=0.0)
        self._paused = now + min(LONGEST, max(SHORTEST, fill))
        self._share = max(LEAST_SHARE, self._share / 2)
        self._fill()

    def _fill(self) -> None:
        self._packets = self._bucket("PacketsPerSecond", "PacketBurst")
        self._bytes = self._bucket("BytesPerSecond", "ByteBurst")

    def _bucket(self, rate: str, burst: str) -> _Bucket | None:
        """Return what a rate and its burst allow; None where there is no limit."""
        per_second = self._limits.get(rate)
        if not isinstance(per_second, int | float) or per_second <= 0:
            return None
        at_once = self._limits.get(burst)
        if not isinstance(at_once, int | float):
            at_once = per_second
        return _Bucket(per_second * self._share, at_once * BURST_SHARE * (self._share / SHARE))
