"""The log's file: rotated by size, opened again for logrotate, and written whatever happens to it.

A file that cannot be rotated, or not be opened again, goes on as it is: that is said once, and
tried again with each write. A file that was removed is made again.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

from videre.logs.writers import Unwritten, complain

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class File:
    """A Target: a file that is rotated before it grows beyond `max_bytes` (0: never).

    `backups` older files are kept, as name.1 (the youngest), name.2 and so on. Raises OSError if it
    cannot be opened at first. `tell` hears of what goes wrong while lines are still written.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        backups: int,
        tell: Callable[[str], None] = complain,
    ) -> None:
        self.name = f"log {str(path)!r}"
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._tell = tell
        self._file: int | None = None
        self._size = 0
        self._written = 0  # lines, of those that are written now
        self._moved = False  # the file that is open has another name, for want of a new one
        self._rotates = True  # unless it has just been tried in vain
        self._told = ""  # what `tell` has heard of that still lasts
        self._open()

    def write(self, lines: list[str]) -> None:
        """See Target.write."""
        self._written = 0
        self._rotates = True
        try:
            if self._file is None or self._is_removed():
                self._open()
            elif self._moved:
                self.reopen()
            self._write(lines)
        except OSError as error:
            self.close()
            raise Unwritten(error, len(lines) - self._written) from None

    def reopen(self) -> None:
        """See Target.reopen: who rotates the file has moved it away.

        Raises OSError if there is no file to go on in.
        """
        try:
            self._open()
        except OSError as error:
            if self._file is None or self._is_removed():
                raise
            self._moved = True
            self._go_on(
                f"cannot open the {self.name}: {error.strerror}; still writing to the old file"
            )

    def close(self) -> None:
        """See Target.close."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # of a write that has been told of already
                os.close(file)

    def _open(self) -> None:
        """Go on in what has the name now; in what is open, if that fails."""
        file = os.open(self._path, _FLAGS, 0o640)
        self.close()
        self._file = file
        self._size = os.fstat(file).st_size
        self._moved = False
        if not self._max_bytes or self._size < self._max_bytes:  # else it still cannot be rotated
            self._told = ""

    def _write(self, lines: list[str]) -> None:
        batch: list[bytes] = []
        size = self._size
        for line in lines:
            data = f"{line}\n".encode(errors="backslashreplace")
            is_full = self._max_bytes and size and size + len(data) > self._max_bytes
            if is_full and self._rotates:
                self._append(batch)
                self._rotate()
                batch, size = [], self._size
            batch.append(data)
            size += len(data)
        self._append(batch)

    def _append(self, batch: list[bytes]) -> None:
        data = b"".join(batch)
        if self._file is None or not data:
            return
        written = os.write(self._file, data)
        if written < len(data):
            # The disk is full: what is left of a line is no JSON.
            whole = data.rfind(b"\n", 0, written) + 1
            with contextlib.suppress(OSError):  # a device that cannot be cut
                os.ftruncate(self._file, self._size + whole)
            self._written += data.count(b"\n", 0, whole)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._written += len(batch)
        self._size += written

    def _rotate(self) -> None:
        if self._moved:
            self._rotates = False
            return
        try:
            self._shift()
        except OSError as error:
            if isinstance(error, FileNotFoundError) or not self._has_its_name():
                self._open()  # somebody has moved it, or its folder
            else:
                self._go_on(f"cannot rotate the {self.name}: {error.strerror}; it keeps growing")
        else:
            self.reopen()

    def _shift(self) -> None:
        """Give each file the name of the next older one; without backups, empty the only one."""
        if self._file is not None and not self._backups:
            if self._has_its_name():  # else it is somebody's, who has moved it away
                os.ftruncate(self._file, 0)
            return
        numbers = range(1, self._backups + 1)
        names = [self._path, *(Path(f"{self._path}.{number}") for number in numbers)]
        # Only up to a name that is free: a try that fails again and again must not lose backups.
        free = next((number for number in numbers if not os.path.lexists(names[number])), None)
        for younger, older in reversed(list(itertools.pairwise(names[: (free or len(names)) + 1]))):
            younger.replace(older)

    def _is_removed(self) -> bool:
        return self._file is not None and os.fstat(self._file).st_nlink == 0

    def _has_its_name(self) -> bool:
        """Tell whether the file that is open is the one that has the name, as far as we may see."""
        try:
            named = self._path.stat()
        except PermissionError:
            return True
        except OSError:
            return False
        return self._file is not None and os.path.samestat(named, os.fstat(self._file))

    def _go_on(self, why: str) -> None:
        self._rotates = False
        if why != self._told:
            self._told = why
            self._tell(why)
