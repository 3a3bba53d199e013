"""The clock of the running event loop, which tests move ahead instead of waiting.

Sockets and processes stay real. What is in flight during a skip is that much older after it, so
skip when nothing is, or no further than its time-out allows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from patience import WAIT_SECONDS

#: Turns of the loop after a skip, for what this process sends itself to arrive and be answered.
TURNS = 5

Found = TypeVar("Found")


def skip(seconds: float) -> None:
    """Move the running loop's clock ahead; timers that are due by then fire in its next turn."""
    loop = asyncio.get_running_loop()
    real = type(loop).time
    ahead = loop.time() - real(loop) + seconds
    loop.time = lambda: real(loop) + ahead  # type: ignore[method-assign]


async def forward(seconds: float, by: float = 0.1) -> None:
    """Move the clock ahead, `by` seconds at a time."""
    for _ in range(round(seconds / by)):
        await _move(by)


async def hurry(waiting: Awaitable[Found], by: float = 0.1) -> Found:
    """Return what an awaitable returns; until then, move the clock ahead `by` seconds at a time.

    Only for what happens in this process, or not at all: others would find the time too short.
    """
    task = asyncio.ensure_future(waiting)
    try:
        while not task.done():
            await _move(by)
        return task.result()
    finally:
        task.cancel()


async def at_once(waiting: Awaitable[Found]) -> Found:
    """Return what an awaitable returns while the clock stands still: it needs no timer.

    A limit in real seconds would be too short for a busy machine, or too long for a late timer.
    """
    loop = asyncio.get_running_loop()
    moving, now, since = loop.time, loop.time(), time.monotonic()
    loop.time = lambda: now  # type: ignore[method-assign]
    task = asyncio.ensure_future(waiting)
    try:
        while not task.done():
            assert time.monotonic() - since < WAIT_SECONDS, "it does not happen without a timer"
            await asyncio.sleep(0)
        return task.result()
    finally:
        task.cancel()
        loop.time = moving  # type: ignore[method-assign]


async def _move(seconds: float) -> None:
    skip(seconds)
    for _ in range(TURNS):
        await asyncio.sleep(0)
