"""Hooks: functions of the hosting application, called when members join and leave."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

#: Called with the room and the user. An awaitable result is awaited.
OnJoin = Callable[[str, str], Any]
#: Called with the room, the user, and why it left.
OnLeave = Callable[[str, str, str], Any]


class Hooks:
    """The application's functions, each called for every event; none can harm the server.

    `spawn` runs the awaitable that an async hook returns. `failed` is called with what a hook
    raises.
    """

    def __init__(
        self, spawn: Callable[[Awaitable[Any]], None], failed: Callable[[Exception], None]
    ) -> None:
        self._spawn = spawn
        self._failed = failed
        self.on_join: list[OnJoin] = []
        self.on_leave: list[OnLeave] = []

    def joined(self, room: str, user: str) -> None:
        """Report that a user took a seat on this node."""
        for hook in self.on_join:
            self._call(hook, room, user)

    def left(self, room: str, user: str, reason: str) -> None:
        """Report that a user gave up or lost its seat on this node."""
        for hook in self.on_leave:
            self._call(hook, room, user, reason)

    def _call(self, hook: Callable[..., Any], *arguments: str) -> None:
        try:
            result = hook(*arguments)
            if inspect.isawaitable(result):
                self._spawn(self._finish(result))
        except Exception as error:
            self._failed(error)

    async def _finish(self, result: Awaitable[Any]) -> None:
        try:
            await result
        except Exception as error:
            self._failed(error)
