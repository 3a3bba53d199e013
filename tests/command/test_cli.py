"""The command: its options, its exit codes, and how it stops."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import forked
import pytest
from aiohttp import ClientSession
from forked import Forked
from oneshot import run
from patience import patient
from process import (
    ROOT,
    SIGNALLER,
    START_SECONDS,
    STOP_SECONDS,
    Signaller,
    execute,
    missing,
    self_signed,
    signaller,
)
from signalling import connect
from sockjs_client import Stream, Wire, fresh, poll
from websocket_client import CLOSE, TEXT, Socket

from videre.config import load
from videre.config.schema import SCHEMA
from videre.version import __version__

pytestmark = pytest.mark.process

SCRIPT = str(ROOT / "bin" / "signaller.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "500"}
ENDS_WITHIN = patient(5.0)  # seconds from the signal to the exit: issue 2, point 8


@pytest.fixture(autouse=True)
async def hang_up() -> AsyncIterator[None]:
    """Close the connections that a test left open."""
    yield
    await Wire.hang_up()


@asynccontextmanager
async def running(process: Process | Forked) -> AsyncIterator[Signaller]:
    """Give a server, and stop it at the end."""
    started = Signaller(process)
    try:
        await started.listening()
        yield started
    finally:
        code = await started.stop()
    assert code == 0, str(started)


def test_help_lists_every_option_and_its_default() -> None:
    """Each option is in --help, with its default if it takes a value."""
    done = run("--help", environ=ENVIRONMENT)
    options = " ".join(done.stdout.partition("options:")[2].split())
    told = {text.split()[0]: text for text in re.split(r" (?=--\w)", options)}
    defaults = {
        "--host": "0.0.0.0",
        "--port": "1111",
        "--prefix": "/echo",
        "--workers": "1",
        "--config": str(ROOT / "bin" / "conf.json"),
        "--cert": "none",
        "--key": "none",
        "--log-file": "none",
        "--log-level": "info",
        "--admin-host": "127.0.0.1",
        "--admin-port": "none",
    }
    assert done.returncode == 0
    assert {*told} == {"-h,", "--help", *defaults, "--check", "--connect", "--lan", "--version"}
    for option, default in defaults.items():
        assert told[option].lower().endswith(f"(default: {default})".lower())


def test_help_in_a_folder_with_a_percent_sign(tmp_path: Path) -> None:
    """The default configuration's path is printed literally."""
    config = tmp_path / "100%done" / "conf.json"
    done = run("--help", environ=ENVIRONMENT, default_config=config)
    assert done.returncode == 0 and "100%done" in done.stdout, done.stderr


def test_version() -> None:
    """--version prints the name and the version."""
    assert run("--version").stdout == f"videre-server {__version__}\n"


def test_the_shipped_configuration_logs_in_detail() -> None:
    """bin/conf.json is the original's, with a detailed log in log/debug.log."""
    config = load(ROOT / "bin" / "conf.json")
    assert config.log_file is not None and config.log_file.resolve() == ROOT / "log" / "debug.log"
    assert (config.port, config.tls, config.log_level) == (1111, False, "debug")


async def test_one_line_says_where_it_listens(tmp_path: Path) -> None:
    """With --port 0, the line has the port that the server listens on."""
    async with signaller(tmp=tmp_path) as server, ClientSession() as client:
        assert server.port > 0
        async with client.get(server.url) as answer:
            assert await answer.text() == "Welcome to SockJS!\n"
        assert sum("Listening on" in line for line in server.output) == 1


async def test_run_as_a_module(tmp_path: Path) -> None:
    """`python -m videre` serves like bin/signaller.py does, with the defaults."""
    process = await execute(
        *(sys.executable, "-m", "videre", "--host", "127.0.0.1", "--port", "0"),
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    async with (
        running(process) as server,
        connect(server.url, "raw", user="a", room="r") as peer,
    ):
        assert (await peer.ask("connect"))["Payload"] == "true"


async def test_several_prefixes_share_no_room(tmp_path: Path) -> None:
    """--prefix may be repeated: each prefix is served and printed, and has its own rooms."""
    async with signaller("--prefix", "/a", "--prefix", "/b/c", tmp=tmp_path) as server:
        base = f"http://127.0.0.1:{server.port}"
        assert f"Listening on {base}/a, {base}/b/c" in server.output
        async with (
            connect(f"{base}/a", "raw", user="one", room="r") as one,
            connect(f"{base}/b/c", "sockjs", user="two", room="r") as two,
        ):
            assert (await one.ask("connect"))["Payload"] == "true"
            assert (await two.ask("connect"))["Payload"] == "true"
            assert (await one.ask("ping"))["Payload"] == '["one"]'


async def test_tls_by_options(tmp_path: Path) -> None:
    """With --cert and --key it serves https and wss."""
    cert, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(cert))
    async with (
        signaller("--cert", str(cert), "--key", str(key), tmp=tmp_path) as server,
        ClientSession() as client,
        connect(server.url, "raw", user="a", room="r", ssl=trusting) as peer,
    ):
        assert server.url.startswith("https://")
        assert (await peer.ask("connect"))["Payload"] == "true"
        async with client.get(f"{server.url}/info", ssl=trusting) as answer:
            assert (await answer.json())["websocket"] is True


async def test_ipv6(tmp_path: Path) -> None:
    """It listens on an IPv6 address, and prints a usable URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        missing("There is no ::1 here")
    async with (
        signaller("--host", "::1", tmp=tmp_path) as server,
        connect(server.url, "raw", user="a", room="r") as peer,
    ):
        assert server.url == f"http://[::1]:{server.port}/echo"
        assert (await peer.ask("connect"))["Payload"] == "true"


NUMBERS = {
    key: rules["max"]
    for key, rules in SCHEMA.items()
    if rules.get("type") in ("integer", "number") and not key.endswith(("Port", "Workers"))
}
NULLS = {key: None for key in NUMBERS if SCHEMA[key].get("nullable")}


@pytest.mark.parametrize(
    "numbers",
    [NUMBERS, {**NULLS, "DrainSeconds": 600}, {"MaxBacklogBytes": 4096, "DrainSeconds": 600}],
    ids=["largest", "null", "a backlog below a packet"],
)
async def test_numbers_at_their_bounds(numbers: dict[str, Any], tmp_path: Path) -> None:
    """Whatever `--check` accepts works: no clock, buffer, parser or counter overflows."""
    assert {"MaxPacketBytes", "JoinTimeout", "ByteBurst", "KeepAlive"} <= NUMBERS.keys()
    async with signaller(tmp=tmp_path, config={**numbers, "LogFile": "log"}) as server:
        async with (
            connect(server.url, "raw", user="a", room="r") as a,
            connect(server.url, "sockjs", user="b", room="r") as b,
        ):
            for each in (a, b):
                assert (await each.ask("connect"))["Header"]["Event"] == "connect"
            await b.send(b.packet("broadcast", "x" * 50_000))
            heard = [await a.receive() for _ in range(2)]
            assert heard[-1]["Payload"] == "x" * 50_000
            raw = await Socket.open(f"http://127.0.0.1:{server.port}", "/echo/websocket")
            raw.send(b"ping", 9)
            assert await raw.frame() == (10, b"ping")
            server.process.send_signal(signal.SIGTERM)
            for each in (a, b):
                assert (await each.receive())["Header"]["Event"] == "goaway"
        raw.wire.reset()
        assert await server.process.wait() == 0


def joins(user: str) -> str:
    """Return a packet with which a user joins the room."""
    return json.dumps(
        {"Header": {"Event": "connect", "UserId": user, "RoomId": "r"}, "Payload": ""}
    )


async def answer_close(ws: Socket) -> tuple[list[str], int]:
    """Answer the close frame; return the packets before it, and its code."""
    texts = []
    while (frame := await ws.frame())[0] != CLOSE:
        texts += [frame[1].decode()] if frame[0] == TEXT else []
    ws.send(frame[1], CLOSE)
    return texts, int.from_bytes(frame[1][:2], "big")


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_closes_every_session(sign: signal.Signals, tmp_path: Path) -> None:
    """Each gets 1001 and hears no other's leave; the process exits in time, with code 0."""
    async with signaller(tmp=tmp_path) as server:
        base = f"http://127.0.0.1:{server.port}"
        raw = await Socket.open(base, "/echo/websocket")
        raw.send(joins("raw"))
        assert await raw.text()
        framed = await Socket.open(base, f"{fresh()}/websocket")
        assert await framed.text() == "o"
        framed.send(json.dumps([joins("framed")]))
        assert await framed.text() and await raw.text()
        streams = [
            await Stream.open(base, "POST", f"{fresh()}/xhr_streaming"),
            await Stream.open(base, "GET", f"{fresh()}/eventsource"),
        ]
        opened = [await streams[0].until("o\n"), await streams[1].until("data: o\r\n\r\n")]
        polling = fresh()
        opened.append(await poll(base, polling))
        assert all("o" in text for text in opened)
        poller = await Wire.open(base)
        poller.say("POST", f"{polling}/xhr", b"")
        assert "Welcome" in (await poll_greeting(base))

        server.process.send_signal(sign)
        async with asyncio.timeout(ENDS_WITHIN):
            goodbye = 'c[1001,"Server is going away"]'
            assert await answer_close(raw) == ([], 1001)
            assert await answer_close(framed) == ([goodbye], 1001)
            assert [goodbye in (await stream.rest()).decode() for stream in streams] == [True] * 2
            assert (await poller.answer()).text == f"{goodbye}\n"
            assert await server.process.wait() == 0


async def poll_greeting(base: str) -> str:
    """Get the greeting, which proves that earlier data has been received on any connection."""
    async with ClientSession() as client, client.get(f"{base}/echo") as answer:
        return await answer.text()


PATIENT = f"""
from videre.transport import manager, shared
manager.GOODBYE = shared.GOODBYE = 3600.0  # so that a busy machine does not decide
{SIGNALLER}
"""


@pytest.mark.parametrize("signs", [[signal.SIGTERM] * 2, [signal.SIGINT, signal.SIGTERM]])
async def test_a_second_signal_ends_it_at_once(signs: list[signal.Signals], tmp_path: Path) -> None:
    """It does not wait for a client that answers no close frame; the exit code is 0."""
    async with signaller(tmp=tmp_path, code=PATIENT) as server:
        silent = await Socket.open(f"http://127.0.0.1:{server.port}", "/echo/websocket")
        server.process.send_signal(signs[0])
        _, payload = await silent.frame()  # read but not answered, so that the server waits
        assert payload == (1001).to_bytes(2, "big") + b"Server is going away"
        server.process.send_signal(signs[1])
        async with asyncio.timeout(STOP_SECONDS):
            assert await server.process.wait() == 0
    assert not any(line.split()[2:] == ["stop"] for line in server.output), "it waited"


LATE = """
import os, signal, sys
from videre import logs
from videre.command import cli
end = logs.Logging.end
def send_all(self):
    for each in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), each)
    end(self)
logs.Logging.end = send_all
sys.exit(cli.main(["--port", "0", "--host", "127.0.0.1"]))
"""


async def test_a_late_signal_is_ignored(tmp_path: Path) -> None:
    """When the event loop has ended, no signal turns a clean end into a failure."""
    async with running(await forked.start(LATE, cwd=tmp_path, environ=ENVIRONMENT)) as server:
        assert server.url


STUCK = """
import asyncio, os, sys, threading
from videre.command import cli
async def serve(*_):
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    os.write(1, b"stops")
cli.serve = serve
sys.exit(cli.main(["--port", "0", "--host", "127.0.0.1"]))
"""


async def test_a_thread_that_is_stuck_holds_up_no_end(tmp_path: Path) -> None:
    """As one that looks up the Engine's name while no DNS server answers."""
    process = await forked.start(STUCK, cwd=tmp_path, environ=ENVIRONMENT)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            assert await process.stdout.readexactly(5) == b"stops"
        async with asyncio.timeout(ENDS_WITHIN):
            assert await process.wait() == 0
    finally:
        process.kill()


WATCHED = """
import os, sys
def watch(event, args):
    if event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        os.write(1, f"wrote {os.path.abspath(args[0])}\\n".encode())
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate"):
        for path in args:
            if isinstance(path, str):
                os.write(1, f"wrote {os.path.abspath(path)}\\n".encode())
sys.dont_write_bytecode = True  # of modules that are not imported yet
sys.addaudithook(watch)
from videre.command.cli import main
sys.exit(main(["--port", "0", "--config", "conf.json"]))
"""


async def test_it_writes_only_to_the_log_folder(tmp_path: Path) -> None:
    """Of all files that the process opens, only the log is opened for writing."""
    values = {"Host": "127.0.0.1", "LogFile": "log/debug.log", "LogMaxBytes": 500, "LogBackups": 1}
    (tmp_path / "conf.json").write_text(json.dumps(values))
    async with (
        running(await forked.start(WATCHED, cwd=tmp_path, environ=ENVIRONMENT)) as server,
        connect(server.url, "raw", user="a", room="r") as peer,
    ):
        await peer.ask("connect")
    wrote = {line.split()[1] for line in server.output if line.startswith("wrote")}
    assert wrote >= {f"{tmp_path}/log", f"{tmp_path}/log/debug.log.1"}
    assert [path for path in wrote if not path.startswith(f"{tmp_path}/log")] == []
