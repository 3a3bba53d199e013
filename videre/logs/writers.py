"""Writers: what puts lines into a file or on the terminal, in threads of their own.

The event loop never waits for a disk or a terminal. What they cannot take is dropped and counted,
and the count is written as soon as there is room again.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

# Lines that wait for a writer, before new ones are dropped: some 2 MB.
QUEUE_LINES = 10_000

# Seconds for which a writer collects lines, to write them at once.
PAUSE = 0.05

# Seconds that the end of the process waits for a writer: a terminal may stand still for ever.
END_SECONDS = 2.0

Line = Callable[[], str]

#: What has become of lines that were not written: they came too fast for a disk or a terminal, or
#: that took nothing.
LOSSES = ("queue-full", "unwritable")


class Target(Protocol):
    """Where lines go."""

    name: str

    def write(self, lines: list[str]) -> None:
        """Write all of these lines, or raise OSError."""

    def reopen(self) -> None:
        """Write to what has the target's name now, or raise OSError."""

    def close(self) -> None:
        """Let go of it."""


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


class File:
    """A file that is rotated before it grows beyond `max_bytes` (0: never).

    `backups` older files are kept, as name.1 (the youngest), name.2 and so on. Opened anew after
    each failure. Raises OSError if it cannot be opened at first.
    """

    def __init__(self, path: Path, *, max_bytes: int, backups: int) -> None:
        self.name = f"log {str(path)!r}"
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._file: int | None = None
        self._size = 0
        self._open()

    def write(self, lines: list[str]) -> None:
        """See Target.write."""
        try:
            if self._file is None:
                self._open()
            self._write(lines)
        except OSError:
            self.close()
            raise

    def reopen(self) -> None:
        """See Target.reopen: who rotates the file has moved it away."""
        self.close()
        self._open()

    def close(self) -> None:
        """See Target.close."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # of a write that has been told of already
                os.close(file)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._file).st_size

    def _write(self, lines: list[str]) -> None:
        batch: list[bytes] = []
        size = self._size
        for line in lines:
            data = f"{line}\n".encode(errors="backslashreplace")
            if self._max_bytes and size and size + len(data) > self._max_bytes:
                self._append(b"".join(batch))
                self._rotate()
                batch, size = [], 0
            batch.append(data)
            size += len(data)
        self._append(b"".join(batch))

    def _append(self, data: bytes) -> None:
        if self._file is None or not data:
            return
        written = os.write(self._file, data)
        if written < len(data):
            # The disk is full: what is left of a line is no JSON.
            whole = data.rfind(b"\n", 0, written) + 1
            with contextlib.suppress(OSError):  # a device that cannot be cut
                os.ftruncate(self._file, self._size + whole)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written

    def _rotate(self) -> None:
        self.close()
        if self._backups:
            numbers = range(1, self._backups + 1)
            names = [self._path, *(Path(f"{self._path}.{number}") for number in numbers)]
            for younger, older in reversed(list(itertools.pairwise(names))):
                with contextlib.suppress(FileNotFoundError):
                    younger.replace(older)
        else:
            os.truncate(self._path, 0)
        self._open()


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
        self._refused = 0  # lines that the target did not take, and nobody was told of
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
            self._awake.wait()
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
        lines = [self._made(make) for make, _ in makers]
        # Losses are told where they are: what was refused came before, what was dropped after.
        if self._refused and (lines or dropped):
            lines.insert(0, self._tell_lost(self._refused))
        if dropped:
            lines.append(self._tell_lost(dropped))
        if not lines:
            return
        single = [each for line in lines if line for each in line.split("\n")]
        try:
            self._target.write(single)
        except OSError as error:
            self._refused += dropped + len(single)
            self._unwritable += sum(count for _, count in makers)
            if not self._failing:
                self._failing = True
                _complain(f"videre: cannot write the {self._target.name}: {error.strerror}\n")
        else:
            self._failing = False
            self._refused = 0

    def _reopen(self) -> None:
        try:
            self._target.reopen()
        except OSError as error:  # the next write tries again
            _complain(f"videre: cannot open the {self._target.name}: {error.strerror}\n")

    @staticmethod
    def _made(make: Line) -> str:
        try:
            return make()
        except Exception as error:
            return f'{{"event": "log-record-unreadable", "error": "{type(error).__name__}"}}'


def _complain(text: str) -> None:
    # There may be nobody left to tell: an output that is full, closed, or was never there.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text)
        sys.stderr.flush()
