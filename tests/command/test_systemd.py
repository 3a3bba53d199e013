"""What a service manager passes to us (sockets), and hears from us: READY, RELOADING, STOPPING."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import forked
import pytest
from passed import activated, environ, numbered, refused
from patience import WAIT_SECONDS
from ports import free_port
from process import (
    START_SECONDS,
    Signaller,
    execute,
    missing,
    require,
    self_signed,
)
from signalling import connect
from sockjs_client import Wire
from valkey_server import valkey
from websocket_client import handshake

from videre.command import systemd
from videre.command.listening import BACKLOG

pytestmark = pytest.mark.process

DRAINS = {"VIDERE_DRAIN_SECONDS": "0"}


async def until(true: Callable[[], bool]) -> None:
    """Return once a condition is true."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            if true():
                return
            await asyncio.sleep(0.01)


async def enters(url: str) -> None:
    """Join a room there."""
    async with connect(url, "raw", user="user", room="room") as peer:
        assert (await peer.ask("connect"))["Payload"] == "true"


# The socket.


def backlog(listening: socket.socket) -> int:
    """Return a listener's backlog: tcpi_sacked of tcp_info (Linux)."""
    info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[28:32], sys.byteorder)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_passed_socket_is_served(host: str) -> None:
    """It overrides Host and Port, and clients that connected before the start are answered."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, 0), family=family)
    except OSError:
        missing("There is no ::1 here")
    with listening, socket.create_connection(listening.getsockname()[:2]) as early:
        early.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        port = listening.getsockname()[1]
        async with activated(listening, "--port", "1", variables=DRAINS) as server:
            assert server.port == port
            assert backlog(listening) == BACKLOG
            await enters(server.url)
            answer = await asyncio.to_thread(early.recv, 100)
            assert answer.startswith(b"HTTP/1.1 200 ")


async def test_tls_on_a_passed_socket(tmp_path: Path) -> None:
    """It uses the configured certificate."""
    cert, key = self_signed(tmp_path)
    options = ("--cert", str(cert), "--key", str(key))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with activated(listening, *options, variables=DRAINS) as server:
            assert server.url.startswith("https://127.0.0.1:")


def test_unusable_descriptors(tmp_path: Path) -> None:
    """Each is a fault of the configuration: exit code 2 and a message."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket() as idle,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as packets,
        socket.socket(socket.AF_UNIX) as quiet,
        (tmp_path / "file").open("w") as file,
    ):
        idle.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        packets.bind(str(tmp_path / "packets"))
        packets.listen()
        quiet.bind(str(tmp_path / "quiet"))
        cases = [
            ([file.fileno()], "the passed descriptor is not a socket"),
            *(
                ([each.fileno()], "does not listen for TCP or Unix connections")
                for each in (udp, idle, packets, quiet)
            ),
            ([listening.fileno(), udp.fileno()], "2 sockets were passed, only one is supported"),
        ]
        for descriptors, words in cases:
            said = refused(descriptors, "--port", "0")
            assert re.fullmatch(rf"videre-server: --port: Port: 0: .*{words}.*\n", said), said
        engine = {"VIDERE_ENGINE": "redis://localhost"}
        said = refused([listening.fileno()], "--workers", "2", **engine)
        assert "--workers: Workers: 2: socket activation is for one process" in said


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"LISTEN_FDS": "1"},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "ours", "LISTEN_FDS": "0"},
        {"LISTEN_PID": "ours", "LISTEN_FDS": "-1"},
        {"LISTEN_PID": "ours", "LISTEN_FDS": "x"},
        {"LISTEN_PID": "ours"},
    ],
    ids=str,
)
def test_without_a_socket(told: dict[str, str]) -> None:
    """Descriptors for another process, or none, are ignored, and not passed on."""
    told = {name: value.replace("ours", str(os.getpid())) for name, value in told.items()}
    variables = {**told, "LISTEN_FDNAMES": "a", "OTHER": "1"}
    assert systemd.take_socket(variables) is None
    assert variables == {"OTHER": "1"}


def test_children_do_not_inherit_the_socket() -> None:
    """Neither the socket nor its variables are inherited: a child would keep it open."""
    told = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        numbered(listening.fileno()),
    ):
        taken = systemd.take_socket(told)
        assert taken is not None
        try:
            assert taken.getsockname() == listening.getsockname()
            assert not taken.get_inheritable() and told == {}
        finally:
            taken.close()


async def test_real_socket_activation() -> None:
    """systemd's own program listens, and starts us when the first client connects."""
    program = require("systemd-socket-activate")
    port = free_port()
    process = await execute(
        *(program, "-l", f"127.0.0.1:{port}", sys.executable, "-m", "videre"),
        env=environ(**DRAINS),
    )
    server = Signaller(process)
    try:
        await until(lambda: any("Listening on" in line for line in server.output))
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{port}"
            async with http.get(f"{url}/health") as answer:
                assert answer.status == 200
        await server.listening()
        await enters(f"{url}/echo")
        assert f"Listening on {url}/echo" in server.output
    finally:
        code = await server.stop()
    assert code == 0, str(server)


# A restart.

CLIENTS = 8
RESTARTS = 3
#: A client whose request comes late, on a busy machine, is answered nevertheless.
PATIENT = f"""
from videre.command import server
server.LAST_ANSWERS = 3600.0
{forked.VIDERE}
"""


async def knock(port: int, *, websocket: bool) -> int:
    """Return the status that a new connection gets; raise OSError if it is refused."""
    wire = await Wire.open(f"http://127.0.0.1:{port}")
    try:
        if websocket:
            wire.say("GET", "/echo/websocket", None, handshake())
        else:
            wire.say("GET", "/ready", None, {"Connection": "close"})
        async with asyncio.timeout(START_SECONDS + WAIT_SECONDS):
            block = await wire.reader.readuntil(b"\r\n\r\n")
        return int(block.split()[1])
    finally:
        Wire.opened.remove(wire)
        wire.writer.transport.abort()


async def test_a_restart_refuses_nobody() -> None:
    """Every connection made meanwhile is accepted and answered: with a page or a 503."""
    statuses: Counter[int] = Counter()
    going = True

    def seen() -> int:
        for each in clients:
            if each.done():
                each.result()
        return statuses[200] + statuses[101]

    async def client(number: int) -> None:
        while going:
            statuses[await knock(port, websocket=number % 2 == 0)] += 1

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        port = listening.getsockname()[1]
        clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
        for _ in range(RESTARTS):
            drains = {"VIDERE_DRAIN_SECONDS": "0.5"}
            async with activated(listening, variables=drains, code=PATIENT) as server:
                served = seen()
                await until(lambda so_far=served: seen() >= so_far + 50)  # type: ignore[misc]
                async with connect(server.url, "raw", user="user", room="room") as peer:
                    await peer.ask("connect")
                    server.process.send_signal(signal.SIGTERM)
                    assert await server.process.wait() == 0
        going = False
        async with activated(listening, variables=DRAINS):  # now those that wait are answered
            await asyncio.gather(*clients)
    assert statuses.keys() == {200, 101, 503}, statuses


# Messages to the service manager.


class Manager:
    """A service manager's end of NOTIFY_SOCKET; `path` is the variable's value."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(path.replace("@", "\0", 1) if path.startswith("@") else path)

    async def next_message(self) -> dict[str, str]:
        """Return the variables in the next message."""
        async with asyncio.timeout(START_SECONDS):
            data = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
        return dict(line.split("=", 1) for line in data.decode().splitlines())

    def nothing_more(self) -> bool:
        """Return whether there is no further message."""
        try:
            return not self._socket.recv(4096)
        except BlockingIOError:
            return True

    def fill(self) -> int:
        """Leave no room for a message; return the number of those that fitted."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            for count in itertools.count():
                try:
                    sender.sendto(b"STATUS=full", self._socket.getsockname())
                except BlockingIOError:
                    return count
        raise AssertionError("it is never full")

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """Give a manager that listens on a path, and one on an abstract address."""
    name = f"@videre-{secrets.token_hex(8)}"
    made = Manager(str(tmp_path / "notify") if request.param == "path" else name)
    yield made
    made.close()


def now_us() -> int:
    """Return the time in the unit and clock of systemd."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


async def test_messages_to_the_manager(manager: Manager, tmp_path: Path) -> None:
    """READY when clients are served, RELOADING with its time, READY again, STOPPING."""
    (tmp_path / "conf.json").write_text("{}")
    variables = {**DRAINS, "NOTIFY_SOCKET": manager.path}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with activated(
            listening, "--config", str(tmp_path / "conf.json"), variables=variables
        ) as server:
            assert await manager.next_message() == {"READY": "1"}
            await enters(server.url)
            before = now_us()
            server.process.send_signal(signal.SIGHUP)
            reloading = await manager.next_message()
            assert reloading.keys() == {"RELOADING", "MONOTONIC_USEC"}
            assert before <= int(reloading["MONOTONIC_USEC"]) <= now_us()
            assert await manager.next_message() == {"READY": "1"}
            (tmp_path / "conf.json").write_text("{")  # it is refused, and the server goes on
            server.process.send_signal(signal.SIGHUP)
            assert "RELOADING" in await manager.next_message()
            assert await manager.next_message() == {"READY": "1"}
            server.process.send_signal(signal.SIGTERM)
            assert await manager.next_message() == {"STOPPING": "1"}
            await server.process.wait()
    assert manager.nothing_more()


async def test_the_watchdog_gets_its_messages(tmp_path: Path) -> None:
    """READY comes first, then WATCHDOG as long as the event loop turns."""
    manager = Manager(str(tmp_path / "notify"))
    variables = {**DRAINS, "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "100000"}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with activated(listening, variables=variables):
            assert await manager.next_message() == {"READY": "1"}
            for _ in range(4):
                assert await manager.next_message() == {"WATCHDOG": "1"}
    manager.close()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
    ],
)
def test_the_interval_of_the_watchdog(environ: dict[str, str], seconds: float | None) -> None:
    """It is half of the allowed time; a watchdog for another process is ignored."""
    assert systemd.watchdog(environ) == seconds


async def test_stopping_is_sent_when_a_drain_begins(manager: Manager) -> None:
    """It is not sent at the end: the manager's stop timeout starts with it."""
    variables = {"VIDERE_DRAIN_SECONDS": "1000", "NOTIFY_SOCKET": manager.path}
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with (
            activated(listening, variables=variables) as server,
            connect(server.url, "raw", user="user", room="room") as peer,
        ):
            await peer.ask("connect")
            assert await manager.next_message() == {"READY": "1"}
            server.process.send_signal(signal.SIGTERM)
            assert await manager.next_message() == {"STOPPING": "1"}
            heard = [await peer.ask("ping"), await peer.receive()]
            assert {each["Header"]["Event"] for each in heard} == {"goaway", "ping"}


async def test_the_parent_of_workers_sends_the_messages(tmp_path: Path) -> None:
    """Each is sent once: a manager accepts messages from the main process only."""
    (tmp_path / "valkey").mkdir()
    listener = Manager(str(tmp_path / "notify"))
    async with valkey(tmp_path / "valkey") as store:
        process = await forked.start(
            forked.VIDERE,
            ["--host", "127.0.0.1", "--port", "0", "--workers", "2"],
            cwd=tmp_path,
            environ=environ(**DRAINS, NOTIFY_SOCKET=listener.path, VIDERE_ENGINE=store.url),
        )
        server = Signaller(process)
        try:
            assert await listener.next_message() == {"READY": "1"}
            await until(lambda: sum("Listening on" in line for line in server.output) == 2)
        finally:
            assert await server.stop() == 0, str(server)
    assert await listener.next_message() == {"STOPPING": "1"}
    assert listener.nothing_more()
    listener.close()


@pytest.mark.parametrize(("state", "patience"), [("WATCHDOG=1", 1e6), ("READY=1", 0.01)])
async def test_a_manager_that_does_not_read(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, state: str, patience: float
) -> None:
    """Its socket is full: the message is dropped, and the event loop goes on."""
    monkeypatch.setattr(systemd, "PATIENCE", patience)
    count = manager.fill()
    systemd.notify(state, {"NOTIFY_SOCKET": manager.path})
    assert [await manager.next_message() for _ in range(count)] == [{"STATUS": "full"}] * count
    assert manager.nothing_more()


async def test_a_message_waits_for_a_busy_manager(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY is sent only once: systemd would end a service whose READY it never got."""
    monkeypatch.setattr(systemd, "PATIENCE", WAIT_SECONDS)
    manager.fill()
    connected, sends = socket.socket.connect, False

    def connect(self: socket.socket, address: Any) -> None:
        nonlocal sends
        connected(self, address)
        sends = True

    monkeypatch.setattr(socket.socket, "connect", connect)
    variables = {"NOTIFY_SOCKET": manager.path}
    sending = asyncio.create_task(asyncio.to_thread(systemd.notify, "READY=1", variables))
    await until(lambda: sends)
    while await manager.next_message() != {"READY": "1"}:
        pass
    await sending


@pytest.mark.parametrize("path", ["", "relative", "/nobody/listens", "@nobody-listens", "\udcff"])
def test_without_a_manager(path: str) -> None:
    """A missing variable, or one that leads nowhere, is no fault."""
    systemd.notify("READY=1", {"NOTIFY_SOCKET": path})
    systemd.notify("RELOADING=1", {})


async def test_early_signals_are_kept(tmp_path: Path) -> None:
    """SIGHUP and SIGUSR1 never end a starting process, and are handled once it can."""
    log = tmp_path / "debug.log"
    code = f"""
import os, signal, sys
from videre.command import cli
load = cli.configuration.load
def late(*given):
    cli.configuration.load = load
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGUSR1)
    return load(*given)
cli.configuration.load = late
sys.exit(cli.main(["--host", "127.0.0.1", "--port", "0", "--log-file", {str(log)!r}]))
"""
    process = await forked.start(code, cwd=tmp_path, environ=environ(**DRAINS))
    server = Signaller(process)
    await server.listening()
    await until(lambda: '"reload"' in log.read_text())
    assert await server.stop() == 0, str(server)
