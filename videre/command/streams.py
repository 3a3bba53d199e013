"""Messages on the standard streams, for people.

A server keeps running without the streams: a supervisor may have closed them or stopped reading.
What a stream does not take in time is lost.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from pathlib import Path

# Milliseconds to wait for a reader that is behind.
PATIENCE_MS = 100

# Bytes that a pipe takes without blocking once it is writable (POSIX's least is 512).
PIECE = getattr(select, "PIPE_BUF", 512)


def fill() -> None:
    """Open the null device for each closed standard stream.

    Otherwise the next file or socket gets its number, and receives what is written to the stream.
    Call this before opening anything.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def tell(text: str) -> None:
    """Write whole lines to standard output; ignore errors."""
    _write(1, text)


def complain(*sentences: str) -> None:
    """Write each sentence as a line to standard error; ignore errors."""
    _write(2, "".join(f"videre-server: {sentence}\n" for sentence in sentences))


def _write(number: int, text: str) -> None:
    data = text.encode(errors="backslashreplace")
    # Bypass Python's buffer: if flushing failed at exit, the process would exit with 120.
    with contextlib.suppress(OSError):
        while data and _is_writable(number):
            data = data[os.write(number, data[:PIECE]) :]


def _is_writable(number: int) -> bool:
    """Tell whether a stream can be written without blocking, now or in PATIENCE_MS."""
    if not hasattr(select, "poll"):  # Windows can only wait for sockets
        return True
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return bool(poll.poll(PATIENCE_MS))
