"""Rate limit for one member's signals: those in excess wait, and are handled one by one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from videre.client.call.signals import Signal

# Answers at once to one member's signals: ten to each of seven members stay within our own rate.
ANSWERS = 10.0
# Seconds until one more answer is allowed.
SECONDS = 1.0
# Answers that a new call counts for: it creates keys and gathers candidates.
CALL_COST = 5
# Signals of one member that may wait.
MAX_HELD = 64


class Pace:
    """One member's signals, handled in order, each when the rate allows its cost in answers.

    A signal with a cost is dropped if an identical one waits. One without a cost still waits for
    those before it.
    """

    def __init__(self) -> None:
        self._left = ANSWERS
        self._at = asyncio.get_running_loop().time()
        self._held: deque[tuple[Signal, int, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def pass_(self, signal: Signal, cost: int, take: Callable[[], None]) -> bool:
        """Call `take` in its turn; return False if too many signals wait and it is dropped."""
        if cost and any(signal == held for held, *_ in self._held):
            return True
        if len(self._held) >= MAX_HELD:
            return False
        self._held.append((signal, cost, take))
        if self._timer is None:
            self._go()
        return True

    def _go(self) -> None:
        loop = asyncio.get_running_loop()
        self._left = min(ANSWERS, self._left + (loop.time() - self._at) / SECONDS)
        self._at = loop.time()
        self._timer = None
        while self._held and self._held[0][1] <= self._left:
            _, cost, take = self._held.popleft()
            self._left -= cost
            take()
        if self._held:
            self._timer = loop.call_later(SECONDS, self._go)

    def end(self) -> None:
        """Drop all waiting signals."""
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
