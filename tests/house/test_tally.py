"""Histograms, the relay's timer and the loop's lag, with a clock that the test turns."""

from __future__ import annotations

from fakes import FakeClock

from videre.tally import LAG_INTERVAL, TIMED, Histogram, Lag, RelayTimer


def test_a_histogram_counts_by_upper_bound() -> None:
    """A value of exactly a bound belongs to it; those above all have a place of their own."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0):
        histogram.observe(value)
    histogram.observe(5.0, 3)
    assert histogram.counts == [2, 2, 3]
    assert (histogram.count, histogram.sum) == (7, 20.0)


def test_a_chunk_that_had_to_wait_is_timed_from_its_arrival() -> None:
    """It does not count as the next timed one; without a broadcast, nothing is recorded."""
    clock = FakeClock()
    timer = RelayTimer(clock)
    timer.left = 5
    timer.begin(clock() - 0.25)
    timer.written = 2
    timer.end()
    assert timer.left == 5
    assert (timer.seconds.count, timer.seconds.sum) == (2, 0.5)
    timer.begin()
    assert (timer.left, timer.arrived) == (TIMED, clock())
    timer.end()
    timer.end()
    assert timer.seconds.count == 2


def test_the_lag_is_what_a_callback_is_late() -> None:
    """Stopped before it was started, or twice, it does nothing."""
    clock = FakeClock()
    lag = Lag(clock, clock.later)
    lag.stop()
    lag.start()
    clock.advance(3 * LAG_INTERVAL)
    assert lag.seconds.count == 3
    lag.stop()
    lag.stop()
    clock.advance(LAG_INTERVAL)
    assert lag.seconds.count == 3
