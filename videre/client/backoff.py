"""How long a client waits before it connects again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# 2.0 ** 64 times anything is more than `most`; a larger power would in the end be no float.
MAX_EXPONENT = 64


@dataclass(frozen=True)
class Backoff:
    """Exponential back-off with full jitter: anything from 0 to `first` s, `most` in the end.

    Full jitter, because all clients of a server that went away come back at the same time.
    """

    first: float = 0.5  # seconds
    most: float = 30.0  # seconds
    uniform: Callable[[float, float], float] = random.uniform
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def limit(self, attempt: int) -> float:
        """Return the longest that attempt 0, 1, ... may be put off."""
        return float(min(self.most, self.first * 2.0 ** min(attempt, MAX_EXPONENT)))

    async def wait(self, attempt: int) -> None:
        """Return when it is time for attempt 0, 1, ..."""
        await self.sleep(self.uniform(0.0, self.limit(attempt)))


class Pace:
    """When a client may try again: after a back-off, or when its server said."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._attempt = 0
        self._due: float | None = None

    def held(self, seconds: float) -> None:
        """Take note of a connection that lasted so long.

        A server that drops who has just come is not to be asked again at once.
        """
        if seconds >= self._backoff.limit(self._attempt):
            self._attempt = 0

    def schedule(self, due: float) -> None:
        """Let the next try be at this time of the loop."""
        self._due = due

    async def wait(self) -> None:
        """Return when it is time to try."""
        if self._due is None:
            attempt, self._attempt = self._attempt, self._attempt + 1
            await self._backoff.wait(attempt)
        else:
            seconds, self._due = self._due - asyncio.get_running_loop().time(), None
            await self._backoff.sleep(max(0.0, seconds))
