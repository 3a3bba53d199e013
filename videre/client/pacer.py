"""Paces packets so that the server's limits drop none. The clock is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The share of the server's rate to use. Each refusal halves it until the connection ends, for
# servers whose limits are not known.
SHARE, LEAST_SHARE = 0.9, 0.05
# The share of the burst to use; it is halved likewise. It leaves room for packets that were held up
# on the way for two seconds and arrive together (by the default limits, 100 of 400 packets, at 45 a
# second).
BURST_SHARE = 0.75
# Bounds, in seconds, of the pause after a refusal, which lasts until the server's buckets are full.
SHORTEST, LONGEST = 1.0, 30.0
# Assumed for a server that does not state its limits, in the form of the welcome's `Limits`.
DEFAULTS: Mapping[str, Any] = {"PacketsPerSecond": 50, "PacketBurst": 200}


class _Bucket:
    """A token bucket: holds at most `burst`, refills at `rate` a second."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = self.level = max(1.0, burst)

    def fill(self, seconds: float) -> None:
        self.level = min(self.burst, self.level + seconds * self.rate)

    def lacks(self, amount: float) -> float:
        """Return the seconds until `amount` is available; a full bucket suffices for any amount."""
        return max(0.0, min(amount, self.burst) - self.level) / self.rate


class Pacer:
    """The limits of one connection: packets and bytes."""

    def __init__(self) -> None:
        self._packets: _Bucket | None = None
        self._bytes: _Bucket | None = None
        self._at = 0.0  # the time of the last refill
        self._paused = 0.0  # the end of the pause
        self._limits: Mapping[str, Any] = DEFAULTS
        self._share = SHARE

    def begin(self, limits: Mapping[str, Any] | None, now: float) -> None:
        """Begin a connection, at the full share and with full buckets; None stands for DEFAULTS."""
        self._limits = DEFAULTS if limits is None else limits
        self._share = SHARE
        self._fill()
        self._at = now
        self._paused = 0.0

    def wait(self, size: int, now: float) -> float:
        """Return in how many seconds a packet of `size` bytes may be sent; 0.0: now."""
        seconds, self._at = max(0.0, now - self._at), now
        waits = [self._paused - now, 0.0]
        for bucket, amount in ((self._packets, 1), (self._bytes, size)):
            if bucket is not None:
                bucket.fill(seconds)
                waits.append(bucket.lacks(amount))
        return max(waits)

    def take(self, size: int, packets: int = 1) -> None:
        """Count packets that are sent, or bytes alone."""
        if self._packets is not None:
            self._packets.level -= packets
        if self._bytes is not None:
            self._bytes.level -= size

    def pause(self, until: float) -> None:
        """Send nothing until then."""
        self._paused = max(self._paused, until)

    def refused(self, now: float) -> None:
        """Pause until the server's buckets are full again; halve the share of this connection."""
        buckets = [each for each in (self._packets, self._bytes) if each is not None]
        fill = max((each.burst / each.rate for each in buckets), default=0.0)
        fill *= SHARE / BURST_SHARE  # of the server's, which are larger
        self._paused = now + min(LONGEST, max(SHORTEST, fill))
        self._share = max(LEAST_SHARE, self._share / 2)
        self._fill()

    def _fill(self) -> None:
        self._packets = self._bucket("PacketsPerSecond", "PacketBurst")
        self._bytes = self._bucket("BytesPerSecond", "ByteBurst")

    def _bucket(self, rate: str, burst: str) -> _Bucket | None:
        """Return a bucket for a rate and its burst; None if there is no limit."""
        per_second = self._limits.get(rate)
        if not isinstance(per_second, int | float) or per_second <= 0:
            return None
        at_once = self._limits.get(burst)
        if not isinstance(at_once, int | float):
            at_once = per_second
        return _Bucket(per_second * self._share, at_once * BURST_SHARE * (self._share / SHARE))
