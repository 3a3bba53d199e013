"""Growth tests: CPU grows at most linearly with the input, and each unit is cheap.

    check(make, work, largest=65536)                      # growth only
    check(make, work, largest=65536, dense=3.0)           # and at most 3 times orjson's time
    await check_async(make, work, largest=65536)          # if `work` returns an awaitable

`make(size)` builds an input of about `size` units (bytes, names, members, ...), untimed.
`work(input)` is timed, by this thread's CPU or by another `clock` in seconds, such as
`process_clock(pid)` for a store. `weigh(input)` returns an input's real size, by default `len`.
`check` returns the figures, or raises AssertionError with them.

It measures inputs of `largest / 256` and `largest / 16` twice, then one of `largest`, and keeps the
minimum for each size. The cost of the smallest is subtracted from the others, so that growth shows
even next to a large constant. Quadratic work grows 16 times more than linear work, noise less than
twice, and thousands of objects on a scattered heap up to four times; at WORSE times the check
fails. Before it fails it measures up to ROUNDS times, because a busy machine only ever adds to a
figure: an addition to the largest cannot hide growth, but one to the others could, and their first
run does more than the later ones.

Growth does not reveal a large cost per unit. `dense` does: it bounds the cost of the largest input
as a multiple of what `orjson.loads` takes for as many bytes of an object with thousands of keys
(some 10 ns a byte). For inputs that are not bytes, give `most`, in seconds per unit, with ample
margin.

shapes.py generates texts that stress a parser.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import orjson

Input = TypeVar("Input")
Clock = Callable[[], float]

SPAN = 16
WORSE = 6.0  # times more than linear
ROUNDS = 9
FLOOR = 20e-6  # seconds; growth counts from at least this much, or half of the total


class Figures:
    """The minimum time for each input size, in seconds, and the limits."""

    #: orjson's seconds for a byte, when last measured; 0 before that.
    orjson = 0.0

    def __init__(self, largest: int, *, dense: float | None, most: float | None) -> None:
        self.sizes = [max(1, largest // part) for part in (256, SPAN, 1)]
        self.weights: dict[int, int] = {}
        self.seconds: dict[int, float] = {}
        self._dense = dense
        self._most = most

    def note(self, size: int, weight: int, seconds: float) -> None:
        """Record the cost of one input."""
        self.weights[size] = weight
        self.seconds[size] = min(seconds, self.seconds.get(size, seconds))

    @property
    def unit(self) -> float:
        """Seconds per unit of the largest input."""
        return self.seconds[self.sizes[-1]] / self.weights[self.sizes[-1]]

    def complaint(self) -> str | None:
        """Return what is wrong with the figures so far, None if nothing."""
        base, small, large = self.sizes
        constant = self.seconds[base]
        before = max(FLOOR, self.seconds[small] / 2, self.seconds[small] - constant)
        after = self.seconds[large] - constant
        grown = self.weights[large] - self.weights[base]
        more = max(1.0, grown / max(1, self.weights[small] - self.weights[base]))
        if after > WORSE * more * before:
            return f"CPU grew {after / before:.0f} times, the input {more:.0f} times: {self}"
        most = self._most if self._dense is None else self._most_of_orjson(self._dense)
        if most is not None and self.unit > most:
            allowed = f"at most {most * 1e9:.1f} are allowed"
            return f"{self.unit * 1e9:.1f} ns a unit, {allowed}: {self}"
        return None

    def _most_of_orjson(self, dense: float) -> float:
        """Return `dense` times orjson's time for a byte: as last measured, if that allows it."""
        if self.unit > dense * Figures.orjson:
            Figures.orjson = orjson_seconds()
        return dense * Figures.orjson

    def __str__(self) -> str:
        each = ((self.weights[size], self.seconds[size]) for size in self.sizes)
        return ", ".join(f"{weight}: {seconds * 1e6:.0f} us" for weight, seconds in each)


def check(
    make: Callable[[int], Input],
    work: Callable[[Input], object],
    *,
    largest: int,
    dense: float | None = None,
    most: float | None = None,
    weigh: Callable[[Input], int] = len,  # type: ignore[assignment]
    clock: Clock = time.thread_time,
) -> Figures:
    """Check that `work` is linear in its input, and cheap (see the module)."""
    figures = Figures(largest, dense=dense, most=most)
    for size in _sizes(figures):
        given = make(size)
        with _timed(figures, size, weigh(given), clock):
            work(given)
    return figures


async def check_async(
    make: Callable[[int], Input],
    work: Callable[[Input], Awaitable[object]],
    *,
    largest: int,
    dense: float | None = None,
    most: float | None = None,
    weigh: Callable[[Input], int] = len,  # type: ignore[assignment]
    clock: Clock = time.thread_time,
) -> Figures:
    """Like `check`, for async work; the time includes other work of the loop meanwhile."""
    figures = Figures(largest, dense=dense, most=most)
    for size in _sizes(figures):
        given = make(size)
        with _timed(figures, size, weigh(given), clock):
            await work(given)
    return figures


def _sizes(figures: Figures) -> Iterator[int]:
    """Yield the sizes to measure until the figures are good; raise if they never are."""
    complaint: str | None = None
    for _ in range(ROUNDS):
        yield from (*figures.sizes[:-1], *figures.sizes)
        complaint = figures.complaint()
        if complaint is None:
            return
    raise AssertionError(complaint)


@contextmanager
def _timed(figures: Figures, size: int, weight: int, clock: Clock) -> Iterator[None]:
    with _without_collector():
        began = clock()
        yield
        figures.note(size, weight, clock() - began)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Disable the garbage collector, whose timing has nothing to do with the work."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def process_clock(pid: int) -> Clock:
    """Return a clock of another process's CPU, in steps of 10 ms (Linux)."""
    path = Path(f"/proc/{pid}/stat")

    def read() -> float:
        fields = path.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    return read


_DENSE = "{" + ",".join(f'"k{number}":0' for number in range(6500)) + "}"


def orjson_seconds() -> float:
    """Return orjson's seconds per byte for an object with thousands of keys.

    Measured at each call, because a machine's speed varies from minute to minute. No check fails
    by an older figure.
    """
    least = float("inf")
    for _ in range(5):
        with _without_collector():
            began = time.thread_time()
            orjson.loads(_DENSE)
            least = min(least, time.thread_time() - began)
    return least / len(_DENSE)
