"""Samples of the last two minutes, taken once a second, for the status page."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

#: Seconds between two samples, and the number of samples to keep.
INTERVAL = 1.0
KEPT = 120


class Samples:
    """The last samples of levels (current values) and of totals, kept as rates."""

    def __init__(self) -> None:
        self._levels: deque[Mapping[str, float]] = deque(maxlen=KEPT)
        self._rates: deque[dict[str, float]] = deque(maxlen=KEPT)
        self._last: tuple[float, Mapping[str, float]] | None = None

    def take(self, now: float, levels: Mapping[str, float], totals: Mapping[str, float]) -> None:
        """Add a sample; `now` is in seconds, by a monotonic clock.

        A rate is the increase since the previous sample, divided by the time that actually passed.
        The rates of the first sample are 0.
        """
        before, old = self._last or (now, totals)
        passed = now - before
        rates = {
            name: round((total - old[name]) / passed, 2) if passed > 0 else 0.0
            for name, total in totals.items()
        }
        self._last = now, totals
        self._levels.append(levels)
        self._rates.append(rates)

    def history(self) -> dict[str, list[float]]:
        """Return the values of each level and each rate (per second), oldest first."""
        samples = [
            {**levels, **rates} for levels, rates in zip(self._levels, self._rates, strict=True)
        ]
        names = samples[-1] if samples else ()
        return {name: [sample[name] for sample in samples] for name in names}
