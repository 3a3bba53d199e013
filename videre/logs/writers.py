"""Writers: threads that write lines to a file or the terminal.

The event loop never waits for a disk or a terminal. Lines that they cannot take are dropped and
counted; the count is logged once writing works again.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

# Lines that may wait for a writer before new ones are dropped: about 25 MB, or the 25 s in which a
# busy server at `debug` records them.
QUEUE_LINES = 50_000

# Seconds that a writer collects lines before it writes them together.
PAUSE = 0.05

# Seconds to wait for the writers when the process exits: a terminal may block forever.
END_SECONDS = 2.0

# Seconds after which to retry a failed target even without new lines.
RETRY = 1.0

Line = Callable[[], str]

#: Why lines were lost: they came faster than the target took them, or it failed.
LOSSES = ("queue-full", "unwritable")


class Target(Protocol):
    """A destination for lines."""

    name: str

    def write(self, lines: list[str]) -> None:
        """Write all lines; raise Unwritten if only some were written, else OSError."""

    def reopen(self) -> None:
        """Switch to the file that now has the target's name; raise OSError on failure."""

    def close(self) -> None:
        """Close the target."""


class Unwritten(OSError):
    """The last `left` lines were not written; the others were."""

    def __init__(self, error: OSError, left: int) -> None:
        super().__init__(error.errno, error.strerror)
        self.left = left


class Output:
    """Target for standard output (1) or standard error (2), without Python's buffer and lock."""

    def __init__(self, number: int) -> None:
        self.name = "terminal"
        self._number = number

    def write(self, lines: list[str]) -> None:
        """See Target.write."""
        data = "".join(f"{line}\n" for line in lines).encode(errors="replace")
        while data:
            try:
                data = data[os.write(self._number, data) :]
            except BlockingIOError:  # another process made it non-blocking; this thread may wait
                select.select((), (self._number,), ())

    def reopen(self) -> None:
        """See Target.reopen; an output has nothing to reopen."""

    def close(self) -> None:
        """See Target.close."""


def end(writers: Sequence[Writer]) -> None:
    """End the writers; wait until they have written everything, at most END_SECONDS."""
    for writer in writers:
        writer.end()
    latest = time.monotonic() + END_SECONDS
    for writer in writers:
        writer.join(max(0.0, latest - time.monotonic()))


class Writer(threading.Thread):
    """Writes lines to a target. `tell_lost` makes the line that reports a number of lost lines."""

    def __init__(self, target: Target, tell_lost: Callable[[int], str]) -> None:
        super().__init__(name=f"videre {target.name}", daemon=True)
        self._target = target
        self._tell_lost = tell_lost
        self._lines: collections.deque[tuple[Line, int]] = collections.deque()
        self._awake = threading.Event()
        self._ending = threading.Event()
        self._reopening = threading.Event()
        self._put = 0  # lines ever queued; `put` counts them
        self._taken = 0  # how many of these the thread has taken
        self._dropped = 0  # lines put when the queue was full; `put` counts them
        self._told = 0  # how many of these the thread has accounted for
        self._refused = 0  # lines not written and not yet reported in the log
        self._unwritable = 0  # lines put that the target failed to write
        self._failing = False

    def put(self, line: Line, count: int = 1) -> None:
        """Queue a function that makes a line, or `count` lines; the thread calls it."""
        if self._put - self._taken >= QUEUE_LINES:
            self._dropped += count
            return
        self._put += count
        self._lines.append((line, count))
        if not self._awake.is_set():
            self._awake.set()

    @property
    def losses(self) -> dict[str, int]:
        """Number of lines passed to `put` but not written, by reason (see LOSSES)."""
        return dict(zip(LOSSES, (self._dropped, self._unwritable), strict=True))

    def run(self) -> None:
        """Write lines until `end`, then the remaining ones."""
        # Else one that comes late, while the process exits, could kill it by way of this thread.
        if hasattr(signal, "pthread_sigmask"):  # Windows has none
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._ending.is_set():
            self._awake.wait(RETRY if self._refused else None)
            self._ending.wait(PAUSE)
            self._awake.clear()
            # Looked at first: what comes during the write, with lines before it, is for the next.
            reopening = self._reopening.is_set()
            self._write()
            if reopening:
                self._reopening.clear()
                self._reopen()
        self._write()
        self._target.close()

    def reopen(self) -> None:
        """Ask the thread to write the waiting lines, then to reopen the target."""
        self._reopening.set()
        self._awake.set()

    def end(self) -> None:
        """Ask the thread to write the remaining lines and exit; `join` waits for it."""
        self._ending.set()
        self._awake.set()

    def _write(self) -> None:
        makers = [self._lines.popleft() for _ in range(len(self._lines))]
        self._taken += sum(count for _, count in makers)
        dropped = self._dropped - self._told
        self._told += dropped
        made = [self._made(make) for make, _ in makers]
        lines = [each for line in made if line for each in line.split("\n")]
        # Report losses in their place: refused lines came before these, dropped ones after.
        before = [self._tell_lost(self._refused)] if self._refused else []
        after = [self._tell_lost(dropped)] if dropped else []
        if not (before or lines or after):
            return
        try:
            self._target.write([*before, *lines, *after])
        except OSError as error:
            left = error.left if isinstance(error, Unwritten) else len(before + lines + after)
            self._lose(sum(count for _, count in makers), lines, left - len(after))
            self._refused += dropped
            if not self._failing:
                self._failing = True
                complain(f"cannot write the {self._target.name}: {error.strerror}")
        else:
            self._failing = False
            self._refused = 0

    def _lose(self, records: int, lines: list[str], left: int) -> None:
        """Count the last `left` of `lines`, made from `records` records, as not written.

        If `left` exceeds the number of lines, the preceding report of earlier losses failed too.
        """
        if left <= len(lines):
            self._refused = 0
        lost = min(left, len(lines))
        self._refused += lost
        self._unwritable += records if lost == len(lines) else min(records, lost)

    def _reopen(self) -> None:
        try:
            self._target.reopen()
        except OSError as error:  # the next write tries again
            complain(f"cannot open the {self._target.name}: {error.strerror}")

    @staticmethod
    def _made(make: Line) -> str:
        try:
            return make()
        except Exception as error:
            return f'{{"event": "log-record-unreadable", "error": "{type(error).__name__}"}}'


def complain(text: str) -> None:
    """Report a fault of the log on standard error, if there is one."""
    # Standard error may be full, closed, or missing.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"videre: {text}\n")
        sys.stderr.flush()
