"""Coroutines that start at once, instead of a turn later in a task."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from functools import partial
from typing import Any


def eagerly(work: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Run `work` until it first waits. Return the rest, to be awaited, or None if it is done.

    A task costs a turn of the loop, and more than the whole work of a connect in this process. What
    runs here has no task of its own, which asyncio.timeout needs: use this function only with an
    engine that never waits.
    """
    try:
        awaited = work.send(None)
    except StopIteration:
        return None
    return _Rest(work, awaited)


class _Rest:
    """The rest of work that waits for what it has yielded, usually a future."""

    def __init__(self, work: Coroutine[Any, Any, None], awaited: Any) -> None:
        self._work = work
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, None]:
        work, awaited = self._work, self._awaited
        while True:
            try:
                step = partial(work.send, (yield awaited))
            except BaseException as error:  # a task throws its cancellation
                step = partial(work.throw, error)
            try:
                awaited = step()
            except StopIteration:
                return
