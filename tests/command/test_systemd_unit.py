"""docs/videre.service and docs/videre.socket: systemd's checks, and a run in their sandbox."""

from __future__ import annotations

import asyncio
import configparser
import ctypes.util
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from patience import eventually
from process import NO_DRAIN, ROOT, Signaller, execute, missing, require, self_signed
from signalling import connect
from test_logs_writing import read
from tokens import private, public_pem, token
from valkey_server import valkey

from videre.command import http, server
from videre.command.listening import BACKLOG
from videre.config import Config
from videre.logs import writers

pytestmark = pytest.mark.process

DOCS = ROOT / "docs"
UNIT = (DOCS / "videre.service").read_text(encoding="utf-8")
COMMAND = "/opt/videre/bin/videre-server"
OPERATIONS = (DOCS / "operations.md").read_text(encoding="utf-8")
QUOTED = re.compile(r"(\d+\.\d) \(systemd (\d+)\)")
CONFINED = str(ROOT / "tests" / "support" / "confined.py")


def parsed(name: str) -> configparser.ConfigParser:
    """Return the sections of a unit, with the last value of a repeated key."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DOCS / name, encoding="utf-8")
    return parser


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Give a folder with the units, whose command exists on this machine."""
    assert UNIT.count(f"ExecStart={COMMAND}\n") == 1
    text = UNIT.replace(COMMAND, f"{sys.executable} -m videre")
    (tmp_path / "videre.service").write_text(text, encoding="utf-8")
    shutil.copy(DOCS / "videre.socket", tmp_path)
    return tmp_path


def analyze(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze."""
    program = require("systemd-analyze")
    environ = {**os.environ, "SYSTEMD_EMOJI": "0", "SYSTEMD_LOG_TARGET": "console"}
    return subprocess.run([program, *args], cwd=cwd, env=environ, capture_output=True, text=True)


def test_systemd_accepts_the_units(units: Path) -> None:
    """It knows every key, accepts every value, and misses nothing."""
    done = analyze("verify", "./videre.service", "./videre.socket", cwd=units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (units / "videre.service").read_text()
    (units / "videre.service").write_text(text.replace("ProtectClock", "ProtectKlock"))
    assert "ProtectKlock" in analyze("verify", "./videre.service", cwd=units).stderr


def test_the_exposure_is_as_documented(units: Path) -> None:
    """It is at most the level in docs/operations.md, and equal to it with the same systemd."""
    quoted, version = QUOTED.findall(OPERATIONS)[0]
    threshold = str(round(float(quoted) * 10))
    args = ("security", "--offline=true", "--no-pager")
    done = analyze(*args, f"--threshold={threshold}", "./videre.service", cwd=units)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = re.findall(r"Overall exposure level for videre.service: (\S+)", done.stdout)
    ours = re.findall(r"^systemd (\d+)", analyze("--version", cwd=units).stdout)
    assert ours != [version] or found == quoted
    below = analyze(*args, "--threshold=1", "./videre.service", cwd=units)
    assert below.returncode != 0


def test_the_unit_agrees_with_the_defaults() -> None:
    """systemd waits longer than a drain takes, and the socket's address is the server's default."""
    service, passed = parsed("videre.service")["Service"], parsed("videre.socket")["Socket"]
    default = Config()
    after = server.LAST_ANSWERS + http.SHUTDOWN + writers.END_SECONDS
    assert int(service["TimeoutStopSec"]) > default.drain_seconds + after
    assert passed["ListenStream"] == f"{default.host}:{default.port}"
    assert int(passed["Backlog"]) == BACKLOG
    assert service["Type"] == "notify" and "Accept" not in passed
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"


def needs_a_cage() -> None:
    """Skip a test where no sandbox is available."""
    require("systemd-analyze")
    if ctypes.util.find_library("seccomp") is None:
        missing("libseccomp is not installed")


@asynccontextmanager
async def confined(cwd: Path, *args: str, **variables: str) -> AsyncIterator[Signaller]:
    """Run the server in the unit's sandbox; it must stop cleanly."""
    needs_a_cage()
    cage = [sys.executable, CONFINED, str(DOCS / "videre.service")]
    if os.geteuid() == 0:
        cage = [require("setpriv"), "--bounding-set=-all", "--inh-caps=-all", *cage]
    process = await execute(
        *(*cage, sys.executable, "-m", "videre", *args),
        cwd=cwd,
        env={**NO_DRAIN, "PYTHONPATH": str(ROOT), **variables},
    )
    server = Signaller(process)
    try:
        await server.listening()
        yield server
    except BaseException as error:
        await server.stop()
        error.add_note(str(server))
        raise
    assert await server.stop() == 0, str(server)
    assert not any("Traceback" in line or "permitted" in line for line in server.output), server


PROBE = """
import ctypes, mmap, os, socket
def tell(what):
    try: what()
    except OSError as error: print(error.strerror)
    else: print("allowed")
tell(lambda: mmap.mmap(-1, 4096, prot=7))
tell(lambda: mmap.mmap(-1, 4096, prot=3))
tell(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
tell(lambda: socket.socket())
tell(lambda: os.chroot("/"))
"""


def test_the_cage_is_one() -> None:
    """Forbidden actions fail in it and others work, or the next tests would prove nothing."""
    needs_a_cage()
    command = [sys.executable, CONFINED, str(DOCS / "videre.service"), sys.executable, "-c", PROBE]
    done = subprocess.run(command, capture_output=True, text=True)
    no, yes = "Operation not permitted", "allowed"
    assert done.stdout.splitlines() == [
        *(no, yes),
        *("Address family not supported by protocol", yes),
        no,
    ], done.stderr


async def test_a_server_lives_in_the_cage(tmp_path: Path) -> None:
    """It has TLS, tokens (whose library is native code), rooms in a Valkey, a log, each signal."""
    cert, key = self_signed(tmp_path)
    (tmp_path / "public.pem").write_bytes(public_pem("ES256"))
    (tmp_path / "valkey").mkdir()
    async with valkey(tmp_path / "valkey") as store:
        config = {
            "Host": "localhost",
            "Port": 0,
            "TLS": True,
            "Cert": cert.name,
            "Key": key.name,
            "LogFile": "log/debug.log",
            "LogLevel": "debug",
            "Engine": store.url,
            "Compression": True,
            "Auth": {"PublicKeys": ["public.pem"]},
        }
        conf = tmp_path / "conf.json"
        conf.write_text(json.dumps(config))
        trusting = ssl.create_default_context(cafile=str(cert))
        log = tmp_path / "log" / "debug.log"
        minted = token("a", "r", private("ES256"), "ES256", exp=time.time() + 3600)
        async with (
            confined(tmp_path, "--config", str(conf)) as server,
            connect(server.url, "sockjs", user="a", room="r", ssl=trusting) as peer,
            aiohttp.ClientSession() as http,
        ):
            assert (await peer.ask("connect", {"Token": minted}))["Payload"] == "true"
            server.process.send_signal(signal.SIGUSR1)
            server.process.send_signal(signal.SIGHUP)
            await eventually(lambda: '"reload"' in log.read_text())  # the last line may be torn
            assert (await peer.ask("ping"))["Payload"] == '["a"]'
            health = f"https://localhost:{server.port}/health"
            async with http.get(health, ssl=trusting) as answer:
                assert answer.status == 200
    events = [line["event"] for line in read(log)]
    assert {"join", "packet", "reload", "stop"} <= set(events)


async def test_a_server_in_the_sandbox_notifies_its_manager(tmp_path: Path) -> None:
    """The sandbox allows Unix sockets, too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        async with confined(tmp_path, "--host", "127.0.0.1", "--port", "0", **told):
            assert await asyncio.to_thread(manager.recv, 100) == b"READY=1"
        assert await asyncio.to_thread(manager.recv, 100) == b"STOPPING=1"
