"""The log on standard output, its reopening for logrotate, and bursts of events."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import forked
import pytest
from forked import Forked
from process import (
    LISTENING,
    NO_DRAIN,
    ROOT,
    SIGNALLER,
    START_SECONDS,
    STOP_SECONDS,
    Signaller,
    signaller,
)
from signalling import connect
from sockjs_client import Wire
from test_logs_writing import read, until, visit
from valkey_server import valkey
from websocket_client import Socket, handshake

from videre.logs import Journal, writers
from videre.logs.formatters import JSONFormatter, TextFormatter
from videre.logs.journal import BATCH_PACKETS

pytestmark = pytest.mark.process

ROOM = "a room with a long name"


class Spoken:
    """A signaller whose two outputs are kept apart: `out` and `err`, as lines."""

    def __init__(self, process: Forked) -> None:
        self.process = process
        self.url = ""
        self.out: list[str] = []
        self.err: list[str] = []
        self._listening = asyncio.Event()
        self._reading = asyncio.gather(self._read(process.stdout, self.out), self._errors())

    async def _read(self, stream: asyncio.StreamReader | None, lines: list[str]) -> None:
        assert stream is not None
        async for line in stream:
            assert line.endswith(b"\n"), line
            lines.append(line.decode().removesuffix("\n"))
            if not self.url and (found := re.search(r"http://127\.0\.0\.1:\d+/echo", lines[-1])):
                self.url = found[0]
                self._listening.set()
        self._listening.set()

    async def _errors(self) -> None:
        await self._read(self.process.stderr, self.err)

    async def listening(self) -> None:
        """Return once it has printed its URLs."""
        async with asyncio.timeout(START_SECONDS):
            await self._listening.wait()
        assert self.url, (self.out, self.err)

    async def end(self) -> None:
        """Stop it, and read the rest of its output."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            await self._reading
            assert await self.process.wait() == 0, self.err


@asynccontextmanager
async def spoken(tmp: Path, code: str = SIGNALLER, /, **config: Any) -> AsyncIterator[Spoken]:
    """Run a server with this configuration, without the demo, and stop it at the end."""
    (tmp / "conf.json").write_text(json.dumps({"Demo": False, **config}))
    options = ["--host", "127.0.0.1", "--port", "0", "--config", str(tmp / "conf.json")]
    process = await forked.start(code, options, cwd=ROOT, environ=NO_DRAIN, stderr=PIPE)
    running = Spoken(process)
    try:
        await running.listening()
        yield running
    finally:
        await running.end()


async def talk(url: str) -> None:
    """Let a user join, ping, make a mistake, send a malformed request, and leave."""
    async with connect(url, "raw", user="user", room=ROOM) as peer:
        await peer.ask("connect")
        await peer.ask("ping")
        assert (await peer.ask("nonsense"))["Header"]["Event"] == "error"
    wire = await Wire.open(url)
    wire.writer.write(b"GET /\0 HTTP/1.1\r\n\r\n")
    assert (await wire.answer()).status == 400
    await Wire.hang_up()


IN_ORDER = {
    "debug": ["start", "listen", "session", "packet", "room-made", "join", "packet", "error"],
    "info": ["start", "listen", "room-made", "join", "error"],
    "warning": ["error"],
}


def ours(events: list[str]) -> list[str]:
    """Return the events except those of a session's life and of the end."""
    return [event for event in events if event in IN_ORDER["debug"]]


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_json_on_the_standard_output(level: str, tmp_path: Path) -> None:
    """Without a file each line of it is a JSON object, the URLs are in one, and errors say none."""
    async with spoken(tmp_path, LogFormat="json", LogLevel=level) as server:
        await talk(server.url)
    lines = [json.loads(line) for line in server.out]
    assert all({"time", "level", "event"} <= line.keys() for line in lines)
    assert ours([line["event"] for line in lines]) == IN_ORDER[level]
    assert server.err == []


async def test_where_it_listens_is_a_line_of_the_log(tmp_path: Path) -> None:
    """`urls` of `listen`, for a supervisor that used port 0; the text for people is left out."""
    more = {"Demo": True, "AdminPort": 0}
    async with spoken(tmp_path, LogFormat="json", **more) as server:
        (urls,) = [line["urls"] for line in map(json.loads, server.out) if "urls" in line]
        async with aiohttp.ClientSession() as http, http.get(urls[0]) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("level", IN_ORDER)
async def test_text_on_the_standard_output(level: str, tmp_path: Path) -> None:
    """Without a file: lines for people, at LogLevel; standard error stays empty."""
    async with spoken(tmp_path, LogLevel=level) as server:
        await talk(server.url)
    told = [line for line in server.out if not LISTENING.search(line)]
    assert len(server.out) == len(told) + 1
    assert all(re.match(r"\d\d:\d\d:\d\d (debug|info|warning|error) +[\w-]+( |$)", t) for t in told)
    expected = [event for event in IN_ORDER[level] if event != "listen"]
    assert ours([line.split()[2] for line in told]) == expected
    assert server.err == []


@pytest.mark.parametrize("form", ["text", "json"])
async def test_with_a_file_people_read_the_errors(form: str, tmp_path: Path) -> None:
    """Packets go only to the file; standard output shows only the URLs."""
    config = {"LogFile": "debug.log", "LogLevel": "debug", "LogFormat": form}
    async with spoken(tmp_path, **config) as server:
        await talk(server.url)
    assert ours([line["event"] for line in read(tmp_path / "debug.log")]) == IN_ORDER["debug"]
    (line,) = server.out
    assert LISTENING.fullmatch(line)
    if form == "json":
        events = [json.loads(line)["event"] for line in server.err]
        assert ours(events) == IN_ORDER["info"]
    else:
        events = [line.split()[2] for line in server.err]
        assert ours(events) == [event for event in IN_ORDER["info"] if event != "listen"]


def batch(count: int) -> logging.LogRecord:
    """Return a record with this many lines."""
    line = (0.0, logging.INFO, "join", {"user": "a"})
    return logging.makeLogRecord({"lines": [line] * count, "levelno": logging.INFO})


def test_a_terminal_gets_the_first_lines_of_many_a_log_all() -> None:
    """Long batches are cut on a terminal if there is a file; otherwise not."""
    texts = TextFormatter().format(batch(250)).splitlines()
    assert len(texts) == 101 and texts[-1] == "... and 150 more"
    assert len(TextFormatter(most=None).format(batch(250)).splitlines()) == 250


async def test_a_rush_is_whole_on_the_standard_output(tmp_path: Path) -> None:
    """A burst of joins, longer than a terminal would show: each is a line."""
    async with spoken(tmp_path, PacketsPerSecond=None) as server, AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(connect(server.url, "raw", user="u", room=f"room{n}"))
            for n in range(10)
        ]
        await asyncio.gather(*(visit(peer, 12) for peer in peers))
    joins = [line for line in server.out if line.split()[2:3] == ["join"]]
    assert len(joins) == 120


#: However slowly they come on a busy machine, all packets are of one batch.
PATIENT = f"from videre.logs import journal; journal.BATCH_SECONDS = 3600.0\n{SIGNALLER}"


async def test_packets_are_sampled_under_load(tmp_path: Path) -> None:
    """At debug: logged packets plus counted packets are all packets."""
    sent = 4 * BATCH_PACKETS
    config = {"LogFormat": "json", "LogLevel": "debug", "PacketsPerSecond": None}
    async with (
        spoken(tmp_path, PATIENT, **config) as server,
        connect(server.url, "raw", user="user", room=ROOM) as peer,
    ):
        ping = peer.packet("ping")
        for _ in range(sent):
            await peer.send(ping)
        for _ in range(sent):
            await peer.receive()
    lines = [json.loads(line) for line in server.out]
    recorded = sum(line["event"] == "packet" for line in lines)
    left_out = sum(line["count"] for line in lines if line["event"] == "packets-left-out")
    assert recorded + left_out == sent
    assert recorded == BATCH_PACKETS


def test_an_output_that_does_not_wait() -> None:
    """A non-blocking output, as node makes it, loses and tears no line."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    lines = [f"{number} {'x' * 1000}" for number in range(500)]  # more than a pipe holds
    output = writers.Output(writer)
    thread = threading.Thread(target=output.write, args=(lines,))
    thread.start()
    read_back = b""
    while len(read_back) < sum(len(line) + 1 for line in lines):
        read_back += os.read(reader, 4096)
    thread.join()
    os.close(reader)
    os.close(writer)
    assert read_back.decode().splitlines() == lines


def test_a_batch_of_which_nothing_is_shown_is_no_line() -> None:
    """Events that the command prints itself leave no empty line."""
    reader, writer = os.pipe()
    listening = logging.makeLogRecord({"lines": [(0.0, logging.INFO, "listen", {"urls": []})]})
    running = writers.Writer(writers.Output(writer), str)
    running.put(lambda: TextFormatter().format(listening))
    running.put(lambda: "after")
    running.start()
    writers.end([running])
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "after\n"


# For logrotate.


async def test_a_log_that_is_moved_away(tmp_path: Path) -> None:
    """SIGUSR1 while it is written: a new file at once, and every line whole in one of them."""
    log = tmp_path / "debug.log"
    moves = 5

    async def rotate(server: Signaller) -> None:
        for number in range(moves):
            await until(log.exists)
            log.rename(tmp_path / f"old.{number}")
            server.process.send_signal(signal.SIGUSR1)
        await until(log.exists)

    config = {"LogFile": "debug.log", "PacketsPerSecond": None}
    async with signaller(tmp=tmp_path, config=config) as server, AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(connect(server.url, "raw", user="u", room=f"room{n}"))
            for n in range(4)
        ]
        rotating = asyncio.create_task(rotate(server))
        visits = 0
        while not rotating.done():
            await asyncio.gather(*(visit(peer, 5) for peer in peers))
            visits += 5 * len(peers)
        await rotating
    files = [*(tmp_path / f"old.{number}" for number in range(moves)), log]
    lines = read(*files)
    events = [line["event"] for line in lines]
    assert (events[0], events[-1]) == ("start", "stop")
    for event in ("room-made", "join", "leave", "room-dropped"):
        assert events.count(event) == visits, event
    times = [line["time"] for line in lines if "prefix" in line]
    assert times == sorted(times)


async def test_a_quiet_log_is_made_anew_at_once(tmp_path: Path) -> None:
    """SIGUSR1 creates the file without waiting for a line; collected lines are in the old one."""
    log, old = tmp_path / "debug.log", tmp_path / "old.log"
    async with (
        signaller(tmp=tmp_path) as server,
        connect(server.url, "raw", user="u", room="room") as peer,
    ):
        await peer.ask("connect")
        log.rename(old)
        server.process.send_signal(signal.SIGUSR1)
        await until(log.exists)
        assert "join" in [line["event"] for line in read(old)]
        assert log.stat().st_size == 0
    assert [line["event"] for line in read(log)][-1] == "stop"


async def test_a_log_that_cannot_be_made_anew_is_told_of(tmp_path: Path) -> None:
    """Its folder is gone; when it is back, the log goes on."""
    folder, away = tmp_path / "log", tmp_path / "away"
    async with signaller(tmp=tmp_path, config={"LogFile": "log/debug.log"}) as server:
        folder.rename(away)
        server.process.send_signal(signal.SIGUSR1)
        await until(lambda: any("cannot open the log" in line for line in server.output))
        folder.mkdir()
        async with connect(server.url, "raw", user="u", room="room") as peer:
            await visit(peer, 1)
    assert "join" in [line["event"] for line in read(folder / "debug.log")]


async def test_a_signal_without_a_file_harms_nothing(tmp_path: Path) -> None:
    """SIGUSR1 changes nothing on standard output."""
    async with spoken(tmp_path) as server:
        server.process.send_signal(signal.SIGUSR1)
        await talk(server.url)
    assert "join" in [line.split()[2] for line in server.out] and server.err == []


async def test_the_parent_of_workers_hands_signals_on(tmp_path: Path) -> None:
    """It forwards SIGUSR1 and SIGHUP to each worker, and survives them."""
    (tmp_path / "valkey").mkdir()
    async with valkey(tmp_path / "valkey") as store:
        config = {"Engine": store.url, "Workers": 2, "LogFile": "debug.log"}
        async with signaller(tmp=tmp_path, config=config) as server:
            await until(lambda: sum("Listening on" in line for line in server.output) == 2)
            logs_of_each = [tmp_path / f"debug.{number}.log" for number in range(2)]
            for log in logs_of_each:
                log.rename(log.with_suffix(".old"))
            server.process.send_signal(signal.SIGUSR1)
            for log in logs_of_each:
                await until(log.exists)
            server.process.send_signal(signal.SIGHUP)
            for log in logs_of_each:
                # As text: the last line may not be whole yet.
                await until(lambda log=log: '"reload"' in log.read_text())  # type: ignore[misc]
    for log in logs_of_each:
        assert [line["event"] for line in read(log.with_suffix(".old"), log)][-1] == "stop"


# Who is who.

HOSTILE = [
    b"\xff\xfe is not UTF-8",
    b"a" * 5000,
    b"{}\\",
    "\u202e\u2028\x9b2J".encode(),
    b'","event":"x"',
]


async def sessions(base: str, *request_ids: bytes) -> None:
    """Open a session for each request id; be refused, join, and leave."""
    for request_id in request_ids:
        wire = await Wire.open(base)
        lines = ["GET /echo/websocket HTTP/1.1", "Host: a"]
        lines += [f"{name}: {value}" for name, value in handshake().items()]
        head = "\r\n".join([*lines, "X-Request-Id: "]).encode()
        wire.writer.write(head + request_id + b"\r\n\r\n")
        socket = Socket(wire, await wire.head())
        assert socket.head.status == 101
        for payload in ({}, {"Payload": ""}):
            header = {"Event": "connect", "UserId": "u", "RoomId": ROOM}
            socket.send(json.dumps({"Header": header, **payload}))
            await socket.text()
    await Wire.hang_up()


async def test_requests_have_the_names_that_a_trusted_proxy_gives_them(tmp_path: Path) -> None:
    """Its X-Request-Id is logged next to the session's own name."""
    config = {"LogFile": "debug.log", "LogLevel": "debug", "TrustedProxies": ["127.0.0.1"]}
    async with signaller(tmp=tmp_path, config=config) as server:
        await sessions(server.url.removesuffix("/echo"), b"request-1", b"request-2")
    lines = read(tmp_path / "debug.log")
    opened = [line for line in lines if line["event"] == "session"]
    assert [line["request"] for line in opened] == ["request-1", "request-2"]
    names = [line["session"] for line in opened]
    assert len(set(names)) == 2 and all(re.fullmatch(r"[0-9a-f]{6}-\d+", name) for name in names)
    for event in ("error", "session-seated", "session-ended"):
        assert [line["session"] for line in lines if line["event"] == event] == names, event


async def test_a_stranger_gives_no_names(tmp_path: Path) -> None:
    """X-Request-Id from anyone but a trusted proxy is not logged."""
    config = {"LogFile": "debug.log", "LogLevel": "debug", "TrustedProxies": ["192.0.2.1"]}
    async with signaller(tmp=tmp_path, config=config) as server:
        await sessions(server.url.removesuffix("/echo"), b"request-1")
    text = (tmp_path / "debug.log").read_text()
    assert '"session-seated"' in text
    assert "request" not in text


async def test_hostile_names_of_requests_are_harmless(tmp_path: Path) -> None:
    """A proxy may pass on a stranger's text: no line is lost, torn or long."""
    config = {"LogFile": "debug.log", "LogLevel": "debug", "TrustedProxies": ["127.0.0.1"]}
    async with signaller(tmp=tmp_path, config=config) as server:
        await sessions(server.url.removesuffix("/echo"), *HOSTILE)
    text = (tmp_path / "debug.log").read_text(encoding="ascii")
    lines = [json.loads(line) for line in text.splitlines()]
    found = [line["request"] for line in lines if line["event"] == "session"]
    assert len(found) == len(HOSTILE) and all(len(each) <= 64 for each in found)
    assert found[1] == "a" * 64 and found[-1] == '","event":"x"'
    assert not [line for line in lines if line["event"] in ("x", "log-record-unreadable")]
    assert all(character.isprintable() or character == "\n" for character in text)
    assert max(map(len, text.splitlines())) < 700


@pytest.mark.parametrize("formatter", [JSONFormatter(), TextFormatter()])
def test_a_lone_surrogate_is_written_escaped(formatter: logging.Formatter) -> None:
    """It has no UTF-8 form, and costs neither its line nor others of its batch."""
    records: list[logging.LogRecord] = []
    logger = logging.Logger("videre")
    logger.addHandler(logging.Handler())
    logger.handlers[0].emit = records.append  # type: ignore[assignment, method-assign]
    journal = Journal(logger, batched=True)
    journal.record(logging.INFO, "join", {"user": "a\udcff"})
    (record,) = records
    text = formatter.format(record)
    assert r"a\udcff" in text and text.isascii()
