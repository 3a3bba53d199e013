"""Start the command in a process that is forked from one that has imported it.

Its imports are most of what a start costs: 0.3 s of 0.4. The process is otherwise as real as any:
with its own pid, signals, descriptors, environment and exit code.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import runpy
import signal
import sys
from asyncio import StreamReader, StreamReaderProtocol
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

#: What a server may import; a module that is not installed is passed over.
PRELOADED = [
    "asyncio.sslproto",
    "videre.admin",
    "videre.auth",
    "videre.command.cli",
    "videre.demo",
    "videre.engines.redis",
]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(PRELOADED)


class Forked:
    """A process with what tests use of asyncio.subprocess.Process."""

    def __init__(self, process: ForkServerProcess, stdout: StreamReader) -> None:
        assert process.pid is not None
        self.pid = process.pid
        self.stdout = stdout
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

    def send_signal(self, number: int) -> None:
        """Send it a signal unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._ended.set()


async def start(
    script: Path, args: Sequence[str], *, cwd: Path, environ: Mapping[str, str], limit: int
) -> Forked:
    """Run a Python script; its output, errors included, has lines of at most `limit` bytes."""
    sys.audit("subprocess.Popen", str(script), list(args), str(cwd), dict(environ))  # for --fast
    ours, its = os.pipe()
    try:
        stdout = StreamReader(limit)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: StreamReaderProtocol(stdout), os.fdopen(ours, "rb", 0)
        )
        process = _forks.Process(target=_Run(script, [*args], cwd, dict(environ), its))
        process.start()
    finally:
        os.close(its)
    return Forked(process, stdout)


class _Run:
    """What the new process does. Its descriptor is passed along when it is pickled."""

    def __init__(
        self, script: Path, args: list[str], cwd: Path, environ: dict[str, str], output: int
    ) -> None:
        self._what = script, args, cwd, environ
        self._output: Any = output

    def __getstate__(self) -> dict[str, Any]:
        return {"_what": self._what, "_output": DupFd(self._output)}

    def __call__(self) -> None:
        script, args, cwd, environ = self._what
        output = self._output.detach()
        for number in (1, 2):
            os.dup2(output, number)
        os.close(output)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environ)
        sys.argv = [str(script), *args]
        runpy.run_path(str(script), run_name="__main__")
