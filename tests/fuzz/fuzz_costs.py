"""The fuzzers' second goal: cost per byte. Expensive inputs stay in the corpus."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

#: Added to an input's bytes, because the constant cost of a call is not due to its bytes.
CONSTANT = 512
TRIES = 3  # of an apparent record: the minimum counts


class Costs:
    """The most expensive input of `work` so far; each record is written to the folder `corpus`."""

    def __init__(
        self,
        work: Callable[[bytes], object],
        corpus: Path | None = None,
        *,
        clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._work = work
        self._corpus = corpus
        self._clock = clock
        self.dearest = b""
        self.nanoseconds = 0.0  # per byte

    def note(self, data: bytes) -> None:
        """Measure an input, and keep it if it is the most expensive so far."""
        cost = self._cost(data)
        for _ in range(TRIES):
            if cost <= self.nanoseconds:
                return
            cost = min(cost, self._cost(data))
        self.dearest, self.nanoseconds = data, cost
        reach(cost)
        if self._corpus is not None:
            (self._corpus / "dearest").write_bytes(data)
            (self._corpus / f"dear-{round(cost):06}").write_bytes(data)

    def _cost(self, data: bytes) -> float:
        began = self._clock()
        self._work(data)
        return (self._clock() - began) * 1e9 / (len(data) + CONSTANT)

    def __str__(self) -> str:
        size = len(self.dearest)
        return f"dearest: {self.nanoseconds:.0f} ns a byte, {size} bytes: {self.dearest[:200]!r}"


def reach(cost: float) -> int:
    """Run separate code for each level of cost, so that a fuzzer takes a record for progress."""
    if cost < 16:
        return 0
    if cost < 32:
        return 1
    if cost < 64:
        return 2
    if cost < 128:
        return 3
    if cost < 256:
        return 4
    if cost < 512:
        return 5
    if cost < 1024:
        return 6
    return 7
