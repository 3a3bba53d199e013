"""What makes a process faster, and is the process's to decide (docs/performance.md)."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable

# Objects that are made, less those that are freed, between two runs of the young generation; the
# middle and the old one follow after 5 and 50 of these. Python's default is 700, 10, 10. One run
# over so many young objects takes about a millisecond, which others wait. Where the old one's runs
# were rarer, what connections left behind added a quarter to the memory under attack.
GC_THRESHOLD = (10_000, 5, 10)

# Blocks of memory, of what was made since the start, up to which a run over all of it is short: it
# takes some 250 ns for each (530 ms for the 2.2 million of 50,000 sessions in 50,000 rooms).
FEW_BLOCKS = 150_000

# Seconds between two looks at whether there are few again.
THAW_SECONDS = 30.0


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the fastest event loop that is installed; None for Python's own."""
    try:
        import uvloop
    except ImportError:  # a platform that has none
        # The default loop of Windows cannot say when a socket has a connection to accept.
        return asyncio.SelectorEventLoop if sys.platform == "win32" else None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class Collector:
    """Keeps the runs of the garbage collector short, however much there is.

    A run over all objects takes as long as there are many: 0.5 s for 50,000 sessions, in which
    nobody is served. So what has lived through a run of the middle generation is frozen, where
    there is much: it is freed as ever when nothing refers to it. A cycle that is frozen would stay,
    but sessions leave none that is so old (tests/test_cli_speedups.py); when there is little again
    all of it is thawed, and looked at.
    """

    def __init__(self) -> None:
        self._base = 0
        self._frozen = False

    def start(self) -> None:
        """Begin, when all that lives as long as the process has been made."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)
        self._base = sys.getallocatedblocks()
        if self._after not in gc.callbacks:
            gc.callbacks.append(self._after)

    def stop(self) -> None:
        """Leave the collector as it is."""
        if self._after in gc.callbacks:
            gc.callbacks.remove(self._after)

    @property
    def _much(self) -> bool:
        return sys.getallocatedblocks() - self._base > FEW_BLOCKS

    def _after(self, phase: str, info: dict[str, int]) -> None:
        """Freeze what is left by a run: the collector calls this before and after each."""
        if phase == "stop" and info["generation"] == 1 and self._much:
            gc.freeze()
            self._frozen = True

    def thaw(self) -> None:
        """Look at everything that was frozen, if that takes no time; to be called now and then."""
        if self._frozen and not self._much:
            self._frozen = False
            gc.unfreeze()
            gc.collect()
            gc.freeze()


_COLLECTOR = Collector()


def thaw() -> None:
    """Look at what the collector has frozen, if that takes no time."""
    _COLLECTOR.thaw()


def tune_garbage_collection() -> None:
    """Let the collector look less often at what lives long: it took an eighth of a relay's time.

    What is made per packet forms no cycles; those of a connection that ends wait for a while. To be
    called when all that lives as long as the process has been made.
    """
    _COLLECTOR.start()
