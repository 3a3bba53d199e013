"""A Unix socket from a service manager: only a proxy connects, and names its clients' addresses."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import forked
import pytest
from documents import ROOT, Block, runs
from fakes import packet
from forked import Forked
from passed import environ
from process import START_SECONDS, Signaller, execute, require
from test_systemd import until

from videre.command import listening

pytestmark = pytest.mark.process

VARIABLES = {
    "VIDERE_DRAIN_SECONDS": "0",
    "VIDERE_TRUSTED_PROXIES": '["unix:"]',
    "VIDERE_MAX_CONNECTIONS_PER_ADDRESS": "1",
}
ADDRESSES = ("path", "abstract")


def name_of(kind: str, tmp: Path) -> str:
    """Return an address for a Unix socket: a path, or `@` with an abstract name."""
    return str(tmp / "videre.sock") if kind == "path" else f"@videre-{secrets.token_hex(8)}"


def native(name: str) -> str:
    """Return the address as the kernel writes it."""
    return name.replace("@", "\0", 1) if name.startswith("@") else name


def is_there(path: str) -> bool:
    """Return whether a socket's file exists."""
    return Path(path).is_socket()


@asynccontextmanager
async def running(process: Process | Forked) -> AsyncIterator[Signaller]:
    """Give a server, which must exit cleanly on SIGTERM."""
    server = Signaller(process)
    try:
        yield server
    finally:
        code = await server.stop()
    assert code == 0, str(server)
    assert not any("Traceback" in line for line in server.output), str(server)


@asynccontextmanager
async def activated(listening: socket.socket, **more: str) -> AsyncIterator[Signaller]:
    """Run the command on a socket that the test keeps."""
    variables = environ(**{**VARIABLES, **more})
    process = await forked.start(
        forked.VIDERE, cwd=Path.cwd(), environ=variables, listening=[listening.fileno()]
    )
    async with running(process) as server:
        yield server


def through(name: str) -> aiohttp.ClientSession:
    """Return a client that connects to the socket, as a proxy does."""
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(native(name)))


async def enters(http: aiohttp.ClientSession, client: str) -> aiohttp.ClientWebSocketResponse:
    """Open a WebSocket for the client that the proxy names, and join a room."""
    headers = {"X-Forwarded-For": client}
    opened = await http.ws_connect("http://server/echo/websocket", headers=headers)
    await opened.send_str(packet("connect", client, "room"))
    joined = await opened.receive_json(timeout=START_SECONDS)
    assert joined["Header"]["UserId"] == client
    return opened


@pytest.mark.parametrize("kind", ADDRESSES)
async def test_a_unix_socket_is_served(kind: str, tmp_path: Path) -> None:
    """Each client has the address that the proxy names; the demo is not served."""
    name = name_of(kind, tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(native(name))
        listening.listen()
        async with activated(listening) as server, through(name) as http:
            async with http.get("http://localhost/demo") as answer:
                assert answer.status == 404
            held = [await enters(http, client) for client in ("192.0.2.1", "192.0.2.2")]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await enters(http, "192.0.2.1")
            assert refused.value.status == 503
            for each in held:
                await each.close()
        assert f"Listening on http://unix:{name}:/echo" in server.output


async def test_the_next_process_uses_the_same_file(tmp_path: Path) -> None:
    """The manager owns the file: a process leaves it, and clients wait for the next process."""
    name = name_of("path", tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)
        listening.listen()
        for _ in range(2):
            async with (
                activated(listening, VIDERE_DRAIN_SECONDS="1"),
                through(name) as http,
                http.get("http://server/health") as answer,
            ):
                assert answer.status == 200
            assert is_there(name)


async def test_a_name_bound_by_a_client_is_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that binds the name 127.0.0.1 does not get the demo."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind("server")
        listening.listen()
        client.bind("127.0.0.1")
        async with activated(listening):
            client.connect("server")
            client.sendall(b"GET /demo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await asyncio.to_thread(client.recv, 100)).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("kind", ADDRESSES)
async def test_real_activation(kind: str, tmp_path: Path) -> None:
    """systemd's own program listens, and starts us for the first client."""
    name = name_of(kind, tmp_path)
    program = require("systemd-socket-activate")
    process = await execute(
        *(program, "-l", name, sys.executable, "-m", "videre"),
        env=environ(**VARIABLES),
    )
    async with running(process) as server:
        await until(lambda: any("Listening on" in line for line in server.output))
        async with through(name) as http:
            await (await enters(http, "192.0.2.1")).close()


def test_our_own_file_is_removed_with_the_socket(tmp_path: Path) -> None:
    """It is removed even if serving never began, as with a refused second host."""
    path = tmp_path / "videre.sock"
    opened = listening.UnixSocket(socket.AF_UNIX)
    opened.bind(str(path))
    assert path.is_socket()
    opened.close()
    opened.close()  # again: no effect
    assert not path.exists()


@runs("docs/operations.md", "ListenStream=/run/videre.sock")
def test_the_drop_in(block: Block, tmp_path: Path) -> None:
    """systemd accepts it, and sees only this address."""
    shutil.copy(ROOT / "docs/videre.socket", tmp_path)
    unit = (ROOT / "docs/videre.service").read_text(encoding="utf-8")
    unit = re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/bin/true", unit)
    (tmp_path / "videre.service").write_text(unit, encoding="utf-8")
    (tmp_path / "videre.socket.d").mkdir()
    drop_in = tmp_path / "videre.socket.d/override.conf"

    def fault() -> str:
        program = [require("systemd-analyze"), "verify", "./videre.socket"]
        return subprocess.run(program, cwd=tmp_path, capture_output=True, text=True).stderr

    drop_in.write_text(block.text, encoding="utf-8")
    assert not fault()
    drop_in.write_text(block.text.replace("SocketMode", "SocketMood"), encoding="utf-8")
    assert "SocketMood" in fault()
