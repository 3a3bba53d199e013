"""Writers: what puts lines into a file or on the terminal, in threads of their own.

The event loop never waits for a disk or a terminal. What they cannot take is dropped and counted,
and the count is written as soon as there is room again.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

# Lines that wait for a writer, before new ones are dropped: some 2 MB.
QUEUE_LINES = 10_000

# Seconds for which a writer collects lines, to write them at once.
PAUSE = 0.05

# Seconds that the end of the process waits for a writer: a terminal may stand still for ever.
END_SECONDS = 2.0

# Seconds after which a target that failed is tried again, though there be nothing new to write.
RETRY = 1.0

Line = Callable[[], str]

#: What has become of lines that were not written: they came too fast for a disk or a terminal, or
#: that took nothing.
LOSSES = ("queue-full", "unwritable")


class Target(Protocol):
    """Where lines go."""

    name: str

    def write(self, lines: list[str]) -> None:
        """Write all of these lines, or raise OSError; Unwritten if some of them were written."""

    def reopen(self) -> None:
        """Write to what has the target's name now, or raise OSError."""

    def close(self) -> None:
        """Let go of it."""


class Unwritten(OSError):
    """The last `left` of some lines were not written, the others were."""

    def __init__(self, error: OSError, left: int) -> None:
        super().__init__(error.errno, error.strerror)
        self.left = left


class Output:
    """An output of the process, without Python's buffer and its lock: 1 or 2, standard or error."""

    def __init__(self, number: int) -> None:
        self.name = "terminal"
        self._number = number

    def write(self, lines: list[str]) -> None:
        """See Target.write."""
        data = "".join(f"{line}\n" for line in lines).encode(errors="replace")
        while data:
            try:
                data = data[os.write(self._number, data) :]
            except BlockingIOError:  # who shares it with us does not want to wait; this thread may
                select.select((), (self._number,), ())

    def reopen(self) -> None:
        """See Target.reopen; an output stays what it is."""

    def close(self) -> None:
        """See Target.close."""


def end(writers: Sequence[Writer]) -> None:
    """Wait until these writers have written all, for END_SECONDS at most."""
    for writer in writers:
        writer.end()
    latest = time.monotonic() + END_SECONDS
    for writer in writers:
        writer.join(max(0.0, latest - time.monotonic()))


class Writer(threading.Thread):
    """Writes lines to a target. `tell_lost` makes the line that tells how many were lost."""

    def __init__(self, target: Target, tell_lost: Callable[[int], str]) -> None:
        super().__init__(name=f"videre {target.name}", daemon=True)
        self._target = target
        self._tell_lost = tell_lost
        self._lines: collections.deque[tuple[Line, int]] = collections.deque()
        self._awake = threading.Event()
        self._ending = threading.Event()
        self._reopening = threading.Event()
        self._dropped = 0  # lines that came when the queue was full, counted by who puts them
        self._told = 0  # of these, as far as they have been told of
        self._refused = 0  # lines that were not written, and that no line has told of
        self._unwritable = 0  # of what was put, what the target did not take
        self._failing = False

    def put(self, line: Line, count: int = 1) -> None:
        """Hand over what makes a line, or `count` of them, to be called in the thread."""
        if len(self._lines) >= QUEUE_LINES:
            self._dropped += count
            return
        self._lines.append((line, count))
        if not self._awake.is_set():
            self._awake.set()

    @property
    def losses(self) -> dict[str, int]:
        """How many of the lines that were put have not been written, by LOSSES."""
        return dict(zip(LOSSES, (self._dropped, self._unwritable), strict=True))

    def run(self) -> None:
        """Write until the end, and then what is left."""
        while not self._ending.is_set():
            self._awake.wait(RETRY if self._refused else None)
            self._ending.wait(PAUSE)
            self._awake.clear()
            self._write()
            if self._reopening.is_set():
                self._reopening.clear()
                self._reopen()
        self._write()
        self._target.close()

    def reopen(self) -> None:
        """Ask the thread to write what there is, and from then on to what has the name now."""
        self._reopening.set()
        self._awake.set()

    def end(self) -> None:
        """Ask the thread to write what is left and to end; `join` waits for it."""
        self._ending.set()
        self._awake.set()

    def _write(self) -> None:
        makers = [self._lines.popleft() for _ in range(len(self._lines))]
        dropped = self._dropped - self._told
        self._told += dropped
        made = [self._made(make) for make, _ in makers]
        lines = [each for line in made if line for each in line.split("\n")]
        # Losses are told where they are: what was refused came before, what was dropped after.
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
        """Count lines, made of so many records, of which `left` were not written.

        If that is more than there are, the line before them, which tells of others, is one of them.
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
    """Say what is wrong with the log on the standard error output, if there is one."""
    # There may be nobody left to tell: an output that is full, closed, or was never there.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"videre: {text}\n")
        sys.stderr.flush()
