"""Start the server like a service manager does, with passed descriptors from 3 on."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import forked
import oneshot
from process import ROOT, Signaller, supervised

from videre.command import systemd


def environ(**variables: str) -> dict[str, str]:
    """Return its environment."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


@asynccontextmanager
async def activated(
    listening: socket.socket,
    *args: str,
    variables: Mapping[str, str],
    code: str = forked.VIDERE,
) -> AsyncIterator[Signaller]:
    """Run a server on a socket that the test keeps; at the end it must stop cleanly."""
    process = await forked.start(
        code,
        args,
        cwd=Path.cwd(),
        environ=environ(**variables),
        listening=[listening.fileno()],
    )
    async with supervised(process) as running:
        yield running


def refused(descriptors: Sequence[int], *args: str, **variables: str) -> str:
    """Return the command's message about these descriptors, which must exit with code 2."""
    told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(descriptors))}
    with numbered(descriptors[0]):
        done = oneshot.run(*args, environ=environ(**told, **variables), default_config=None)
    assert (done.returncode, done.stdout) == (2, ""), done
    return done.stderr


@contextmanager
def numbered(descriptor: int) -> Iterator[None]:
    """Have this process take a copy of `descriptor` for the first that it was passed.

    Number 3 itself is in use here, by pytest-xdist among others.
    """
    with patch.object(systemd, "FIRST", os.dup(descriptor)):
        try:
            yield
        finally:
            with suppress(OSError):  # closed already
                os.close(systemd.FIRST)
