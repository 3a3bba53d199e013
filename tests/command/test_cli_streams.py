"""The command without its standard streams: closed ones, or pipes without a reader."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from process import NO_DRAIN, ROOT, START_SECONDS, STOP_SECONDS
from signalling import connect
from test_logs_writing import read, visit

pytestmark = pytest.mark.process

WAYS = ["", ">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", ">/dev/full 2>&1"]
#: Which streams are a pipe without a reader.
GONE = ["stdout", "stderr", "both"]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@asynccontextmanager
async def serving(
    tmp: Path, *args: str, way: str = "", gone: str = ""
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a server in a shell that redirects its streams; give the process and its URL."""
    port = free_port()
    command = [sys.executable, "-m", "videre", "--host", "127.0.0.1"]
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'exec "$@" {way}', "_", *command, "--port", str(port), *args),
        cwd=tmp,
        env={**NO_DRAIN, "PYTHONPATH": str(ROOT)},
        stdout=writer if gone in ("stdout", "both") else asyncio.subprocess.DEVNULL,
        stderr=writer if gone in ("stderr", "both") else asyncio.subprocess.PIPE,
    )
    os.close(writer)
    url = f"http://127.0.0.1:{port}"
    try:
        await healthy(url, process)
        yield process, url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def leads_to(pid: int, number: int) -> Path:
    """Return what a file descriptor of a process refers to."""
    return Path(f"/proc/{pid}/fd/{number}").readlink()


async def healthy(url: str, process: asyncio.subprocess.Process) -> None:
    """Return once the server answers."""
    async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as http:
        while True:
            assert process.returncode is None, process.stderr and await process.stderr.read()
            try:
                async with http.get(f"{url}/health") as answer:
                    assert answer.status == 200
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


async def used(process: asyncio.subprocess.Process, url: str) -> bytes:
    """Let clients come and go, stop the server cleanly, and return its standard error."""
    async with connect(f"{url}/echo", "raw", user="user", room="room") as peer:
        await visit(peer, 3)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(STOP_SECONDS):
        _, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"Traceback" not in (errors or b"") and b"Exception ignored" not in (errors or b"")
    return errors or b""


@pytest.mark.parametrize("way", WAYS)
async def test_closed_streams(tmp_path: Path, way: str) -> None:
    """It serves, and its LogFile is complete."""
    async with serving(tmp_path, "--log-file", "debug.log", way=way) as (process, url):
        await used(process, url)
    events = [line["event"] for line in read(tmp_path / "debug.log")]
    assert (events[0], events[-1], events.count("join")) == ("start", "stop", 3)


@pytest.mark.parametrize("way", WAYS)
async def test_a_log_on_a_closed_stream(tmp_path: Path, way: str) -> None:
    """It serves without a LogFile too."""
    async with serving(tmp_path, way=way) as (process, url):
        await used(process, url)


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("log", [[], ["--log-file", "debug.log"]])
async def test_a_pipe_without_a_reader(tmp_path: Path, gone: str, log: list[str]) -> None:
    """The end of the program that read the output does not end the server."""
    async with serving(tmp_path, *log, gone=gone) as (process, url):
        errors = await used(process, url)
    if gone == "stdout" and not log:
        assert errors.count(b"cannot write the terminal") == 1


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_the_number_of_a_closed_stream_is_not_reused(tmp_path: Path, number: int) -> None:
    """No file or socket gets it, or the log would be written into that."""
    async with serving(tmp_path, way=f"{number}>&-") as (process, url):
        assert leads_to(process.pid, number) == Path("/dev/null")
        await used(process, url)


@pytest.mark.parametrize("way", [">&-", "2>&-", ">&- 2>&-"])
async def test_a_bad_configuration_without_streams(tmp_path: Path, way: str) -> None:
    """The exit code still says so."""
    (tmp_path / "conf.json").write_text(json.dumps({"Port": "x"}))
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'exec "$@" {way}', "_", sys.executable),
        *(str(ROOT / "bin" / "signaller.py"), "--config", str(tmp_path / "conf.json")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert (b"Port" in errors) == (way == ">&-")
