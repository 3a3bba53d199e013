"""What makes a process faster, and is the process's to decide (docs/performance.md)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

# Objects that are made, less those that are freed, between two runs of the young generation; the
# middle and the old one follow after 10 and 100 of these. Python's default is 700, 10, 10. One run
# over so many young objects takes about a millisecond, which others wait. Where the old one's runs
# were rarer, what connections left behind added a quarter to the memory under attack.
GC_THRESHOLD = (10_000, 10, 10)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the fastest event loop that is installed; None for Python's own."""
    try:
        import uvloop
    except ImportError:  # a platform that has none
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def tune_garbage_collection() -> None:
    """Let the collector look less often at what lives long: it took an eighth of a relay's time.

    What is made per packet forms no cycles; those of a connection that ends wait for a while. To be
    called when all that lives as long as the process has been made.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
