"""Start the command in a process that is forked from one that has imported it.

Its imports are most of what a start costs: 0.3 s of 0.4. The process is otherwise as real as any:
with its own pid, signals, descriptors, environment and exit code.
"""

from __future__ import annotations

import asyncio
import fcntl
import multiprocessing
import os
import signal
import sys
from asyncio import StreamReader, StreamReaderProtocol
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any
from unittest.mock import patch

#: Code for `start`: python -m videre.
VIDERE = "import runpy; runpy.run_module('videre', run_name='__main__')"

FIRST = 3  # the number of the first descriptor that a service manager passes
LINE_BYTES = 1 << 20  # a log line may quote a whole packet

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["preloaded"])


class Forked:
    """A process with what tests use of asyncio.subprocess.Process."""

    def __init__(
        self, process: ForkServerProcess, stdout: StreamReader | None, stderr: StreamReader | None
    ) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.stdout, self.stderr = stdout, stderr
        self._process = process
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(process.sentinel, self._end)

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""
        return self._process.exitcode

    async def wait(self) -> int:
        """Wait for its end, and return its code."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait for its end, and return the rest of its output and of its errors."""
        streams = [stream.read() for stream in (self.stdout, self.stderr) if stream is not None]
        read = await asyncio.gather(*streams)
        await self.wait()
        return b"" if self.stdout is None else read[0], b"" if self.stderr is None else read[-1]

    def send_signal(self, number: int) -> None:
        """Send it a signal unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):  # it has just ended: its code is on its way
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._ended.set()


async def start(
    code: str,
    args: Sequence[str] = (),
    *,
    cwd: Path,
    environ: Mapping[str, str],
    stdin: int | None = None,
    stdout: int = PIPE,
    stderr: int = STDOUT,
    listening: Sequence[int] = (),
) -> Forked:
    """Run Python code in `cwd` with these arguments and this environment.

    `stdin` is a descriptor (by default the null device); `stdout` and `stderr` are as in
    asyncio.create_subprocess_exec. `listening` are descriptors that it gets from 3 on, with the
    variables that a service manager sets.
    """
    sys.audit("subprocess.Popen", sys.executable, list(args), str(cwd), dict(environ))  # for --fast
    _start_server()
    await asyncio.to_thread(_import)
    opened: list[int] = []  # of the new process; closed here once it has them
    try:
        out, reader = await _stream(stdout, opened)
        errors, error_reader = (out, None) if stderr == STDOUT else await _stream(stderr, opened)
        descriptors = {1: out, 2: errors, **dict(enumerate(listening, FIRST))}
        if stdin is not None:
            descriptors[0] = stdin
        run = _Run(code, list(args), cwd, dict(environ), descriptors)
        process = _forks.Process(target=run)
        process.start()
    finally:
        for each in opened:
            os.close(each)
    return Forked(process, reader, error_reader)


@cache
def _start_server() -> None:
    """Start the process to fork from, which has to find preloaded.py."""
    with patch.dict(os.environ, PYTHONPATH=str(Path(__file__).parent)):
        forkserver.ensure_running()


@cache
def _import() -> None:
    """Return once the modules are imported, for which an event loop should not wait."""
    process = _forks.Process(target=int)
    process.start()
    process.join()


async def _stream(wanted: int, opened: list[int]) -> tuple[int, StreamReader | None]:
    """Return the new process's descriptor, and what reads it if it is a pipe."""
    if wanted == DEVNULL:
        opened.append(os.open(os.devnull, os.O_WRONLY))
        return opened[-1], None
    if wanted != PIPE:
        return wanted, None
    ours, its = os.pipe()
    opened.append(its)
    reader = StreamReader(LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: StreamReaderProtocol(reader), os.fdopen(ours, "rb", 0)
    )
    return its, reader


@dataclass(frozen=True)
class _Run:
    """What the new process does; `descriptors` has those of its parent by its own numbers."""

    code: str
    args: list[str]
    cwd: Path
    environ: dict[str, str]
    descriptors: dict[int, Any]

    def __getstate__(self) -> dict[str, Any]:
        passed = {number: DupFd(each) for number, each in self.descriptors.items()}
        return {**vars(self), "descriptors": passed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    def __call__(self) -> None:
        self._place()
        sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing has set it to the null device
        os.chdir(self.cwd)
        os.environ.clear()
        os.environ.update(self.environ)
        if count := sum(number >= FIRST for number in self.descriptors):
            variables = {"LISTEN_PID": os.getpid(), "LISTEN_FDS": count, "LISTEN_FDNAMES": "a"}
            os.environ.update({name: str(value) for name, value in variables.items()})
        sys.argv = ["-c", *self.args]
        exec(compile(self.code, "<forked>", "exec"), {"__name__": "__main__"})

    def _place(self) -> None:
        """Give each descriptor its number, once none can be in another's place."""
        received = {number: each.detach() for number, each in self.descriptors.items()}
        high = {n: fcntl.fcntl(each, fcntl.F_DUPFD, 100) for n, each in received.items()}
        for each in received.values():
            os.close(each)
        for number, each in high.items():
            os.dup2(each, number)
            os.close(each)
