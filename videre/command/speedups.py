"""Process-wide tuning: the event loop and the garbage collector (docs/performance.md)."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable

# Allocations minus deallocations between two collections of the young generation; the middle and
# the old generation follow every 5 and 250 of these. Python's default is 700, 10, 10. A collection
# of so many young objects blocks for about a millisecond. With rarer old collections, garbage of
# closed connections added a quarter to the memory under attack.
GC_THRESHOLD = (2_000, 5, 50)

# Memory blocks allocated since the start, up to which a full collection is short: it takes about
# 250 ns per block (530 ms for the 2.2 million of 50,000 sessions in 50,000 rooms).
FEW_BLOCKS = 150_000

# Seconds between two checks whether there are few blocks again.
THAW_SECONDS = 30.0


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return a factory for the fastest installed event loop; None for Python's default."""
    try:
        import uvloop
    except ImportError:  # not available on this platform
        # The default loop on Windows has no add_reader, which accepting needs.
        return asyncio.SelectorEventLoop if sys.platform == "win32" else None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class Collector:
    """Keeps garbage collections short, however many objects there are.

    A full collection takes time in proportion to all objects: 0.5 s for 50,000 sessions, in which
    nobody is served. So, above FEW_BLOCKS, objects that survive a collection of the middle
    generation are frozen. Reference counting still frees them. A frozen cycle would leak, but
    sessions leave no cycles that old (tests/command/test_cli_speedups.py); `thaw` collects all
    objects when there are few again.
    """

    def __init__(self) -> None:
        self._base = 0
        self._frozen = False

    def start(self) -> None:
        """Start; call it once all permanent objects exist."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        self._base = sys.getallocatedblocks()
        if self._after not in gc.callbacks:
            gc.callbacks.append(self._after)

    def stop(self) -> None:
        """Stop freezing; leave the collector's settings as they are."""
        if self._after in gc.callbacks:
            gc.callbacks.remove(self._after)

    @property
    def _much(self) -> bool:
        return sys.getallocatedblocks() - self._base > FEW_BLOCKS

    def _after(self, phase: str, info: dict[str, int]) -> None:
        """Freeze the survivors of a collection; the collector calls this before and after each."""
        if phase == "stop" and info["generation"] == 1 and self._much:
            gc.freeze()
            self._frozen = True

    def thaw(self) -> None:
        """Collect the frozen objects if that is quick; call it periodically."""
        if self._frozen and not self._much:
            self._frozen = False
            gc.unfreeze()
            gc.collect()
            gc.freeze()


_COLLECTOR = Collector()


async def keep_thawed() -> None:
    """Collect the frozen objects whenever that is quick; a task for the life of the process."""
    while True:
        await asyncio.sleep(THAW_SECONDS)
        _COLLECTOR.thaw()


def tune_garbage_collection() -> None:
    """Collect long-lived objects less often: the collector took an eighth of a relay's time.

    Packets create no cycles; those left behind by closed connections wait for a while. Call this
    once all permanent objects exist.
    """
    _COLLECTOR.start()
