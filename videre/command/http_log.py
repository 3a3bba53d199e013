"""aiohttp's logger, limited to one line a minute about malformed requests."""

from __future__ import annotations

import logging
import time

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from videre.command.heads import HeadTooLong

# Seconds between two log lines about malformed requests.
LOG = 60.0


def http_logger() -> logging.Logger:
    """Return aiohttp's logger with the filter installed."""
    logger = logging.getLogger("aiohttp.server")
    if not any(isinstance(each, _Briefly) for each in logger.filters):
        logger.addFilter(_Briefly(LOG))
    return logger


class _Briefly(logging.Filter):
    """Replaces the errors of malformed requests by their count, once every `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._next = -float("inf")
        self._count = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to log a record; turn an error of a malformed request into a count."""
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
    """Return what was wrong with a request, without quoting it."""
    if isinstance(error, LineTooLong):
        return f"its URL or a header is longer than {error.args[1]} bytes"
    if isinstance(error, HeadTooLong):
        return f"its URL and headers are longer than {error.limit} bytes together"
    return type(error).__name__
