"""Hooks: what the hosting application wants to hear of members."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

#: Called with the room and the user. What it returns is awaited, if it can be.
OnJoin = Callable[[str, str], Any]
#: Called with the room, the user, and why it left.
OnLeave = Callable[[str, str, str], Any]


class Hooks:
    """Functions of the application's, each called for every event; none can harm the server.

    `spawn` runs what an async function returns, `failed` hears from inside of an `except` that one
    has raised.
    """

    def __init__(self, spawn: Callable[[Awaitable[Any]], None], failed: Callable[[], None]) -> None:
        self._spawn = spawn
        self._failed = failed
        self.on_join: list[OnJoin] = []
        self.on_leave: list[OnLeave] = []

    def joined(self, room: str, user: str) -> None:
        """Tell that a user took a seat on this node."""
        for hook in self.on_join:
            self._call(hook, room, user)

    def left(self, room: str, user: str, reason: str) -> None:
        """Tell that a user gave up its seat on this node, or lost it."""
        for hook in self.on_leave:
            self._call(hook, room, user, reason)

    def _call(self, hook: Callable[..., Any], *arguments: str) -> None:
        try:
            result = hook(*arguments)
            if inspect.isawaitable(result):
                self._spawn(self._finish(result))
        except Exception:
            self._failed()

    async def _finish(self, result: Awaitable[Any]) -> None:
        try:
            await result
        except Exception:
            self._failed()
