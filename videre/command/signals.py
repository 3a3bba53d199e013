"""The signals that the process heeds, of those that the system has: Windows has few of them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from typing import Any

#: What asks for a change: held back from the start of the process until we can follow it, since
#: without a handler they would end it. None on Windows.
CHANGES: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name)
)


def hold(signals: Iterable[signal.Signals]) -> None:
    """Keep signals back until they are released, where the system can."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def release(signals: Iterable[signal.Signals]) -> None:
    """Let signals come again."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def heed(name: str, call: Callable[..., object], *arguments: Any) -> None:
    """Have the running loop call a function for each signal of this name, if there is one."""
    number = getattr(signal, name, None)
    if number is None:
        return
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, call, *arguments)
    except NotImplementedError:  # a loop on Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(call, *arguments))
