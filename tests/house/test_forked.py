"""The tests' servers are forked: each is cheap, and a process like any other."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from asyncio.subprocess import PIPE
from pathlib import Path

import forked
import pytest
from patience import WAIT_SECONDS

pytestmark = pytest.mark.process

LOOK = """
import gc, json, os, sys
print(json.dumps({
    "imported": "videre.command.cli" in sys.modules and gc.get_freeze_count() > 10_000,
    "arguments": sys.argv[1:],
    "variables": dict(os.environ),
    "folder": os.getcwd(),
    "process": os.getpid(),
    "name": __name__,
}))
print("errors", file=sys.stderr)
sys.exit(3)
"""


async def test_it_is_what_was_asked_for(tmp_path: Path) -> None:
    """Its arguments, environment, folder, streams and exit code; and its imports are shared."""
    process = await forked.start(
        LOOK, ["--a", "b"], cwd=tmp_path, environ={"ONLY": "this"}, stderr=PIPE
    )
    out, errors = await process.communicate()
    assert json.loads(out) == {
        "imported": True,
        "arguments": ["--a", "b"],
        "variables": {"ONLY": "this"},
        "folder": str(tmp_path),
        "process": process.pid,
        "name": "__main__",
    }
    assert (errors, process.returncode) == (b"errors\n", 3)


async def test_it_dies_of_a_signal(tmp_path: Path) -> None:
    """As after a start by exec, whatever the process to fork from does with signals."""
    # After nohup, SIGHUP is ignored: by whatever is started, too.
    reset = "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        process = await forked.start(
            f"import signal; {reset}; print(flush=True); signal.pause()", cwd=tmp_path, environ={}
        )
        assert process.stdout is not None
        await process.stdout.readline()
        assert process.returncode is None
        process.send_signal(number)
        async with asyncio.timeout(WAIT_SECONDS):
            assert await process.wait() == -number
        process.kill()  # no effect


async def test_a_signal_comes_too_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no effect either while the code of the ended process is on its way."""
    process = await forked.start("", cwd=tmp_path, environ={})
    assert await process.communicate() == (b"", b"")
    monkeypatch.setattr(forked.Forked, "returncode", None)
    process.send_signal(0)


TAKE = """
import os, sys
from videre.command import systemd
sys.stdout.write(f"{systemd.take_socket(os.environ).getsockname()[1]} {sys.stdin.read()}")
"""


async def test_it_gets_descriptors(tmp_path: Path) -> None:
    """Standard input, and a socket with a service manager's number and variables."""
    reader, writer = os.pipe()
    os.write(writer, b"input")
    os.close(writer)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = await forked.start(
            TAKE, cwd=tmp_path, environ={}, stdin=reader, listening=[listening.fileno()]
        )
        os.close(reader)
        out, _ = await process.communicate()
        assert out.decode() == f"{listening.getsockname()[1]} input"
