"""aiohttp's logger: what strangers send that is no HTTP is one line a minute."""

from __future__ import annotations

import logging
import time

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

# Seconds between two log lines about requests that are no HTTP.
LOG = 60.0


def http_logger() -> logging.Logger:
    """Return aiohttp's logger, to which a stranger's broken requests are one line a minute."""
    logger = logging.getLogger("aiohttp.server")
    if not any(isinstance(each, _Briefly) for each in logger.filters):
        logger.addFilter(_Briefly(LOG))
    return logger


class _Briefly(logging.Filter):
    """Passes a line without a traceback of broken requests, with their number, now and then."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._next = -float("inf")
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be written."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, (HttpProcessingError, web.RequestPayloadError)):
            return True
        self._count += 1
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._seconds
        record.msg = "%d requests were not HTTP, the last one: %s"
        record.args = self._count, _why(error)
        record.exc_info = None
        record.levelno, record.levelname = logging.INFO, "INFO"
        self._count = 0
        return True


def _why(error: Exception) -> str:
    """Return in words what was wrong with a request, nothing of which is repeated."""
    if isinstance(error, LineTooLong):
        return f"its URL or a header is longer than {error.args[1]} bytes"
    return type(error).__name__
