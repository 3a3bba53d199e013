"""Background tasks: their owner starts them, does not wait for them, and ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

logger = logging.getLogger("videre.jobs")


class Jobs:
    """The background tasks of one owner. One that fails is logged, and ends no other.

    `expected` are errors that need no log line, because their owner handles them.
    """

    def __init__(self, *expected: type[Exception]) -> None:
        self._expected = expected
        self.tasks: set[asyncio.Future[Any]] = set()

    def spawn(self, job: Awaitable[Any]) -> None:
        """Run a job in the background."""
        task = asyncio.ensure_future(job)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, self._expected):
            logger.error("background task failed", exc_info=error)

    async def wait(self, seconds: float) -> None:
        """Return when no task is left, or after this many seconds."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=seconds)

    async def end(self) -> None:
        """Cancel the remaining tasks, and return when they have ended."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
