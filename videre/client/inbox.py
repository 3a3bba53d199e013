"""What waits until the application takes it."""

from __future__ import annotations

import asyncio
from collections import deque

from videre.client.errors import Overflow
from videre.client.events import Event

# What may wait, in bytes of packets. Reading goes on meanwhile, so that pings are answered.
MAX_BYTES = 32 << 20
OVERHEAD = 1024  # bytes that any event counts for, beside its text


class Inbox:
    """Events and errors in order, and what comes after the last of them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Event | Exception, int]] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._end: Exception | None = None

    def put(self, item: Event | Exception, size: int = 0) -> None:
        """Add what came in a packet of this size; raise Overflow if too much waits."""
        size += OVERHEAD
        if self._bytes + size > MAX_BYTES:
            raise Overflow(f"More than {MAX_BYTES} bytes of packets wait to be received")
        self._bytes += size
        self._waiting.append((item, size))
        self._news.set()

    def end(self, error: Exception) -> None:
        """Let `error` be what comes after all that waits, for ever."""
        self._end = error
        self._news.set()

    async def get(self) -> Event:
        """Return the next event, or raise the next error."""
        while not self._waiting:
            if self._end is not None:
                raise self._end.with_traceback(None)
            self._news.clear()
            await self._news.wait()
        item, size = self._waiting.popleft()
        self._bytes -= size
        if isinstance(item, Exception):
            raise item
        return item
