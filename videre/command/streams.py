"""The standard streams: what the command says to people, if anybody listens.

A server goes on without them: a supervisor may have closed them, or have stopped reading.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def fill() -> None:
    """Open the null device as each standard stream that is closed.

    Else the next file or socket gets its number, and what is written to the stream goes there. To
    be called before anything is opened.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


def tell(text: str) -> None:
    """Write a text on the standard output, if that takes it: one write, whole lines."""
    _write(1, text)


def complain(*sentences: str) -> None:
    """Say what is wrong on the standard error output, a line for each sentence."""
    _write(2, "".join(f"videre-server: {sentence}\n" for sentence in sentences))


def _write(number: int, text: str) -> None:
    data = text.encode(errors="backslashreplace")
    # Without Python's buffer: what cannot be flushed would end the process with code 120.
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(number, data) :]
