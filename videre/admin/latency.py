"""The latencies of the last minute, from the histograms of the namespaces, for the status page."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from operator import add, sub

from videre.namespace import Namespace
from videre.tally import Histogram

#: Seconds that a percentile covers, one sample each: a single second has too few timed packets.
WINDOW = 60


class Quantile:
    """The 99th percentile of the values that histograms counted in the last WINDOW samples."""

    def __init__(self) -> None:
        self._past: deque[list[int]] = deque(maxlen=WINDOW + 1)

    def sample(self, histograms: Iterable[Histogram]) -> float:
        """Add the histograms' current counts; return the percentile since the oldest sample kept.

        It is an upper bound in seconds, 0 if no values were counted in that time; values above the
        largest bound count as that bound. All histograms must have the same bounds.
        """
        found = list(histograms)
        if not found:
            return 0.0
        counts = [0] * len(found[0].counts)
        for each in found:
            counts = list(map(add, counts, each.counts))
        self._past.append(counts)
        return _percentile(found[0].bounds, list(map(sub, counts, self._past[0])))


def _percentile(bounds: Sequence[float], counts: Sequence[int]) -> float:
    wanted = sum(counts) * 0.99
    if not wanted:
        return 0.0
    below = itertools.accumulate(counts)
    index = next(at for at, total in enumerate(below) if total >= wanted)
    return bounds[min(index, len(bounds) - 1)]


class Latencies:
    """The latencies of the event loop, of the engine's steps and of relayed packets."""

    def __init__(self, namespaces: Sequence[Namespace]) -> None:
        self._namespaces = namespaces
        self._lag, self._engine, self._relay = Quantile(), Quantile(), Quantile()

    def sample(self) -> dict[str, float]:
        """Return the three by name, in seconds; call it once a second."""
        tallies = [each.tally for each in self._namespaces]
        lags = {id(each.lag): each.lag.seconds for each in self._namespaces}
        steps = (seconds for tally in tallies for seconds in tally.steps.values())
        return {
            "Lag": self._lag.sample(lags.values()),
            "EngineLatency": self._engine.sample(steps),
            "RelayLatency": self._relay.sample(tally.relays.seconds for tally in tallies),
        }
