"""The signals that the process handles, as far as the system has them: Windows has few."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable
from typing import Any

#: Reload signals: blocked until handlers are installed; their default action would kill us. Empty
#: on Windows.
CHANGES: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name)
)

#: Seconds in which signals to stop count as one: 0, except in a worker. systemd signals all
#: processes of a service by default, so a worker gets each signal from systemd and from its parent.
together = 0.0

#: In a worker, the end of a pipe whose other end only its parent has open: it reads as ended when
#: the parent is gone. None: there is no parent.
lifeline: int | None = None


def hold(signals: Iterable[signal.Signals]) -> None:
    """Block signals until `release`; does nothing on Windows."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)


def release(signals: Iterable[signal.Signals]) -> None:
    """Unblock signals."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)


def heed(name: str, call: Callable[..., object], *arguments: Any) -> None:
    """Call a function in the running loop on each signal of this name, if the system has it."""
    number = getattr(signal, name, None)
    if number is None:
        return
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, call, *arguments)
    except NotImplementedError:  # a loop on Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(call, *arguments))


def heed_end_of_parent(call: Callable[[], object]) -> None:
    """Call a function in the running loop, once, when the parent of this worker is gone."""
    file = lifeline
    if file is None:
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(file)
        call()

    loop.add_reader(file, ended)
