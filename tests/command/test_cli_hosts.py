"""Where the command listens: both IP families, lists, names, Unix sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import oneshot
import pytest
from fakes import packet
from patience import WAIT_SECONDS
from ports import free_port
from process import Signaller, signaller

from videre.command import listening
from videre.config import Config
from videre.errors import ConfigError

pytestmark = pytest.mark.process

FOUR, SIX = "127.0.0.1", "[::1]"


@asynccontextmanager
async def serving(tmp_path: Path, host: Any, **config: Any) -> AsyncIterator[Signaller]:
    """Run a server configured to listen at `host`."""
    values = {"Host": host, "Port": 0, **config}
    (tmp_path / "conf.json").write_text(json.dumps(values), encoding="utf-8")
    async with signaller(tmp=tmp_path, config=values, host=None) as running:
        yield running


async def answers(server: Signaller, host: str) -> bool:
    """Return whether the server can be reached at an address."""
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://{host}:{server.port}/health") as answer,
        ):
            return answer.status == 200
    except aiohttp.ClientConnectorError:
        return False


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("0.0.0.0", {FOUR}),
        ("127.0.0.1", {FOUR}),
        ("::1", {SIX}),
        ("::", {FOUR, SIX}),
        ("*", {FOUR, SIX}),
        ("localhost", {FOUR, SIX}),
        (["127.0.0.1", "::1"], {FOUR, SIX}),
        (["0.0.0.0", "::1"], {FOUR, SIX}),
        (["::1"], {SIX}),
        (["127.0.0.1", "localhost", "::1"], {FOUR, SIX}),
    ],
)
async def test_where_it_listens(host: Any, reached: set[str], tmp_path: Path) -> None:
    """It listens on each named address with the same port, and the first line lists them all."""
    async with serving(tmp_path, host) as server:
        found = {each for each in (FOUR, SIX) if await answers(server, each)}
        (line,) = [each for each in server.output if each.startswith("Listening on ")]
    assert found == reached
    urls = line.removeprefix("Listening on ").split(", ")
    assert len(urls) == len(reached) and all(f":{server.port}/echo" in url for url in urls)


@pytest.mark.parametrize(
    ("host", "reached"),
    [("127.0.0.1", {FOUR}), ("localhost", {FOUR, SIX}), ("*", {FOUR, SIX}), ("::", {FOUR, SIX})],
)
async def test_where_the_admin_port_listens(host: str, reached: set[str], tmp_path: Path) -> None:
    """On each address of AdminHost, with the same port."""
    admin = {"AdminHost": host, "AdminPort": 0, "AdminToken": "a-token-of-this-test"}
    async with serving(tmp_path, "127.0.0.1", **admin) as server:
        (line,) = [each for each in server.output if each.startswith("Admin port on ")]
        server.port = int(line.removesuffix("/status").rpartition(":")[2])
        assert {each for each in (FOUR, SIX) if await answers(server, each)} == reached


async def test_the_option(tmp_path: Path) -> None:
    """`--host` overrides the file, and the last of two options counts."""
    options = ("--host", "192.0.2.1", "--host", "*")
    async with signaller(*options, tmp=tmp_path, config={"Host": ["::1"]}, host=None) as server:
        assert await answers(server, FOUR) and await answers(server, SIX)


async def test_a_unix_socket(tmp_path: Path) -> None:
    """A proxy connects through its file, which our user and group own, and which is removed."""
    path = tmp_path / "videre.sock"
    config = {"MaxConnectionsPerAddress": 1, "TrustedProxies": ["unix:"]}
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # left by a process that was killed
    async with serving(tmp_path, [f"unix:{path}", "127.0.0.1"], **config) as server:
        assert path.stat().st_mode & 0o777 == 0o660
        (line,) = [each for each in server.output if each.startswith("Listening on ")]
        assert f"http://unix:{path}:/echo" in line
        assert await answers(server, FOUR)
        with pytest.raises(ConfigError, match=r"Host: .*in use"):
            listening.listen(Config(host=f"unix:{path}"))
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as http:
            url = "http://server/echo/websocket"
            sockets = []
            for client in ("192.0.2.1", "192.0.2.2"):
                headers = {"X-Forwarded-For": client}
                sockets.append(await http.ws_connect(url, headers=headers))
                await sockets[-1].send_str(packet("connect", client, "room"))
                role = await sockets[-1].receive_json(timeout=WAIT_SECONDS)
                assert role["Payload"] in ("true", "false")
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(url, headers=headers)
            assert refused.value.status == 503
            for each in sockets:
                await each.close()
    assert not path.exists()


def test_a_unix_socket_that_a_newer_server_replaced(tmp_path: Path) -> None:
    """A server that ends removes only its own file, not that of the server that came after it."""
    path = tmp_path / "videre.sock"
    config = Config(host=f"unix:{path}")
    older = listening.listen(config)
    path.unlink()  # as a script does that starts the next server first
    newer = listening.listen(config)
    older.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    newer.close()
    assert not path.exists()


def test_a_unix_socket_whose_owner_accepts_nothing(tmp_path: Path) -> None:
    """It is in use, and the start does not wait for room in its backlog."""
    path = str(tmp_path / "videre.sock")
    with socket.socket(socket.AF_UNIX) as owner, ExitStack() as stack:
        owner.bind(path)
        owner.listen(0)
        with pytest.raises(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
        done = oneshot.run("--host", f"unix:{path}", default_config=None)
        assert done.returncode == 2
        assert "Host: " in done.stderr and "in use" in done.stderr


def test_an_unusable_address(tmp_path: Path) -> None:
    """The fault names the host or the port, and no socket stays open."""
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    files = (f"unix:{tmp_path}/no/s", f"unix:{tmp_path}/file")
    for host in ("192.0.2.1", "no.such.host.invalid", "fe80::1", *files):
        with pytest.raises(ConfigError, match="Host"):
            listening.listen(Config(host=("127.0.0.1", host), port=0))
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
    port = free_port()
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        with pytest.raises(ConfigError, match="Port"):
            listening.listen(Config(host="localhost", port=port))
        with pytest.raises(ConfigError, match="Port"):
            listening.listen(Config(host=("127.0.0.1", "::1"), port=port))
    listening.listen(Config(host=("127.0.0.1", "::1"), port=port)).close()


def test_a_machine_with_one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without IPv6, `*` means IPv4; an address named explicitly must exist."""
    make = socket.create_server

    def without_six(address: Any, *, family: int, **rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(listening.errno.EAFNOSUPPORT, "Address family not supported")  # type: ignore[attr-defined]
        return make(address, family=family, **rest)

    monkeypatch.setattr(socket, "create_server", without_six)
    for host in ("*", "::", "localhost"):
        ports = listening.listen(Config(host=host, port=0))
        assert [each.family for each in ports.listening] == [socket.AF_INET]
        ports.close()
    with pytest.raises(ConfigError, match="Host"):
        listening.listen(Config(host="::1", port=0))


def test_a_port_free_at_all_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A port that is free at one address and used at another is not chosen."""
    make = socket.create_server
    refused: list[str] = []

    def taken_once(address: Any, *, family: int, **rest: Any) -> socket.socket:
        if family == socket.AF_INET6 and not refused:
            refused.append(address[1])
            raise OSError(listening.errno.EADDRINUSE, "Address already in use")  # type: ignore[attr-defined]
        return make(address, family=family, **rest)

    monkeypatch.setattr(socket, "create_server", taken_once)
    for host in ("*", ("127.0.0.1", "::1"), (f"unix:{tmp_path}/s", "127.0.0.1", "::1")):
        refused.clear()
        ports = listening.listen(Config(host=host, port=0))
        tcp = [each for each in ports.listening if each.family != socket.AF_UNIX]
        assert len({each.getsockname()[1] for each in tcp}) == 1
        assert len(tcp) == 2 and refused
        ports.close()


async def test_keep_alive(tmp_path: Path) -> None:
    """An idle connection is kept for KeepAlive, and no longer."""
    async with serving(tmp_path, "127.0.0.1", KeepAlive=1) as server:
        server.process.send_signal(signal.SIGSTOP)  # so that no request comes too late for it
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        server.process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(WAIT_SECONDS):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
