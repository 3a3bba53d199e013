"""The lag of the event loop: how much later than it was due a callback is called."""

from __future__ import annotations

from collections.abc import Callable

from videre.interfaces import Later, Timer
from videre.tally import Histogram

#: Seconds between two samples: a loop that hangs for longer is seen, and nobody pays for it.
INTERVAL = 0.5

#: Upper bounds in seconds: below a millisecond, timers themselves are not exact.
BOUNDS = (0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Lag:
    """Samples the lag from `start` to `stop`. `clock` is monotonic, in seconds, as `later` is."""

    def __init__(self, clock: Callable[[], float], later: Later) -> None:
        self._clock = clock
        self._later = later
        self._timer: Timer | None = None
        self._due = 0.0
        self.seconds = Histogram(BOUNDS)

    def start(self) -> None:
        """Begin to take samples."""
        self._due = self._clock() + INTERVAL
        self._timer = self._later(INTERVAL, self._sample)

    def stop(self) -> None:
        """Take no more samples."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _sample(self) -> None:
        self.seconds.observe(max(0.0, self._clock() - self._due))
        self.start()
