"""The log file: rotated by size, reopened for logrotate, and written as long as possible.

If rotating or reopening fails, the current file stays in use; the fault is reported once, and each
write tries again. A file that was removed is created again.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

from videre.logs.writers import Unwritten, complain

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class File:
    """A Target: a file that is rotated before it grows beyond `max_bytes` (0: never).

    Keeps `backups` older files: name.1 (the newest), name.2 and so on. A device, a pipe or a link
    through /dev or /proc, such as /dev/stdout, is never rotated: it would be renamed. Any other
    link is followed: its target is rotated, in the target's folder. Raises OSError if it cannot be
    opened at first, as a pipe without a reader. `tell` is called with faults that do not lose
    lines.
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
        self._limit = 0  # bytes at which to rotate the open file; 0: never
        self._written = 0  # lines written by the current `write`
        self._moved = False  # the open file was renamed, and reopening failed
        self._rotates = True  # False after a failed attempt, until the next `write`
        self._told = ""  # the fault that `tell` was last called with, while it lasts
        if path.is_fifo():
            self._open_pipe()
        else:
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
        """See Target.reopen; logrotate has moved the file.

        Raises OSError only if the old file is unusable too.
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
            with contextlib.suppress(OSError):  # of a write that was reported already
                os.close(file)

    def _open_pipe(self) -> None:
        """Open a pipe at first: at once, while the writer's thread may later wait for a reader."""
        try:
            file = self._open(os.O_NONBLOCK)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise OSError(error.errno, "is a pipe that no process reads") from None
            raise
        os.set_blocking(file, True)  # a write waits until the reader has made room

    def _open(self, flags: int = 0) -> int:
        """Switch to the file that now has the name; on OSError, keep the open one."""
        file = os.open(self._path, _FLAGS | flags, 0o640)
        self.close()
        self._file = file
        status = os.fstat(file)
        self._size = status.st_size
        rotates = stat.S_ISREG(status.st_mode) and not _is_of_the_system(self._path)
        self._limit = self._max_bytes if rotates else 0
        self._moved = False
        if not self._limit or self._size < self._limit:  # else rotating still fails
            self._told = ""
        return file

    def _write(self, lines: list[str]) -> None:
        batch: list[bytes] = []
        size = self._size
        for line in lines:
            data = f"{line}\n".encode(errors="backslashreplace")
            is_full = self._limit and size and size + len(data) > self._limit
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
            # The disk is full. Cut off the partial line, which is not valid JSON.
            whole = data.rfind(b"\n", 0, written) + 1
            with contextlib.suppress(OSError):  # a device that cannot be truncated
                end = os.lseek(self._file, 0, os.SEEK_CUR)
                if end == os.fstat(self._file).st_size:  # else another worker has written since
                    os.ftruncate(self._file, end - written + whole)
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
                self._open()  # another process moved it, or its folder
            else:
                self._go_on(f"cannot rotate the {self.name}: {error.strerror}; it keeps growing")
        else:
            self.reopen()

    def _shift(self) -> None:
        """Rename each file to the next older name; without backups, truncate the only file."""
        if self._file is not None and not self._backups:
            if self._has_its_name():  # else another process moved it, and it is theirs
                os.ftruncate(self._file, 0)
            return
        numbers = range(1, self._backups + 1)
        path = self._path.resolve()
        names = [path, *(Path(f"{path}.{number}") for number in numbers)]
        # Stop at the first free name: repeated failed attempts must not lose backups.
        free = next((number for number in numbers if not os.path.lexists(names[number])), None)
        for younger, older in reversed(list(itertools.pairwise(names[: (free or len(names)) + 1]))):
            younger.replace(older)

    def _is_removed(self) -> bool:
        return self._file is not None and os.fstat(self._file).st_nlink == 0

    def _has_its_name(self) -> bool:
        """Tell whether the open file still has its name; True if we lack permission to look."""
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


def is_plain(path: Path) -> bool:
    """Tell whether a log's name is that of a plain file, or of one that will be created."""
    try:
        return not path.exists() or (path.is_file() and not _is_of_the_system(path))
    except OSError:  # opening it will report that
        return True


def _is_of_the_system(path: Path) -> bool:
    """Tell whether a name is a link in /dev or /proc, or leads through one.

    The file behind it may be a regular one: that of a redirected output.
    """
    while path.is_symlink():
        folder = path.parent.resolve()
        if folder.parts[1:2] in (("dev",), ("proc",)):
            return True
        path = folder / path.readlink()
    return False
