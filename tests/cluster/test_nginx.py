"""A real nginx with docs/nginx.conf, in front of two real servers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from patience import LEFT_SECONDS
from process import ROOT, Signaller, require, self_signed, signaller
from sockjs_client import Headers, Stream, Wire, ask, fresh, poll, send
from websocket_client import Socket

from videre.errors import CloseCode
from videre.transport import Options

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]

CONF = (ROOT / "docs" / "nginx.conf").read_text(encoding="utf-8")
LOG = "/var/log/nginx/videre.log"
ERRORS = "/var/log/nginx/error.log"
PROXY = "127.0.0.1"  # where nginx listens, and from where it connects to the servers
LIMIT = 2  # MaxConnectionsPerAddress

# nginx.conf is included in the http block; the rest of an /etc/nginx/nginx.conf is this.
MAIN = """
daemon off;
{user}
worker_processes 1;
pid {tmp}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {tmp}/body;
    proxy_temp_path {tmp}/proxy;
    fastcgi_temp_path {tmp}/fastcgi;
    uwsgi_temp_path {tmp}/uwsgi;
    scgi_temp_path {tmp}/scgi;
    include {tmp}/videre.conf;
}}
"""


class Nginx:
    """An nginx at `base`; `log` is its access log, `errors` its error log for requests."""

    def __init__(self, base: str, log: Path, errors: Path) -> None:
        self.base = base
        self.log = log
        self.errors = errors


def replace(text: str, old: str, new: str) -> str:
    """Replace a text that must occur exactly once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


def write(tmp: Path, text: str) -> Path:
    """Write our configuration and one that includes it; return the path of the latter."""
    (tmp / "videre.conf").write_text(text, encoding="utf-8")
    user = "user root;" if os.geteuid() == 0 else ""  # whatever our user is: `tmp` is private
    (tmp / "nginx.conf").write_text(MAIN.format(tmp=tmp, user=user), encoding="utf-8")
    return tmp / "nginx.conf"


def addresses(servers: Sequence[Signaller]) -> list[str]:
    """Return where the servers listen."""
    return [f"127.0.0.1:{server.port}" for server in servers]


@asynccontextmanager
async def nginx(tmp: Path, upstreams: list[str]) -> AsyncIterator[Nginx]:
    """Run nginx with docs/nginx.conf, its ports and paths replaced, in front of these servers.

    It inherits its listening socket, as from systemd: the port is certainly free, and a client may
    connect before nginx is up.
    """
    listening = socket.create_server((PROXY, 0), backlog=128)
    port = listening.getsockname()[1]
    log, errors = tmp / "access.log", tmp / "error.log"
    text = replace(CONF, "listen 80;", f"listen {PROXY}:{port};")
    for old, upstream in zip(("127.0.0.1:1111", "127.0.0.1:1112"), upstreams, strict=True):
        text = replace(text, f"server {old};", f"server {upstream};")
    main = write(tmp, replace(replace(text, LOG, str(log)), ERRORS, str(errors)))
    fd = listening.fileno()
    with listening:
        process = await asyncio.create_subprocess_exec(
            require("nginx"),
            *("-p", str(tmp), "-c", str(main)),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            pass_fds=[fd],
            env={**os.environ, "NGINX": f"{fd};"},
        )
    try:
        yield Nginx(f"http://{PROXY}:{port}", log, errors)
    finally:
        if process.returncode is None:
            process.terminate()
        _, said = await process.communicate()
    noise = [line for line in said.decode().splitlines() if "using inherited sockets" not in line]
    assert (process.returncode, noise) == (0, [])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxies(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Nginx]]:
    """Run two nginx, each in front of two servers: one pair trusts it, the other does not."""
    require("nginx")
    limit = {"MaxConnectionsPerAddress": LIMIT}
    configs: dict[str, dict[str, Any]] = {
        "trusted": {**limit, "TrustedProxies": [PROXY]},
        "not trusted": limit,
    }
    async with AsyncExitStack() as stack:
        running = {}
        for name, config in configs.items():
            servers = [
                signaller(tmp=tmp_path_factory.mktemp("signaller"), config=config) for _ in range(2)
            ]
            opened = await asyncio.gather(*map(stack.enter_async_context, servers))
            tmp = tmp_path_factory.mktemp("nginx")
            running[name] = await stack.enter_async_context(nginx(tmp, addresses(opened)))
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def hang_up() -> AsyncIterator[None]:
    """Close the connections that a test left open."""
    yield
    await Wire.hang_up()


@pytest.fixture
def trusted(proxies: dict[str, Nginx]) -> str:
    """Give the URL of the nginx that its servers trust."""
    return proxies["trusted"].base


def packet(event: str, user: str, payload: object = "{}", room: str = "a room") -> str:
    header = {"Event": event, "UserId": user, "RoomId": room}
    return json.dumps({"Header": header, "Payload": payload})


def messages(frame: str) -> list[str]:
    """Return the messages in a SockJS frame."""
    assert frame[0] == "a", frame
    return list(json.loads(frame[1:]))


async def hear(socket: Socket) -> str:
    """Return the one message that a client with SockJS framing gets next."""
    [text] = messages(await socket.text())
    return text


async def seat(base: str, path: str, user: str, room: str, source: str) -> Socket:
    """Open a WebSocket with SockJS framing and join."""
    socket = await Socket.open(base, f"{path}/websocket", source=source)
    assert socket.head.status == 101
    assert await socket.text() == "o"
    socket.send(json.dumps([packet("connect", user, room=room)]))
    await hear(socket)
    return socket


async def knock(base: str, path: str, source: str, headers: Headers | None = None) -> int:
    """Ask for a WebSocket, keep it if there is one, and return the status."""
    socket = await Socket.open(base, f"{path}/websocket", headers, source=source)
    return socket.head.status


async def test_websockets_are_upgraded(trusted: str) -> None:
    """A raw WebSocket joins, and gets the exact close code."""
    socket = await Socket.open(trusted, "/echo/websocket", source="127.0.1.1")
    socket.send(packet("connect", "peer1"))
    assert json.loads(await socket.text()) == json.loads(packet("connect", "peer1", "true"))
    for _ in range(10):
        socket.send("{")
    assert await socket.goodbye() == (4500, CloseCode.BAD_PACKETS.reason)


async def test_long_packets_pass(trusted: str) -> None:
    """60 KB of CJK arrive unchanged; one session id in both URLs leads to one server."""
    path, source = fresh(), "127.0.1.2"
    first = await seat(trusted, path, "peer1", "a room", source)
    second = await seat(trusted, path, "peer2", "a room", source)
    assert json.loads(await hear(first))["Header"]["UserId"] == "peer2"
    text = packet("broadcast", "peer1", "視" * 9_000)
    assert len(text) > 54_000  # it is escaped
    first.send(json.dumps([text]))
    assert await hear(second) == text


@pytest.mark.parametrize(
    ("transport", "method", "head", "end"),
    [("xhr_streaming", "POST", "", "\n"), ("eventsource", "GET", "data: ", "\r\n\r\n")],
)
async def test_streams_are_not_buffered(
    trusted: str, transport: str, method: str, head: str, end: str
) -> None:
    """Each message of one long response arrives before the next one is requested."""
    session, source = fresh(), "127.0.1.3"
    stream = await Stream.open(trusted, method, f"{session}/{transport}", source=source)
    assert (await stream.until(f"o{end}")).endswith(f"{head}o{end}")
    for event, answer in [("connect", "true"), ("ping", '["peer1"]'), ("ping", '["peer1"]')]:
        assert (await send(trusted, session, packet(event, "peer1"), source=source)).status == 204
        [text] = messages((await stream.until(end)).removeprefix(head).rstrip())
        assert json.loads(text)["Payload"] == answer


async def test_every_poll_reaches_its_session(proxies: dict[str, Nginx]) -> None:
    """Many polling sessions all work, although there are two servers."""
    proxy = proxies["trusted"]

    async def live(number: int) -> None:
        session, source, room = fresh(), f"127.0.2.{number}", f"room {number}"
        assert await poll(proxy.base, session, source=source) == "o\n"
        for event, answer in [("connect", "true"), ("ping", '["peer1"]'), ("ping", '["peer1"]')]:
            sent = await send(proxy.base, session, packet(event, "peer1", room=room), source=source)
            assert sent.status == 204
            [text] = messages(await poll(proxy.base, session, source=source))
            assert json.loads(text)["Payload"] == answer

    await asyncio.gather(*(live(number) for number in range(1, 33)))
    lines = proxy.log.read_text(encoding="utf-8").splitlines()
    assert len({line.split()[-1] for line in lines}) == 2
    assert not any("/echo" in line for line in lines)


async def test_a_session_belongs_to_the_address_that_nginx_names(trusted: str) -> None:
    """Nobody else can use a session's URL, behind a trusted proxy either."""
    session = fresh()
    assert await poll(trusted, session, source="127.0.1.4") == "o\n"
    stranger = await ask(trusted, "POST", f"{session}/xhr", b"", source="127.0.1.5")
    assert stranger.status == 404


async def test_addresses_are_counted_behind_a_trusted_proxy(trusted: str) -> None:
    """Each address may have two connections, and a forged header does not give it more."""
    path, forged = fresh(), {"X-Forwarded-For": "192.0.2.1"}
    assert [await knock(trusted, path, "127.0.1.6") for _ in range(3)] == [101, 101, 503]
    assert await knock(trusted, path, "127.0.1.6", forged) == 503
    assert [await knock(trusted, path, "127.0.1.7") for _ in range(3)] == [101, 101, 503]


async def test_without_trust_headers_are_ignored(proxies: dict[str, Nginx]) -> None:
    """Without TrustedProxies, nginx is one single client."""
    base, path = proxies["not trusted"].base, fresh()
    knocks = [await knock(base, path, f"127.0.1.{number}") for number in (1, 2, 3)]
    assert knocks == [101, 101, 503]


@pytest.mark.parametrize("transport", ["websocket", "xhr_streaming"])
async def test_leaving_nginx_leaves_the_room(trusted: str, transport: str) -> None:
    """A connection that ends before nginx also ends behind it: the room hears it in time."""
    path, room, source = fresh(), f"left {transport}", "127.0.1.8"
    witness = await seat(trusted, path, "witness", room, "127.0.1.9")
    if transport == "websocket":
        wire = (await seat(trusted, path, "leaver", room, source)).wire
    else:
        stream = await Stream.open(trusted, "POST", f"{path}/{transport}", source=source)
        await stream.until("o\n")
        await send(trusted, path, packet("connect", "leaver", room=room), source=source)
        wire = stream.wire
    assert json.loads(await hear(witness))["Header"]["UserId"] == "leaver"
    wire.reset()
    async with asyncio.timeout(LEFT_SECONDS):
        left = json.loads(await hear(witness))["Header"]
    assert (left["Event"], left["UserId"]) == ("disconnect", "leaver")


@pytest.mark.parametrize("upstream", ["127.0.0.1:1", "unix:/nowhere/videre.sock"])
async def test_no_log_has_the_url_of_a_session(tmp_path: Path, upstream: str) -> None:
    """Neither log has one when no server answers, nor a token in its query."""
    async with nginx(tmp_path, [upstream, upstream]) as proxy:
        url = f"{fresh()}/xhr_send?token=secret"
        assert (await ask(proxy.base, "POST", url, b"[]", source="127.0.1.1")).status == 502
    logged = proxy.log.read_text(encoding="utf-8")
    assert logged.split()[3] == "502"
    assert "/echo" not in logged
    assert proxy.errors.read_text(encoding="utf-8") == ""


async def test_nginx_waits_longer_than_a_heartbeat() -> None:
    """The server, not nginx, ends a silent connection, after 1.5 heartbeats."""
    waits = re.findall(r"proxy_(?:read|send)_timeout +(\d+)s;", CONF)
    assert len(waits) == 2
    assert all(int(wait) > 2 * Options().heartbeat for wait in waits)


async def test_the_lines_for_tls_are_valid(tmp_path: Path) -> None:
    """Uncommented and with a certificate, nginx accepts the file."""
    text, lines = re.subn(r"# (listen 443|server_name rtc|ssl_)", r"\1", CONF)
    assert lines == 5
    text = replace(text, "    listen 80;\n    server_name _;\n", "")
    certificate, key = self_signed(tmp_path)
    for name, path in (("fullchain", certificate), ("privkey", key)):
        text = replace(text, f"/etc/letsencrypt/live/rtc.example.com/{name}.pem", str(path))
    for log in (LOG, ERRORS):
        text = replace(text, log, str(tmp_path / "log"))
    main = write(tmp_path, text)
    process = await asyncio.create_subprocess_exec(
        require("nginx"), "-t", "-p", str(tmp_path), "-c", str(main), stderr=PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
