"""The log file: rotation, a full disk, a missing folder, a reader that does not read."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import resource
import shutil
import signal
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import forked
import pytest
from forked import Forked
from patience import WAIT_SECONDS
from process import LISTENING, NO_DRAIN, SIGNALLER, START_SECONDS, STOP_SECONDS, signaller
from signalling import Signalling, connect

from videre.logs import writers
from videre.logs.writers import Writer

pytestmark = pytest.mark.process

LOST = "videre: cannot write the log"


def read(*files: Path) -> list[dict[str, Any]]:
    """Return the lines of logs, each a JSON object."""
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


async def until(true: Callable[[], bool]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            if true():
                return
            await asyncio.sleep(0.01)


async def visit(peer: Signalling, times: int) -> None:
    """Let a user come and go: 4 lines of the log."""
    async with asyncio.timeout(WAIT_SECONDS):
        for _ in range(times):
            assert (await peer.ask("connect"))["Payload"] == "true"
            await peer.send(peer.packet("disconnect"))
        assert (await peer.ask("ping"))["Payload"] == "[]"


@contextlib.asynccontextmanager
async def started(cwd: Path, *args: str, stderr: int = PIPE) -> AsyncIterator[tuple[Forked, str]]:
    """Run a server whose standard error the test reads; yield the process and its URL."""
    options = ["--host", "127.0.0.1", "--port", "0", *args]
    process = await forked.start(SIGNALLER, options, cwd=cwd, environ=NO_DRAIN, stderr=stderr)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            found = LISTENING.search((await process.stdout.readline()).decode())
        assert found is not None
        yield process, "{}://{}:{}{}".format(*found.groups())
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def complaint(process: Forked) -> str:
    """Return the next line of standard error about the log."""
    assert process.stderr is not None
    async with asyncio.timeout(WAIT_SECONDS):
        while not (line := (await process.stderr.readline()).decode()).startswith(LOST):
            assert line, "no complaint"
    return line


async def stopped(process: Forked) -> list[str]:
    """Stop a process, which must end with code 0, and return the rest of its errors."""
    process.terminate()
    async with asyncio.timeout(STOP_SECONDS):
        _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return errors.decode().splitlines()


async def rotated(tmp_path: Path, backups: int) -> Sequence[Path]:
    """Return the files that remain of some 20 KB in logs of 2000 B, youngest first."""
    settings = {"LogFile": "log/debug.log", "LogMaxBytes": 2000, "LogBackups": backups}
    async with (
        signaller(tmp=tmp_path, config=settings) as server,
        connect(server.url, "raw", user="u" * 100, room="room") as peer,
    ):
        await visit(peer, 30)
    return sorted((tmp_path / "log").iterdir())


async def test_rotation(tmp_path: Path) -> None:
    """The size and the number of files are as configured; every line is whole."""
    files = await rotated(tmp_path, 2)
    assert [file.name for file in files] == ["debug.log", "debug.log.1", "debug.log.2"]
    assert all(file.stat().st_size <= 2000 for file in files)
    assert all(file.stat().st_size > 1000 for file in files[1:])
    lines = read(*reversed(files))
    assert lines[-1]["event"] == "stop"
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


async def test_without_backups_the_file_is_bounded_too(tmp_path: Path) -> None:
    """With LogBackups 0, LogMaxBytes limits the one file."""
    (file,) = await rotated(tmp_path, 0)
    assert file.stat().st_size <= 2000


async def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    """It is reported once, and disturbs neither the service nor a clean end."""
    async with (
        started(tmp_path, "--log-file", "/dev/full") as (process, url),
        connect(url, "raw", user="user", room="room") as peer,
    ):
        await visit(peer, 5)
        errors = await stopped(process)
    assert sum(line.startswith(LOST) for line in errors) == 1
    assert not any("Traceback" in line for line in errors), errors


async def test_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    """The number of lost lines is logged when there is space again; every line is whole."""
    log = tmp_path / "debug.log"
    async with (
        started(tmp_path, "--log-file", str(log), "--log-level", "info") as (process, url),
        connect(url, "raw", user="user", room="room") as peer,
    ):
        await visit(peer, 1)
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        full = (log.stat().st_size + 10, unlimited[1])
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, full)
        await visit(peer, 5)
        await complaint(process)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
        await visit(peer, 1)
        assert not any(line.startswith(LOST) for line in await stopped(process))
    lines = read(log)
    lost = [line["count"] for line in lines if line["event"] == "log-records-lost"]
    assert sum(line["event"] == "join" for line in lines) + sum(lost) >= 7 and lost[0] > 0
    assert "stop" in [line["event"] for line in lines[-2:]]


@pytest.mark.parametrize("instead", ["nothing", "a file"])
async def test_a_folder_that_goes_and_comes_back(instead: str, tmp_path: Path) -> None:
    """Lines are lost without it; once it is back, the log goes on and says how many."""
    folder, away = tmp_path / "log", tmp_path / "away"
    (tmp_path / "conf.json").write_text('{"LogFile": "log/debug.log", "LogMaxBytes": 1000}')
    async with (
        started(tmp_path, "--config", "conf.json") as (process, url),
        connect(url, "raw", user="user", room="room") as peer,
    ):
        folder.rename(away)
        if instead == "a file":
            folder.touch()
        await visit(peer, 10)
        await complaint(process)
        if instead == "a file":
            folder.unlink()
        # Whole at once: a log made anew in between would be overwritten by its copy.
        shutil.copytree(away, tmp_path / "copy").rename(folder)
        await visit(peer, 1)
        assert not any(line.startswith(LOST) for line in await stopped(process))
    lines = read(*folder.iterdir())
    assert sum(line.get("count", 0) for line in lines if line["event"] == "log-records-lost") > 0
    assert "stop" in [line["event"] for line in lines]


async def test_a_folder_that_is_removed(tmp_path: Path) -> None:
    """Lost lines are reported when it is back, even if nobody comes or goes."""
    folder, log, away = tmp_path / "log", tmp_path / "log" / "debug.log", tmp_path / "away"
    async with (
        started(tmp_path, "--log-file", str(log)) as (process, url),
        connect(url, "raw", user="user", room="room") as peer,
    ):
        await visit(peer, 1)
        folder.rename(away)  # else the log could be made anew in it before the folder goes
        shutil.rmtree(away)
        await visit(peer, 5)
        await complaint(process)
        folder.mkdir()
        await until(lambda: log.exists() and "\n" in log.read_text())
        lost = json.loads(log.read_text().partition("\n")[0])  # what was still collected may follow
        assert lost["event"] == "log-records-lost" and lost["count"] > 0
        assert not any(line.startswith(LOST) for line in await stopped(process))


async def test_a_terminal_that_nobody_reads(tmp_path: Path) -> None:
    """Blocked output (Ctrl-S, a pager) does not stop the server."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    try:
        async with (
            started(tmp_path, "--log-file", "debug.log", stderr=writer) as (_, url),
            connect(url, "raw", user="user", room="room") as peer,
        ):
            await visit(peer, 100)
    finally:
        os.close(reader)
        os.close(writer)


class Slow:
    """A target that stands still until its gate is opened."""

    name = "slow target"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.reopened = threading.Event()
        self.lines: list[str] = []
        self.closed = False

    def reopen(self) -> None:
        self.lines.append("reopened")
        self.reopened.set()

    def write(self, lines: list[str]) -> None:
        self.gate.wait(WAIT_SECONDS)
        self.lines += lines

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[Slow, Writer]:
    """Return a target and its writer, for which 10 lines may wait."""
    monkeypatch.setattr(writers, "QUEUE_LINES", 10)
    target = Slow()
    return target, Writer(target, lambda count: f"lost {count}")


def test_lines_that_the_writer_cannot_keep_up_with(slow: tuple[Slow, Writer]) -> None:
    """Lines beyond the queue are dropped at once, and their number logged later."""
    target, writer = slow
    for number in range(50):
        writer.put(lambda number=number: f"line {number}")  # type: ignore[misc]
    writer.start()
    target.gate.set()
    writers.end([writer])
    assert target.lines == [*(f"line {number}" for number in range(10)), "lost 40"]
    assert target.closed and not writer.is_alive()


def test_what_comes_before_a_reopening_is_written_before_it(slow: tuple[Slow, Writer]) -> None:
    """Also if both come while earlier lines are written: it belongs into the old file."""
    target, writer = slow
    writing = threading.Event()

    def first() -> str:
        writing.set()
        return "first"

    writer.put(first)
    writer.start()
    assert writing.wait(WAIT_SECONDS)
    writer.put(lambda: "second")
    writer.reopen()
    target.gate.set()
    assert target.reopened.wait(WAIT_SECONDS)
    writer.put(lambda: "third")
    writers.end([writer])
    assert target.lines == ["first", "second", "reopened", "third"]


def test_the_lines_of_batches_count(slow: tuple[Slow, Writer]) -> None:
    """A batch has many lines, and each of them takes memory while it waits."""
    target, writer = slow
    for number in range(5):
        writer.put(lambda number=number: f"{number}\n" * 3 + str(number), 4)  # type: ignore[misc]
    assert writer.losses["queue-full"] == 8
    target.gate.set()
    writer.start()
    writers.end([writer])
    assert target.lines == [*"000011112222", "lost 8"]


def test_the_end_does_not_wait_for_ever(
    slow: tuple[Slow, Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blocked target does not keep the process from exiting."""
    monkeypatch.setattr(writers, "END_SECONDS", 0.05)
    target, writer = slow
    writer.put(lambda: "line")
    writer.start()
    writers.end([writer])
    assert writer.is_alive() and writer.daemon and not target.closed
    target.gate.set()
    writer.join(WAIT_SECONDS)
    assert target.lines == ["line"] and target.closed


def test_signals_are_for_the_main_thread(slow: tuple[Slow, Writer]) -> None:
    """A blocked target's thread outlives the end: it must not take a signal."""
    target, writer = slow
    wanted = {signal.SIGTERM, signal.SIGINT}
    writer.put(lambda: str(wanted <= signal.pthread_sigmask(signal.SIG_BLOCK, [])))
    target.gate.set()
    writer.start()
    writers.end([writer])
    assert target.lines == ["True"]


def test_a_record_that_cannot_be_written_down(slow: tuple[Slow, Writer]) -> None:
    """A line that cannot be formatted costs no other line."""
    target, writer = slow
    for make in (lambda: "before", lambda: str(1 / 0), lambda: "after"):
        writer.put(make)
    target.gate.set()
    writer.start()
    writers.end([writer])
    before, unreadable, after = target.lines
    assert (before, after) == ("before", "after") and "ZeroDivisionError" in unreadable


def test_a_complaint_that_has_nowhere_to_go(
    slow: tuple[Slow, Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure without standard error ends no writer."""
    target, writer = slow

    def fail(lines: list[str]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(target, "write", fail)
    monkeypatch.setattr(sys, "stderr", None)
    writer.put(lambda: "line")
    writer.start()
    writers.end([writer])
    assert target.closed
