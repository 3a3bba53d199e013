"""The command without its standard streams: closed ones, full ones, or pipes without a reader."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import aiohttp
import forked
import pytest
from forked import Forked
from ports import free_port
from process import NO_DRAIN, ROOT, START_SECONDS, STOP_SECONDS
from signalling import connect
from test_logs_writing import read, visit

pytestmark = pytest.mark.process

#: How a shell closes streams, and their numbers.
CLOSED = {"<&-": (0,), ">&-": (1,), "2>&-": (2,), "<&- >&- 2>&-": (0, 1, 2)}
#: Which of standard output and errors are full, or a pipe without a reader.
BROKEN = [(1,), (2,), (1, 2)]


@asynccontextmanager
async def closed(tmp: Path, way: str, *args: str) -> AsyncIterator[tuple[Process, str]]:
    """Run a server in a shell that closes streams; give the process and its URL.

    A process of its own: Python looks for closed streams when it starts.
    """
    port = free_port()
    command = [sys.executable, "-m", "videre", "--host", "127.0.0.1", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'exec "$@" {way}', "_", *command, *args),
        cwd=tmp,
        env={**NO_DRAIN, "PYTHONPATH": str(ROOT)},
        stdout=DEVNULL,
        stderr=PIPE,
    )
    async with serving(process, port) as url:
        yield process, url


@asynccontextmanager
async def broken(
    tmp: Path, numbers: tuple[int, ...], sink: int, *args: str
) -> AsyncIterator[tuple[Forked, str]]:
    """Run a server whose streams with these numbers are `sink`; give the process and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = await forked.start(
            forked.VIDERE,
            args,
            cwd=tmp,
            environ=NO_DRAIN,
            stdout=sink if 1 in numbers else DEVNULL,
            stderr=sink if 2 in numbers else PIPE,
            listening=[listening.fileno()],
        )
        async with serving(process, listening.getsockname()[1]) as url:
            yield process, url


@asynccontextmanager
async def serving(process: Process | Forked, port: int) -> AsyncIterator[str]:
    """Give a server's URL once it answers there; kill it at the end if it still runs."""
    url = f"http://127.0.0.1:{port}"
    try:
        await healthy(url, process)
        yield url
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@contextmanager
def full() -> Iterator[int]:
    """Give a device that is always full."""
    device = os.open("/dev/full", os.O_WRONLY)
    yield device
    os.close(device)


@contextmanager
def filled() -> Iterator[int]:
    """Give a pipe whose reader has stopped to read, and which is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"-")
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


@contextmanager
def unread() -> Iterator[int]:
    """Give a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def leads_to(pid: int, number: int) -> Path:
    """Return what a file descriptor of a process refers to."""
    return Path(f"/proc/{pid}/fd/{number}").readlink()


async def healthy(url: str, process: Process | Forked) -> None:
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


async def used(process: Process | Forked, url: str) -> bytes:
    """Let clients come and go, stop the server cleanly, and return its standard error."""
    async with connect(f"{url}/echo", "raw", user="user", room="room") as peer:
        await visit(peer, 3)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(STOP_SECONDS):
        _, errors = await process.communicate()
    assert process.returncode == 0, errors
    assert b"Traceback" not in (errors or b"") and b"Exception ignored" not in (errors or b"")
    return errors or b""


def complete(log: Path) -> bool:
    """Return whether a log has the whole life of a server that was `used`."""
    events = [line["event"] for line in read(log)]
    return (events[0], events[-1], events.count("join")) == ("start", "stop", 3)


@pytest.mark.parametrize("way", CLOSED)
async def test_closed_streams(tmp_path: Path, way: str) -> None:
    """It serves, and its LogFile is complete.

    No file or socket gets a closed stream's number, or the log would be written into that.
    """
    async with closed(tmp_path, way, "--log-file", "debug.log") as (process, url):
        for number in CLOSED[way]:
            assert leads_to(process.pid, number) == Path("/dev/null")
        await used(process, url)
    assert complete(tmp_path / "debug.log")


@pytest.mark.parametrize("way", [">&-", "<&- >&- 2>&-"])
async def test_a_log_on_a_closed_stream(tmp_path: Path, way: str) -> None:
    """It serves without a LogFile too."""
    async with closed(tmp_path, way) as (process, url):
        await used(process, url)


@pytest.mark.parametrize("numbers", BROKEN)
async def test_full_streams(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    """It serves, with a LogFile, which is complete, and without one."""
    with full() as sink:
        async with broken(tmp_path, numbers, sink, "--log-file", "debug.log") as (process, url):
            await used(process, url)
        assert complete(tmp_path / "debug.log")
        async with broken(tmp_path, numbers, sink) as (process, url):
            await used(process, url)


@pytest.mark.parametrize("numbers", BROKEN)
async def test_full_pipes(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    """It does not wait for a reader that has stopped to read: it starts, serves and ends."""
    config = {"LogFile": "debug.log", "ByteBurst": 10**8}  # the latter for a complaint
    (tmp_path / "conf.json").write_text(json.dumps(config))
    with filled() as sink:
        async with broken(tmp_path, numbers, sink, "--config", "conf.json") as (process, url):
            await used(process, url)
    assert complete(tmp_path / "debug.log")


@pytest.mark.parametrize("numbers", BROKEN)
@pytest.mark.parametrize("log", [[], ["--log-file", "debug.log"]])
async def test_a_pipe_without_a_reader(
    tmp_path: Path, numbers: tuple[int, ...], log: list[str]
) -> None:
    """The end of the program that read the output does not end the server."""
    with unread() as sink:
        async with broken(tmp_path, numbers, sink, *log) as (process, url):
            errors = await used(process, url)
    if numbers == (1,) and not log:
        assert errors.count(b"cannot write the terminal") == 1


@pytest.mark.parametrize("way", [">&-", ">&- 2>&-"])
async def test_a_bad_configuration_without_streams(tmp_path: Path, way: str) -> None:
    """The exit code still says so."""
    (tmp_path / "conf.json").write_text(json.dumps({"Port": "x"}))
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f'exec "$@" {way}', "_", sys.executable),
        *(str(ROOT / "bin" / "signaller.py"), "--config", str(tmp_path / "conf.json")),
        stdout=PIPE,
        stderr=PIPE,
    )
    out, errors = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert (b"Port" in errors) == (way == ">&-")
