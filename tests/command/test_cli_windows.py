"""The command without the parts of Python that Windows lacks: signals, fork, uvloop, Unix sockets.

This is simulated: the test removes them before it imports the command.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from fakes import packet
from patience import WAIT_SECONDS
from process import NO_DRAIN, ROOT, START_SECONDS, execute, supervised

pytestmark = pytest.mark.process

#: Removes the parts that Windows lacks, and runs a line of Python.
WINDOWS = """
import asyncio, asyncio.unix_events, os, select, signal, socket, sys
missing = [name for name in dir(signal) if name.startswith(("SIG", "pthread_"))]
has = "SIGINT SIGTERM SIGABRT SIGFPE SIGILL SIGSEGV SIG_DFL SIG_IGN".split()
for name in missing:
    if name not in has:
        delattr(signal, name)
for name in ("fork", "setpgid", "getppid", "set_blocking", "chown", "geteuid", "getuid"):
    delattr(os, name)
for name in ("poll", "PIPE_BUF"):
    delattr(select, name)
pair, unix = socket.socketpair, socket.AF_UNIX  # Windows' Python makes pairs of its own
socket.socketpair = lambda *_: pair(unix)
delattr(socket, "AF_UNIX")
for name in ("uvloop", "fcntl", "resource", "pwd", "grp"):
    sys.modules[name] = None
def no_handler(*_):
    raise NotImplementedError
asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = no_handler
sys.argv[0] = "videre-server"
"""
SERVE = f"{WINDOWS}\nfrom videre.command.cli import main\nsys.exit(main())"


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a line of Python until it ends."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=NO_DRAIN,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )


MODULES = [
    "videre",
    "videre.client",
    "videre.metrics",
    "videre.admin",
    "videre.siblings",
    "videre.command.workers",
    "videre.command.mint",
    "videre.command.cli",
]


def test_all_modules_can_be_imported() -> None:
    """No import needs the missing parts."""
    done = run(f"{WINDOWS}\nimport {', '.join(MODULES)}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
async def test_it_serves(sign: signal.Signals, tmp_path: Path) -> None:
    """A client joins a room; Ctrl-C stops the server cleanly, with a close frame."""
    log = tmp_path / "debug.log"
    process = await execute(
        *(sys.executable, "-c", SERVE, "--host", "localhost", "--port", "0"),
        *("--log-file", str(log), "--admin-port", "0"),
        cwd=ROOT,
        env=NO_DRAIN,
    )
    async with supervised(process) as server, aiohttp.ClientSession() as http:
        async with http.ws_connect(f"{server.url}/websocket") as socket:
            await socket.send_str(packet("connect", "a", "room"))
            assert (await socket.receive_json(timeout=WAIT_SECONDS))["Payload"] == "true"
            process.send_signal(sign)
            message = await socket.receive(timeout=WAIT_SECONDS)
            assert message.type is aiohttp.WSMsgType.CLOSE
        await process.wait()
    events = [json.loads(line)["event"] for line in log.read_text(encoding="utf-8").splitlines()]
    assert "signal" in events and events[-1] == "stop"


def test_unsupported_options(tmp_path: Path) -> None:
    """Workers, by --check too, and Unix sockets are refused in one sentence."""
    done = run(f"""{WINDOWS}
from videre.command.cli import main
for options in (["--workers", "2"], ["--workers", "2", "--check"], ["--host", "unix:x"]):
    print(main(options))
""")
    assert (done.returncode, done.stdout) == (0, "2\n2\n2\n"), done
    assert done.stderr.count("Workers: 2: this system cannot fork, so it runs one process") == 2
    assert done.stderr.count("there are no Unix sockets here") == 1
    assert "Traceback" not in done.stderr
