"""Errors of a server, or of the library that talks to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from redis.exceptions import OutOfMemoryError, ResponseError

from videre.engines.redis.outage import KNOWN, StoreFull
from videre.errors import EngineError

logger = logging.getLogger("videre.engines")


def report(error: BaseException) -> None:
    """Log an error with its traceback, unless lost connections are known to raise it.

    A dying connection may raise anything: redis-py 8.1 raises AttributeError for a writer that is
    gone. But so may a bug of ours, which must show.
    """
    if not isinstance(error, KNOWN) and not _is_closed_transport(error):
        logger.error("unexpected error while talking to the store", exc_info=error)


class engine_errors:  # as contextlib names its own; a class, since each step uses it
    """Turn all errors of a server into EngineError."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        """Raise an error as what it means to a caller."""
        if error is None or isinstance(error, EngineError):
            return
        if isinstance(error, ResponseError):
            if _is_out_of_memory(error):
                raise StoreFull("The store is full") from None
            raise EngineError("The store refuses") from error
        if isinstance(error, asyncio.CancelledError):
            if _is_cancelled():
                return
        elif isinstance(error, Exception):
            report(error)
        else:
            return
        raise EngineError("The store cannot be reached") from error


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Report errors, but let none stop the closing of a connection."""
    try:
        yield
    except Exception as error:
        report(error)


def retrieve(task: asyncio.Task[Any]) -> None:
    """Mark a task's exception as retrieved, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()


def _is_out_of_memory(error: ResponseError) -> bool:
    # Before Redis 7, a script's error has it inside its text.
    return isinstance(error, OutOfMemoryError) or "-OOM command not allowed" in str(error)


def _is_closed_transport(error: BaseException) -> bool:
    return type(error) is RuntimeError and "closed" in str(error)  # uvloop's wording


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
