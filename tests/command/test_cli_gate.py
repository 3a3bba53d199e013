"""The gate: the limits of connections, and which ones are closed when they run out."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from heard_log import HeardLog
from patience import WAIT_SECONDS
from process import Signaller, self_signed, signaller
from sockjs_client import Wire
from websocket_client import Socket

from videre.app import create_app
from videre.command import gate as gates
from videre.command.accepting import ACCEPTED_AT_ONCE, Site
from videre.command.gate import Gate, most_sockets
from videre.command.http import Runner
from videre.config import Config
from videre.logs import EventLog, Journal
from videre.transport import Options

RAW = "/echo/websocket"


class Served:
    """A server behind a gate, in this process."""

    def __init__(self, runner: Runner, gate: Gate, log: HeardLog) -> None:
        self.gate = gate
        self.log = log
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])

    async def count(self, count: int) -> None:
        """Return once this many connections are open."""
        async with asyncio.timeout(WAIT_SECONDS):
            while self.gate.open != count:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)


@asynccontextmanager
async def served(files: int | None = None, **settings: Any) -> AsyncIterator[Served]:
    """Serve behind a gate with this limit of open files."""
    log = HeardLog()
    config = Config(**settings)
    gate = Gate(config, EventLog(Journal(log.logger), ""), files)
    runner = Runner(create_app(config))
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await Site(runner, listening, gate, ssl_context=None).start()
    try:
        yield Served(runner, gate, log)
    finally:
        await Wire.hang_up()
        await runner.cleanup()
        gate.close()
        assert gate.open == 0 and not gate._addresses and not gate._connections


@pytest.fixture(autouse=True)
def rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweep once: a later sweep closes a connection whose request comes late, on a busy machine."""
    monkeypatch.setattr(gates, "SWEEP", 3600.0)


async def answer_of(wire: Wire) -> int:
    """Return the status of the answer to a request."""
    return (await wire.ask("GET", "/health")).status


async def test_the_limit_in_all() -> None:
    """A further connection gets a 503; the log has one line, and later refusals are counted."""
    async with served(max_sockets=3) as site:
        sessions = [await Socket.open(site.url, RAW) for _ in range(3)]
        await site.count(3)
        for _ in range(5):
            assert await answer_of(await Wire.open(site.url)) == 503
        await site.log.until("sockets-refused", sockets=1, open=3, most=3)
        assert site.gate.refused["sockets"] == 5 and not site.log.events
        sessions[0].wire.reset()
        await site.count(2)
        assert await answer_of(await Wire.open(site.url)) == 200
    await site.log.until("sockets-refused", sockets=4)  # the rest is logged at the end


async def test_the_limit_of_an_address() -> None:
    """It refuses connections in excess; it limits no other address and no trusted proxy."""
    options = Options(trusted_proxies=("127.0.0.3",))
    async with served(max_sockets_per_address=2, transport=options) as site:
        for _ in range(2):
            assert await answer_of(await Wire.open(site.url)) == 200
        assert await answer_of(await Wire.open(site.url)) == 503
        await site.log.until("sockets-refused", sockets_per_address=1)
        assert await answer_of(await Wire.open(site.url, source="127.0.0.2")) == 200
        for _ in range(4):
            assert await answer_of(await Wire.open(site.url, source="127.0.0.3")) == 200


@pytest.mark.parametrize(("sessions", "share"), [(0, None), (1, 32), (10, 60), (100, 600)])
def test_the_default_limit_of_an_address(sessions: int, share: int | None) -> None:
    """It follows MaxConnectionsPerAddress: a polling client has several connections a session."""
    config = Config(transport=Options(max_connections_per_address=sessions))
    assert Gate(config, EventLog(Journal(HeardLog().logger), ""), None)._per_address == share


@pytest.mark.parametrize(
    ("files", "wanted", "most"),
    [
        (None, None, None),
        (None, 50, 50),
        (1024, None, 824),
        (65536, 100, 100),
        (1024, 5000, 824),
        (64, None, 48),
    ],
)
def test_the_limit_from_open_files(files: int | None, wanted: int | None, most: int | None) -> None:
    """MaxSockets is at most the limit of open files, less a reserve."""
    assert most_sockets(Config(max_sockets=wanted), files) == most


BEGINNINGS = {
    "nothing": b"",
    "half-a-request": b"GET /health HTTP/1.1\r\nHost: a\r\n",
    "idle": b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("data", BEGINNINGS.values(), ids=BEGINNINGS)
async def test_idle_connections_are_closed_when_places_run_out(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address with most idle ones loses some; sessions and other addresses' ones stay."""
    monkeypatch.setattr(gates, "LEAST_KEEP_ALIVE", WAIT_SECONDS)  # none is closed for its age alone
    monkeypatch.setattr(gates, "SWEEP", 0.05)
    async with served(max_sockets=20) as site:
        session = await Socket.open(site.url, RAW)
        other = await Wire.open(site.url, source="127.0.0.2")
        hoard = [await Wire.open(site.url) for _ in range(16)]
        for wire in hoard:
            wire.writer.write(data)
            if data.endswith(b"\r\n\r\n"):
                await wire.answer()
        await site.count(18)  # nine tenths: no more are wanted
        hoard += [await Wire.open(site.url) for _ in range(2)]
        await site.log.until("sockets-refused")
        assert site.gate.refused["idle"] >= 3  # down to eight tenths
        assert await answer_of(await Wire.open(site.url)) == 200
        assert await answer_of(other) == 200
        session.send(b"x", 9)
        assert (await session.frame())[0] == 10


class Idle:
    """An idle connection."""

    idle_since = 0.0

    def __init__(self, address: str) -> None:
        self.address = address
        self.closed = False

    def force_close(self) -> None:
        """Note it."""
        self.closed = True


async def test_room_is_made_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the look at all connections nor the close of many takes one turn of the loop."""
    monkeypatch.setattr(gates, "SWEPT_AT_ONCE", 2)
    gate = Gate(Config(max_sockets=100), EventLog(Journal(HeardLog().logger), ""), None)
    connections = [Idle(f"10.0.0.{max(0, number - 9)}") for number in range(12)]
    for each in connections:
        gate.add(each)
    making, turns = gate._make_room(6), 0
    with pytest.raises(StopIteration) as made:
        while True:
            making.send(None)
            turns += 1
    assert made.value.value == 6 and turns == 12 / 2 + 6 / 2
    assert {each.address for each in connections if each.closed} == {"10.0.0.0"}


def test_keep_alive_gets_shorter() -> None:
    """From half of all connections on it shrinks, to a few seconds."""
    gate = Gate(Config(max_sockets=100), EventLog(Journal(HeardLog().logger), ""), None)
    told = []
    for gate.open in range(0, 101, 10):
        told.append(round(gate.keep_alive))
    assert told == [75, 75, 75, 75, 75, 75, 56, 37, 19, 3, 3] or told == sorted(told, reverse=True)
    assert (told[0], told[5], told[-1]) == (75, 75, 3)
    assert 3 < told[7] < 75


async def test_a_connection_is_counted_until_its_end() -> None:
    """This holds however it ends and whatever it served: nothing remains."""
    async with served(max_sockets=100) as site:
        wires = [await Wire.open(site.url) for _ in range(4)]
        wires[1].writer.write(b"GET /heal")
        assert await answer_of(wires[2]) == 200
        wires.append((await Socket.open(site.url, RAW)).wire)
        await site.count(5)
        for number, wire in enumerate(wires):
            wire.reset() if number % 2 else await wire.close()
        await site.count(0)


async def test_a_websocket_is_never_idle() -> None:
    """It counts as a connection, but the gate skips it in a search for idle ones."""
    async with served(max_sockets=100) as site:
        socket = await Socket.open(site.url, RAW)
        await site.count(1)
        assert (len(site.gate._connections), sum(site.gate._addresses.values())) == (0, 1)
        socket.wire.reset()
        await site.count(0)


async def test_a_crowd_is_accepted_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop accepts a few waiting connections at a time, between its other work."""
    turns: list[int] = [0]
    admit = Gate.admit

    def counted(gate: Gate, address: str) -> str | None:
        turns[-1] += 1
        return admit(gate, address)

    monkeypatch.setattr(Gate, "admit", counted)
    crowd = 3 * ACCEPTED_AT_ONCE
    async with served(max_sockets=1000) as site:
        wires = [await Wire.open(site.url) for _ in range(2)]
        await site.count(len(wires))
        host, port = wires[0].writer.get_extra_info("peername")
        # They connect while the loop is blocked.
        waiting = [socket.create_connection((host, port)) for _ in range(crowd)]
        while sum(turns) < len(wires) + crowd:
            turns.append(0)
            await asyncio.sleep(0)
        await site.count(len(wires) + crowd)
        for each in waiting:
            each.close()
        await site.count(len(wires))
    assert max(turns[1:]) == ACCEPTED_AT_ONCE


async def test_reload() -> None:
    """New limits apply at once."""
    async with served(max_sockets=1) as site:
        await Socket.open(site.url, RAW)
        assert await answer_of(await Wire.open(site.url)) == 503
        site.gate.configure(Config(max_sockets=2))
        assert await answer_of(await Wire.open(site.url)) == 200


# As processes.


def limited(soft: int, hard: int) -> list[str]:
    """Return a function that runs a command with these limits of open files."""
    return ["prlimit", f"--nofile={soft}:{hard}"]


def connected(
    server: Signaller, count: int, *, source: str = "127.0.0.1"
) -> Iterator[socket.socket]:
    """Give connections to a server."""
    for _ in range(count):
        yield socket.create_connection(("127.0.0.1", server.port), WAIT_SECONDS, (source, 0))


@pytest.mark.process
async def test_the_soft_limit_is_raised(tmp_path: Path) -> None:
    """All are served, and the log has the new limit."""
    async with signaller(tmp=tmp_path, config={}, within=limited(64, 1024)) as server:
        await said(server, " sockets=824")
        async with asyncio.timeout(WAIT_SECONDS):
            opened = [await Socket.open(server.url, RAW) for _ in range(100)]
        assert [socket.head.status for socket in opened] == [101] * 100
        await Wire.hang_up()


@pytest.mark.process
async def test_too_few_files_for_all_sessions(tmp_path: Path) -> None:
    """The start warns if MaxConnections allows more sessions than files."""
    config = {"MaxConnections": 1000}
    async with signaller(tmp=tmp_path, config=config, within=limited(64, 1024)) as server:
        await said(server, "few-descriptors sockets=824 max_connections=1000")


@pytest.mark.process
async def test_out_of_file_descriptors(tmp_path: Path) -> None:
    """Nothing is accepted, the log says so once, and the loop does not spin; then all goes on."""
    config = {"LogFormat": "text"}
    async with signaller(tmp=tmp_path, config=config, within=limited(100, 100)) as server:
        pid = server.process.pid
        files = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208  # of no file system
        await limit_files(pid, files + 5)
        with ExitStack() as stack:
            for each in connected(server, 20):
                stack.enter_context(each)
            await said(server, "descriptors=1")
            before = cpu(pid)
            await asyncio.sleep(2.0)
            assert cpu(pid) - before < 1.0
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await (await Wire.open(server.url)).ask("GET", "/health")).status == 200
        await Wire.hang_up()
        lines = [line for line in server.output if "sockets-refused" in line]
        assert len(lines) == 1, lines


async def limit_files(pid: int, files: int) -> None:
    """Change the limit of open files of a running process."""
    command = ("prlimit", f"--nofile={files}:{files}", "--pid", str(pid))
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def said(server: Signaller, words: str) -> None:
    """Return once a line of the output contains these words."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not any(words in line for line in server.output):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.05)


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.process
async def test_tls_handshakes_are_counted(tmp_path: Path) -> None:
    """A silent client on a TLS port counts for its address until the handshake times out."""
    cert, key = self_signed(tmp_path)
    config = {"TLS": True, "Cert": str(cert), "Key": str(key), "MaxSocketsPerAddress": 5}
    context = ssl.create_default_context(cafile=cert)
    async with signaller(tmp=tmp_path, config=config) as server:
        with ExitStack() as stack:
            for each in connected(server, 5):
                stack.enter_context(each)
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await asyncio.open_connection(
                    "127.0.0.1", server.port, ssl=context, server_hostname="localhost"
                )
            _, writer = await asyncio.open_connection(
                "127.0.0.1",
                server.port,
                ssl=context,
                server_hostname="localhost",
                local_addr=("127.0.0.2", 0),
            )
            writer.close()
        await said(server, "sockets_per_address=1")


@pytest.mark.process
async def test_the_metrics(tmp_path: Path) -> None:
    """The admin port shows how many are open, and how many were refused."""
    config = {"AdminPort": 0, "MaxSocketsPerAddress": 1}
    async with signaller(tmp=tmp_path, config=config) as server:
        (admin,) = [line.split()[-1] for line in server.output if "Admin port on" in line] or [""]
        held = next(connected(server, 1))
        with held, next(connected(server, 1)) as refused:
            assert refused.recv(1000).startswith(b"HTTP/1.1 503")
            wire = await Wire.open(admin)
            body = (await wire.ask("GET", "/metrics")).body.decode()
        await Wire.hang_up()
    assert 'videre_sockets_refused_total{reason="sockets-per-address"} 1.0' in body
    assert "\nvidere_sockets 1.0" in body
