"""Events that wait for the application to receive them."""

from __future__ import annotations

import asyncio
from collections import deque

from videre.client.errors import Overflow
from videre.client.events import Event

# Bytes of packets that may wait. The client reads on meanwhile, so that it answers pings.
MAX_BYTES = 32 << 20
OVERHEAD = 1024  # bytes counted for each event in addition to its packet


class Inbox:
    """Events and errors in order, then the error that ended the seat."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Event | Exception, int]] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._end: Exception | None = None

    def put(self, item: Event | Exception, size: int = 0) -> None:
        """Add an event from a packet of `size` bytes; raise Overflow if too many bytes wait."""
        size += OVERHEAD
        if self._bytes + size > MAX_BYTES:
            raise Overflow(f"More than {MAX_BYTES} bytes of packets wait to be received")
        self._bytes += size
        self._waiting.append((item, size))
        self._news.set()

    def end(self, error: Exception | None) -> None:
        """Set the error to raise, again and again, once the queue is empty; None: wait instead."""
        self._end = error
        self._news.set()

    async def get(self) -> Event:
        """Return the next event; raise it if it is an error."""
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
