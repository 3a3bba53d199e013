"""The clock of the running event loop, which tests move ahead instead of waiting.

Sockets and processes stay real. What is in flight during a skip is that much older after it, so
skip when nothing is, or no further than its time-out allows.
"""

from __future__ import annotations

import asyncio


def skip(seconds: float) -> None:
    """Move the running loop's clock ahead; timers that are due by then fire in its next turn."""
    loop = asyncio.get_running_loop()
    real = type(loop).time
    ahead = loop.time() - real(loop) + seconds
    loop.time = lambda: real(loop) + ahead  # type: ignore[method-assign]
