"""Start the server like a service manager does, with passed descriptors from 3 on."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from process import LINE_BYTES, ROOT, START_SECONDS, Signaller, supervised

# LISTEN_PID must be the id of the listening process: exec keeps it.
_WRAPPER = """
import fcntl, os, sys
count = int(sys.argv[1])
found = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[2 : 2 + count]]
for number, descriptor in enumerate(found, 3):
    os.dup2(descriptor, number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count), LISTEN_FDNAMES="a")
os.execv(sys.executable, [sys.executable, *sys.argv[2 + count :]])
"""


def command(descriptors: Sequence[int], *args: str) -> list[str]:
    """Return the command that runs the server with these descriptors, which must be passed on."""
    numbers = [str(len(descriptors)), *map(str, descriptors)]
    return [sys.executable, "-c", _WRAPPER, *numbers, "-m", "videre", *args]


def environ(**variables: str) -> dict[str, str]:
    """Return its environment."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


@asynccontextmanager
async def activated(
    listening: socket.socket, *args: str, variables: Mapping[str, str]
) -> AsyncIterator[Signaller]:
    """Run a server on a socket that the test keeps; at the end it must stop cleanly."""
    process = await asyncio.create_subprocess_exec(
        *command([listening.fileno()], *args),
        pass_fds=[listening.fileno()],
        env=environ(**variables),
        stdout=PIPE,
        stderr=STDOUT,
        limit=LINE_BYTES,
    )
    async with supervised(process) as running:
        yield running


async def refused(descriptors: Sequence[int], *args: str, **variables: str) -> str:
    """Return the command's message about these descriptors, which must exit with code 2."""
    process = await asyncio.create_subprocess_exec(
        *command(descriptors, *args),
        pass_fds=descriptors,
        env=environ(**variables),
        stdout=PIPE,
        stderr=PIPE,
    )
    async with asyncio.timeout(START_SECONDS):
        out, errors = await process.communicate()
    assert (process.returncode, out) == (2, b""), errors.decode()
    return errors.decode()
