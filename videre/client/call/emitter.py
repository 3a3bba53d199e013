"""Events of a call: named, handed to functions, which may fail without harm to the call."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

logger = logging.getLogger("videre.client")

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Emitter:
    """What has events of these names. A handler may be a plain or an async function."""

    EVENTS: frozenset[str] = frozenset()
    #: What an async handler may end with, beside its own end.
    DONE: tuple[type[Exception], ...] = ()

    def __init__(self) -> None:
        self._handlers: dict[str, list[Callable[..., Any]]] = {}
        self._running: set[asyncio.Task[None]] = set()

    def on(self, event: str, handler: Handler | None = None) -> Any:
        """Call `handler` at each `event`; without a handler it decorates one.

        Raises ValueError for an event that there is not.
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
        """Tell whether there is a handler for an event."""
        return bool(self._handlers.get(event))

    def emit(self, event: str, *args: Any) -> None:
        """Call the handlers. What one raises is told by the event `error`, or logged."""
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
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _failed(self, event: str, error: Exception) -> None:
        if event == "error":
            logger.error("error handler failed", exc_info=error)
        else:
            self.emit("error", error)

    async def finish(self) -> None:
        """Cancel the async handlers that still run."""
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
