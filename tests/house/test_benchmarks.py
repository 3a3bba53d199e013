"""benchmarks: what its figures are made of."""

from __future__ import annotations

from benchmarks.slices import cost, row


def test_a_slice_lasts_until_the_cpu_clock_moves() -> None:
    """A clock may count in steps of 10 ms, and a short slice may deliver nothing."""
    readings = iter([0, 0, 0, 10_000_000, 20_000_000])
    counts = iter([3, 0, 2, 0])
    assert cost(lambda: next(counts), lambda: next(readings)) == 10_000_000 / 1000 / 5
    readings, counts = iter([0, 10_000_000, 20_000_000]), iter([0, 4])
    assert cost(lambda: next(counts), lambda: next(readings)) == 20_000_000 / 1000 / 4


def test_a_row_compares_what_was_measured_in_the_same_turn() -> None:
    """The ratio is the median of the turns', not that of the medians."""
    costs = {"ours": [10.0, 40.0, 30.0], "HEAD": [20.0, 40.0, 10.0]}
    assert row(costs) == "ours 30.00 us; HEAD 20.00 us, ratio 1.000 (0.500-3.000)"
    one = {"ours": [10.0], "HEAD": [20.0]}
    assert row(one) == "ours 10.00 us; HEAD 20.00 us, ratio 0.500 (0.500-0.500)"
