"""Virtual time: an event loop for each simulated process, with one heap of due events.

Nothing runs in parallel: the earliest event runs first, and then all callbacks that its process had
ready. A paused process handles due events when it continues; a crashed one never does.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any


class Process(asyncio.AbstractEventLoop):
    """One process, which is an event loop of its own."""

    def __init__(self, time: VirtualTime, name: str) -> None:
        self.name = name
        self.paused = False
        self.crashed = False
        self.held: list[Callable[[], Any]] = []  # due while it was paused
        self._time = time
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.faults: list[str] = []  # unretrieved exceptions

    def perform(self, call: Callable[[], Any]) -> None:
        """Call something, and run until nothing is ready."""
        if self.crashed:
            return
        if self.paused:
            self.held.append(call)
            return
        asyncio._set_running_loop(self)
        try:
            call()
            ready = self._ready
            while ready:
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            asyncio._set_running_loop(None)

    def go_on(self) -> None:
        """Continue after a pause."""
        self.paused = False
        held, self.held = self.held, []
        for call in held:
            self.perform(call)

    def end(self) -> None:
        """Cancel all remaining tasks."""
        self.paused = self.crashed = False
        self.held.clear()
        for _ in range(5):  # cancelled tasks may start others
            tasks = [task for task in self._tasks if not task.done()]
            if not tasks:
                break
            self.perform(lambda tasks=tasks: [task.cancel() for task in tasks])  # type: ignore[misc]
        self.crashed = True
        self._ready.clear()

    # What asyncio expects of a loop.

    def time(self) -> float:
        """See AbstractEventLoop.time."""
        return self._time.now

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """See AbstractEventLoop.call_soon."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See AbstractEventLoop.call_at."""
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._time.at(when, lambda: None if handle._cancelled else handle._run(), self)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See AbstractEventLoop.call_later."""
        return self.call_at(self._time.now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        """See AbstractEventLoop.create_future."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **named: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        """See AbstractEventLoop.create_task."""
        task = asyncio.Task(coro, loop=self, **named)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """See AbstractEventLoop.call_exception_handler."""
        self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_debug(self) -> bool:
        """See AbstractEventLoop.get_debug."""
        return False

    def is_running(self) -> bool:
        """See AbstractEventLoop.is_running."""
        return True

    def is_closed(self) -> bool:
        """See AbstractEventLoop.is_closed."""
        return False


class VirtualTime:
    """The due events of all processes and of the world around them."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.processes: dict[str, Process] = {}
        self._due: list[tuple[float, int, Callable[[], Any], Process | None]] = []
        self._count = itertools.count()

    def process(self, name: str) -> Process:
        """Start a process."""
        process = self.processes[name] = Process(self, name)  # type: ignore[abstract]
        return process

    def at(self, when: float, call: Callable[[], Any], process: Process | None = None) -> None:
        """Call back at a time: in a process, or in the world."""
        heapq.heappush(self._due, (when, next(self._count), call, process))

    def later(self, seconds: float, call: Callable[[], Any]) -> None:
        """See simulated_store.Clock."""
        self.at(self.now + seconds, call)

    def later_on(self, node: str, seconds: float, call: Callable[[], Any]) -> None:
        """See simulated_store.Clock."""
        self.at(self.now + seconds, call, self.processes[node])

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end, due = self.now + seconds, self._due
        while due and due[0][0] <= end:
            when, _, call, process = heapq.heappop(due)
            if when > self.now:
                self.now = when
            if process is None:
                call()
            else:
                process.perform(call)
        self.now = end

    def end(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.end()
        self._due.clear()
