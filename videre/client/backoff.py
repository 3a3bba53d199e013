"""How long a client waits before it reconnects."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

# 2.0 ** 64 times any `first` exceeds `most`; a much larger exponent would overflow a float.
MAX_EXPONENT = 64


@dataclass(frozen=True)
class Backoff:
    """Exponential back-off with full jitter: the upper bound grows from `first` to `most` seconds.

    Without jitter, the clients of a server that went away would all come back at the same time.
    """

    first: float = 0.5  # seconds
    most: float = 30.0  # seconds
    uniform: Callable[[float, float], float] = random.uniform
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep

    def limit(self, attempt: int) -> float:
        """Return the longest delay before attempt 0, 1, ..., in seconds."""
        return float(min(self.most, self.first * 2.0 ** min(attempt, MAX_EXPONENT)))

    async def wait(self, attempt: int) -> None:
        """Sleep before attempt 0, 1, ..."""
        await self.sleep(self.uniform(0.0, self.limit(attempt)))


class Pace:
    """When a client tries again: after a back-off, or at once if it left when its server asked."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._attempt = 0
        self._at_once = False

    def held(self, seconds: float) -> None:
        """Reset the back-off if a connection has lasted for long enough.

        A shorter one resets nothing, so that a client does not rush back to a server that drops its
        clients as soon as they connect.
        """
        if seconds >= self._backoff.limit(self._attempt):
            self._attempt = 0

    def skip(self) -> None:
        """Skip the next wait."""
        self._at_once = True

    async def wait(self) -> None:
        """Sleep until the next try."""
        if self._at_once:
            self._at_once = False
            return
        attempt, self._attempt = self._attempt, self._attempt + 1
        await self._backoff.wait(attempt)
