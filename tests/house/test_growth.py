"""The growth check itself: linear, cheap work passes; quadratic or expensive work fails."""

from __future__ import annotations

import json
from typing import Any

import pytest
from growth import check, check_async, orjson_seconds
from hypothesis import given
from shapes import Shape, repeat, shapes

LARGEST = 65536


class Meter:
    """A clock that work sets forward, and noise with it."""

    def __init__(self, *noise: float) -> None:
        self.now = 0.0
        self._noise = noise or (0.0,)
        self._reads = 0

    def __call__(self) -> float:
        self._reads += 1
        self.now += self._noise[self._reads % len(self._noise)]
        return self.now


@pytest.mark.parametrize(
    ("base", "linear", "square", "passes"),
    [
        (0.0, 1e-7, 0.0, True),
        (5e-3, 1e-7, 0.0, True),
        (0.0, 0.0, 0.0, True),
        (0.0, 0.0, 1e-10, False),
        (5e-3, 0.0, 1e-10, False),
        (0.0, 1e-7, 1e-9, False),
        (0.0, 0.0, 1e-13, True),  # 0.4 ms at the most: growth that nobody can feel
    ],
)
def test_growth(base: float, linear: float, square: float, passes: bool) -> None:
    """Proportional work passes, whatever its constant; quadratic work fails."""
    meter = Meter()

    def work(text: str) -> None:
        meter.now += base + linear * len(text) + square * len(text) ** 2

    if passes:
        check("x".__mul__, work, largest=LARGEST, clock=meter)
    else:
        with pytest.raises(AssertionError, match=r"CPU grew \d+ times, the input 17 times: 256: "):
            check("x".__mul__, work, largest=LARGEST, clock=meter)


def test_noise_does_not_count() -> None:
    """Occasional delays of a busy machine are not growth."""
    meter = Meter(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0)

    def work(text: str) -> None:
        meter.now += 1e-7 * len(text)

    check("x".__mul__, work, largest=LARGEST, clock=meter)


def test_a_dear_first_time_hides_no_growth() -> None:
    """What is set up by the first input of a size comes on top: only the second one counts."""
    meter, met = Meter(), set()

    def work(text: str) -> None:
        first = len(text) not in met
        met.add(len(text))
        meter.now += first * 1.0 + 1e-10 * len(text) ** 2

    with pytest.raises(AssertionError, match="CPU grew"):
        check("x".__mul__, work, largest=LARGEST, clock=meter)


def test_inputs_that_cannot_be_so_small() -> None:
    """Inputs of one size show no growth."""
    meter = Meter(0.0, 1e-5, 3e-5)

    def work(text: str) -> None:
        meter.now += 1e-3

    check(lambda size: "x" * 70_000, work, largest=LARGEST, clock=meter)


def test_what_is_dear_is_seen_without_growth() -> None:
    """300 ns per byte are linear, but over ten times what orjson takes: that fails."""
    meter = Meter()

    def work(text: str) -> None:
        meter.now += 300 * orjson_seconds() * len(text)

    check("x".__mul__, work, largest=LARGEST, clock=meter)
    bounds: list[dict[str, Any]] = [{"dense": 10.0}, {"most": 1e-9}]
    for bound in bounds:
        with pytest.raises(AssertionError, match=r"ns a unit, at most [\d.]+ are allowed"):
            check("x".__mul__, work, largest=LARGEST, clock=meter, **bound)


def test_real_work() -> None:
    """The check also works with the real clock."""
    check("x".__mul__, str.upper, largest=LARGEST, dense=3.0)

    def square(text: str) -> None:
        for at in range(0, len(text), 16):
            text[at:].count("x")

    with pytest.raises(AssertionError, match="CPU grew"):
        check("x".__mul__, square, largest=LARGEST)


async def test_work_that_is_awaited() -> None:
    """The check also works for coroutines."""
    meter = Meter()

    async def work(text: str) -> None:
        meter.now += 1e-10 * len(text) ** 2

    with pytest.raises(AssertionError, match="CPU grew"):
        await check_async("x".__mul__, work, largest=LARGEST, clock=meter)


@given(shapes())
def test_shapes_are_json_of_the_size_asked_for(shape: Shape) -> None:
    """To within one piece; or the shortest one possible."""
    for size in (4096, 65536):
        text = shape(size)
        json.loads(text)
        assert size - 4200 < len(text) <= max(size, 6000)


def test_pieces_are_numbered() -> None:
    """So that keys differ."""
    assert repeat('"k%d":0', 22) == '"k0":0,"k1":0,"k2":0'
    assert repeat("a", 0) == "a"
