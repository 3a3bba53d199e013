"""Connections that are not clients: each gets an answer or none, and ends sooner or later."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from fakes import packet
from patience import patient
from skipping import hurry
from sockjs_client import Wire, ask, fresh, poll
from websocket_client import BINARY, PING, PONG, TEXT, Socket, encode, handshake

from videre.app import Namespace, setup
from videre.auth import TokenAuth, secret_key
from videre.config import Config
from videre.limits import FAILURES
from videre.settings import Limits
from videre.transport import Options

RAW = "/echo/websocket"
KEEP_ALIVE = 0.5  # seconds; the command has 75
SOON = patient(5.0)  # seconds, for what should end after 0.5 to 1.5 s
H2C = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Upgrade": "h2c",
    "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA",
}


class Site:
    """A server at `url` that the test can inspect."""

    def __init__(self, runner: web.AppRunner, namespace: Namespace) -> None:
        self.runner = runner
        self.sessions = namespace.sessions
        self.rooms = namespace.rooms
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])

    @property
    def connections(self) -> int:
        """The number of its TCP connections."""
        assert self.runner.server is not None
        return len(self.runner.server.connections) + len(self.sessions.websockets)

    async def emptied(self, within: float = SOON) -> bool:
        """Return whether all connections end `within` this many seconds."""
        for _ in range(int(within / 0.05)):
            if not self.connections:
                return True
            await asyncio.sleep(0.05)
        return False

    async def left(self) -> None:
        """Return when there is no session left."""
        for _ in range(int(SOON / 0.01)):
            if not self.sessions.open_sessions:
                return
            await asyncio.sleep(0.01)
        pytest.fail("there are sessions still")


@asynccontextmanager
async def serving(config: Config | None = None) -> AsyncIterator[Site]:
    """Run a server with a short keep-alive."""
    app = web.Application()
    namespace = setup(app, config=config)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEP_ALIVE, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Site(runner, namespace)
    finally:
        await Wire.hang_up()
        await runner.cleanup()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """Give a running signaller."""
    async with serving() as running:
        yield running


BEGINNINGS = {
    "nothing": b"",
    "a-letter": b"G",
    "a-line": b"GET /echo/websocket HTTP/1.1\r\n",
    "headers": b"GET /echo/websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n",
}


@pytest.mark.parametrize("start", BEGINNINGS.values(), ids=BEGINNINGS)
async def test_an_unfinished_handshake_is_cut(site: Site, start: bytes) -> None:
    """A client that connects and sends no request is closed after the keep-alive time."""
    wire = await Wire.open(site.url)
    wire.writer.write(start)
    assert await hurry(wire.ended())
    assert await hurry(site.emptied())


async def test_a_slow_handshake_is_cut(site: Site) -> None:
    """A valid handshake sent byte by byte that never ends keeps no connection open."""
    wire = await Wire.open(site.url)
    wire.writer.write(b"GET /echo/websocket HTTP/1.1\r\nHost: a\r\nA: ")
    for _ in range(int(SOON / 0.1)):
        wire.writer.write(b"A")
        if await hurry(site.emptied(0.1)):
            return
    pytest.fail("the connection is still there")


async def test_an_idle_connection_is_cut(site: Site) -> None:
    """An answered request does not keep it open either."""
    wire = await Wire.open(site.url)
    assert (await wire.ask("GET", "/echo/info")).status == 200
    assert await hurry(wire.ended())


GARBAGE = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "zeros": b"\x00" * 1000,
    "no-path": b"GET\r\n\r\n",
    "version": b"GET /echo HTTP/9.9\r\nHost: a\r\n\r\n",
    "long-line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    "many-headers": b"GET /echo HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 40_000 + b"\r\n",
    "two-hosts": b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "nul": b"GET /echo HTTP/1.1\r\nHost: a\r\nA: b\x00\r\n\r\n",
    "smuggled": b"POST /echo/0/0/xhr HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative": b"POST /echo/0/0/xhr HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_is_refused(site: Site, data: bytes) -> None:
    """Data that is not HTTP gets at most a 400 and ends its connection; the next one is served."""
    wire = await Wire.open(site.url)
    wire.writer.write(data)
    async with asyncio.timeout(SOON):
        try:
            answer = await wire.reader.read(-1)
        except ConnectionError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.0 400 "), answer[:80]
    assert b"Traceback" not in answer
    assert await site.emptied()
    assert (await ask(site.url, "GET", "/echo/info")).status == 200


SCRIPT = b"<script>alert(1)</script>"
ECHOED = {
    "method": SCRIPT + b" /echo HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n",
    "path": b"GET /" + SCRIPT + b"\x00 HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n",
    "header": b"GET /echo HTTP/1.1\r\nAccept: text/html\r\n" + SCRIPT + b": 1\r\n\r\n",
    "zeros": b"\x00" * 60_000,
}


@pytest.mark.parametrize("data", ECHOED.values(), ids=ECHOED)
async def test_a_bad_request_is_quoted_as_plain_text(site: Site, data: bytes) -> None:
    """aiohttp quotes the faulty line to its sender, as a Python repr and as plain text only.

    An unprintable byte becomes four characters, which bounds the answer.
    """
    wire = await Wire.open(site.url)
    wire.writer.write(data)
    answer = await wire.answer()
    assert answer.status == 400
    assert answer.content_type == "text/plain;charset=utf-8"
    assert len(answer.body) < 4 * len(data) + 200 and b"\x00" not in answer.body
    assert await wire.ended()


@pytest.mark.parametrize("path", [RAW, "/echo/0/0/websocket"])
async def test_an_upgrade_to_http_2_is_no_websocket(site: Site, path: str) -> None:
    """It is refused with a 400; the connection serves the next request, or ends."""
    wire = await Wire.open(site.url)
    assert (await wire.ask("GET", path, headers=H2C)).status == 400
    assert (await ask(site.url, "GET", "/echo/info", headers=H2C)).status == 200
    assert await site.emptied()
    assert site.sessions.open_sessions == 0


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["", "/info", "/websocket", "/0/0/xhr", "/0/0/xhr_send"])
async def test_odd_methods_open_nothing(site: Site, method: str, path: str) -> None:
    """Any method on any URL gets an answer, and no session."""
    answer = await ask(site.url, method, f"/echo{path}")
    assert answer.status in (200, 404, 405)
    assert site.sessions.open_sessions == 0


async def test_frames_before_the_handshake_is_answered(site: Site) -> None:
    """A client that does not wait for the answer loses nothing, and breaks nothing."""
    wire = await Wire.open(site.url)
    wire.say("GET", RAW, headers=handshake())
    socket = Socket(wire, None)  # type: ignore[arg-type]
    socket.send(packet("connect", "a", "room"))
    assert (await wire.head()).status == 101
    assert json.loads(await socket.text())["Payload"] == "true"


async def test_the_end_of_a_session_ends_its_connection(site: Site) -> None:
    """A closed client that sends on instead of answering the close is cut off all the same."""
    socket = await Socket.open(site.url, RAW)
    for _ in range(10):
        socket.send("nonsense")
    await site.left()
    for _ in range(int(SOON / 0.1)):
        socket.send(b"still here", PING)
        if await hurry(site.emptied(0.1)):
            return
    pytest.fail("a closed client keeps its connection for as long as it talks")


async def test_pongs_for_a_client_that_does_not_read_are_bounded() -> None:
    """Endless pings whose answers are not read do not fill the memory."""
    limit = 64 * 1024
    async with serving(Config(transport=Options(max_backlog_bytes=limit))) as site:
        socket = await Socket.open(site.url, RAW, receive_buffer=4096)
        socket.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        (session,) = site.sessions.websockets
        data = encode(b"p" * 125, PING) * 500
        for _ in range(200):
            socket.wire.writer.write(data)
            await asyncio.sleep(0.01)
            waiting = session._tcp.get_write_buffer_size()
            assert waiting < 20 * limit, "the backlog of pongs has no bound"
            if not site.connections:
                return
        pytest.fail("it stays connected for as long as it does not read")


@pytest.mark.parametrize("path", [RAW, "/echo/0/0/websocket"])
@pytest.mark.parametrize("opcode", [PING, PONG, TEXT, BINARY])
async def test_empty_messages_and_pings_are_limited(site: Site, path: str, opcode: int) -> None:
    """Thousands of pings, pongs and empty messages are a flood too, and end with 4003."""
    socket = await Socket.open(site.url, path)
    data = b"[]" if path != RAW and opcode in (TEXT, BINARY) else b""
    for _ in range(20):
        socket.wire.writer.write(encode(data, opcode) * 500)
    assert (await socket.goodbye())[0] in (4003, 1006)
    assert await site.emptied()


async def test_a_delayed_token_is_forgotten_with_its_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Packets that wait behind a delayed token are dropped when the client leaves."""
    auth = TokenAuth([secret_key("s" * 32)])
    caplog.set_level(logging.ERROR, "videre")
    async with serving(Config(auth=auth, limits=Limits())) as site:
        guess = packet("connect", "a", "room", {"Token": "wrong"})
        guessing = await Socket.open(site.url, RAW)
        for _ in range(FAILURES + 6):
            guessing.send(guess)
        for _ in range(FAILURES + 3):  # the last of which came after 2 s; the next takes 4 s
            await hurry(guessing.text())
        guessing.send("x" * 60_000)
        guessing.wire.reset()
        await site.left()
        for _ in range(20):
            if not site.sessions.shared.jobs.tasks:
                return
            await asyncio.sleep(0.1)
        pytest.fail("its packets are kept until the delay is over")


async def test_a_partial_body_is_dropped(site: Site) -> None:
    """A body that stops half-way delivers nothing."""
    session = fresh()
    assert await poll(site.url, session) == "o\n"
    wire = await Wire.open(site.url)
    body = json.dumps([packet("connect", "a", "room")]).encode()
    wire.say("POST", f"{session}/xhr_send", headers={"Content-Length": str(len(body))})
    wire.writer.write(body[:-1])
    await asyncio.sleep(0.1)
    await wire.close()
    assert await site.emptied()
    assert len(site.rooms) == 0
