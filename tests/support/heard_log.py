"""A logger that a test can wait for: the server has done something once it logs it."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

from patience import WAIT_SECONDS

_numbers = itertools.count()


class HeardLog(logging.Handler):
    """Keeps the records of `logger`, which a server gets; `until` waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self.logger = logging.getLogger(f"heard {next(_numbers)}")
        self.logger.setLevel(logging.INFO)
        self.logger.propagate = False
        self.logger.addHandler(self)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        found = vars(record)
        self.events.append((found.get("event", record.msg), found.get("fields", {})))
        self._news.set()

    async def until(self, event: str, **fields: Any) -> None:
        """Wait for an event with these fields unless it is already there; remove it."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                for number, (name, found) in enumerate(self.events):
                    if name == event and fields.items() <= found.items():
                        del self.events[number]
                        return
                self._news.clear()
                await self._news.wait()
