"""A call's events: named, and passed to handlers. A handler's failure does not harm the call."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

logger = logging.getLogger("videre.client")

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Emitter:
    """An object with the events in EVENTS. Handlers may be plain or async functions."""

    EVENTS: frozenset[str] = frozenset()
    #: Exceptions that an async handler may end with, apart from returning.
    DONE: tuple[type[Exception], ...] = ()

    def __init__(self) -> None:
        self._handlers: dict[str, list[Callable[..., Any]]] = {}
        self._running: dict[asyncio.Task[None], str] = {}  # with their events

    @overload
    def on(self, event: str, handler: None = None) -> Callable[[Handler], Handler]: ...

    @overload
    def on(self, event: str, handler: Handler) -> Handler: ...

    def on(self, event: str, handler: Callable[..., Any] | None = None) -> Any:
        """Call `handler` at each `event`; without a handler, return a decorator.

        Raises ValueError for an unknown event.
        """
        if event not in self.EVENTS:
            names = ", ".join(sorted(self.EVENTS))
            raise ValueError(f"event must be one of {names}, not {event!r}")
        if handler is None:
            return lambda decorated: self.on(event, decorated)
        if not callable(handler):
            raise TypeError(f"handler must be a function, not {type(handler).__name__}")
        self._handlers.setdefault(event, []).append(handler)
        return handler

    def listens(self, event: str) -> bool:
        """Tell whether an event has a handler."""
        return bool(self._handlers.get(event))

    def emit(self, event: str, *args: Any) -> None:
        """Call the handlers. Exceptions go to the event `error`, or to the log if unhandled."""
        for handler in list(self._handlers.get(event, ())):
            try:
                result = handler(*args)
            except Exception as error:
                self._failed(event, error)
            else:
                if inspect.isawaitable(result):
                    self._run(event, result)
        if event == "error" and not self.listens("error"):
            logger.error("call failed", exc_info=args[0])

    def _run(self, event: str, awaitable: Awaitable[Any]) -> None:
        async def run() -> None:
            try:
                await awaitable
            except self.DONE:
                pass
            except Exception as error:
                self._failed(event, error)

        task = asyncio.get_running_loop().create_task(run())
        self._running[task] = event
        task.add_done_callback(self._running.pop)

    def _failed(self, event: str, error: Exception) -> None:
        if event == "error":
            logger.error("error handler failed", exc_info=error)
        else:
            self.emit("error", error)

    async def finish(self, last: str, seconds: float) -> None:
        """Wait at most `seconds` for async handlers of the event `last`; cancel all others."""
        try:
            if awaited := [task for task, event in self._running.items() if event == last]:
                await asyncio.wait(awaited, timeout=seconds)
        finally:
            while self._running:  # one that fails as it is cancelled starts handlers of `error`
                for task in self._running:
                    task.cancel()
                await asyncio.wait(list(self._running))
