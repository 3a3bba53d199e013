"""Timers, as the rules see them: what calls back after a while, unless it is called off."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """What can be called off; asyncio.TimerHandle is one."""

    def cancel(self) -> None:
        """Call it off."""


#: Calls back after so many seconds.
Later = Callable[[float, Callable[[], None]], Timer]
