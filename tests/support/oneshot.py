"""Run the command to its end in this process, which saves the start of a process."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from unittest.mock import patch

from process import ROOT

from videre.command import cli


@dataclass(frozen=True)
class Done:
    """The result of a run, with the names of subprocess.CompletedProcess."""

    returncode: int
    stdout: str
    stderr: str


@contextmanager
def _redirected(name: str, number: int) -> Iterator[IO[str]]:
    """Redirect a standard stream to a file: both its descriptor and Python's object."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        kept = os.dup(number)
        os.dup2(file.fileno(), number)
        try:
            with patch.object(sys, name, file):
                yield file
        finally:
            os.dup2(kept, number)
            os.close(kept)


@contextmanager
def _restored_signals() -> Iterator[None]:
    """Undo the command's changes of signals."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


async def _serves(*_: object) -> None:
    raise AssertionError("It would serve, which takes a process of its own (process.signaller)")


def run(
    *args: str,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    default_config: Path | None = ROOT / "bin" / "conf.json",
) -> Done:
    """Run the command like bin/signaller.py, with this environment (by default ours).

    Only one thread at a time may do so. Fails if the command would serve.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(_restored_signals())
        enter(patch.dict(os.environ, environ or os.environ, clear=True))
        enter(patch.object(cli, "serve", _serves))
        if cwd is not None:
            enter(chdir(cwd))
        stdout, stderr = enter(_redirected("stdout", 1)), enter(_redirected("stderr", 2))
        try:
            code = cli.main(list(args), default_config=default_config)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        said = []
        for file in (stdout, stderr):
            file.flush()
            file.seek(0)
            said.append(file.read())
    return Done(code, *said)
