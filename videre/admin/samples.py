"""Samples for the status page: each second of the last two minutes, and the last day's peaks."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

#: Seconds between two samples, and the number of samples to keep.
INTERVAL = 1.0
KEPT = 120

#: Seconds in each of the last day's periods, of which only the highest values are kept; and the
#: number of periods in a day.
DAY_INTERVAL = 300.0
DAY_KEPT = 288


class Samples:
    """Samples of levels (current values) and of totals, kept as rates."""

    def __init__(self) -> None:
        self._recent: deque[dict[str, float]] = deque(maxlen=KEPT)
        self._day: deque[dict[str, float]] = deque(maxlen=DAY_KEPT)
        self._last: tuple[float, Mapping[str, float]] | None = None
        self._day_since: float | None = None  # when the day's last entry began

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
        sample = {**levels, **rates}
        self._recent.append(sample)
        self._remember(now, sample)

    def _remember(self, now: float, sample: dict[str, float]) -> None:
        if self._day_since is None or now - self._day_since >= DAY_INTERVAL:
            self._day_since = now
            self._day.append(sample)
        else:
            highest = self._day[-1]
            self._day[-1] = {name: max(highest[name], sample[name]) for name in sample}

    def history(self) -> dict[str, list[float]]:
        """Return the values of each level and each rate (per second), oldest first."""
        return _by_name(self._recent)

    def day(self) -> dict[str, list[float]]:
        """Return the same for the last day: the highest value of each DAY_INTERVAL."""
        return _by_name(self._day)


def _by_name(samples: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    names = samples[-1] if samples else ()
    return {name: [sample[name] for sample in samples] for name in names}
