"""Odd requests: each gets an answer, without a traceback, and for few bytes of the log.

All of them go to the command's own server, and to a site in which the server is mounted.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote_plus

import pytest
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from growth import check_async
from heard_log import HeardLog
from hypothesis import given
from hypothesis import strategies as st
from patience import WAIT_SECONDS
from sockjs_client import Wire, fresh, poll
from websocket_client import handshake

from videre import admin
from videre.app import NAMESPACES, create_app, setup
from videre.command.accepting import Site
from videre.command.gate import Gate
from videre.command.http import Runner
from videre.config import Config
from videre.logs import EventLog, Journal
from videre.transport.bodies import Body
from videre.transport.holdings import Holdings
from videre.transport.requests import _unescaped

#: The most bytes of log for one odd request: a line.
LINE = 250

WEBSOCKET = "".join(f"{name}: {value}\r\n" for name, value in handshake().items()).encode()


class Place:
    """A server that gets odd requests, with its log."""

    def __init__(self, runner: web.AppRunner, log: pytest.LogCaptureFixture) -> None:
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        self.log = log

    async def answer(self, data: bytes) -> bytes:
        """Send these bytes; return all data until the connection ends."""
        wire = await Wire.open(self.url)
        wire.writer.write(data)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await wire.reader.read(-1)
        except ConnectionError:
            return b""

    def check_log(self, asked: int = 1) -> None:
        """Check that nothing failed, and that the log of the requests is short.

        What aiohttp logs about invalid HTTP is up to the site that enables it.
        """
        records = [
            record
            for record in self.log.records
            if not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
        ]
        assert not [record for record in records if record.exc_info]
        assert not [record for record in records if record.levelno >= logging.WARNING]
        assert sum(len(record.getMessage()) for record in records) <= LINE * asked


@asynccontextmanager
async def own() -> AsyncIterator[web.AppRunner]:
    """Run the command's own server."""
    config = Config(demo=True)
    gate = Gate(config, EventLog(Journal(HeardLog().logger), ""), None)
    runner = Runner(create_app(config))
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await Site(runner, listening, gate, ssl_context=None).start()
    yield runner
    await runner.cleanup()
    gate.close()


@asynccontextmanager
async def host() -> AsyncIterator[web.AppRunner]:
    """Run another site, in which the server is mounted."""
    app = web.Application()
    setup(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner
    await runner.cleanup()


@asynccontextmanager
async def admin_port() -> AsyncIterator[web.AppRunner]:
    """Run the admin port."""
    public = create_app()
    runner = Runner(admin.create_app(public[NAMESPACES], drain=lambda: None))
    gate = Gate(Config(), EventLog(Journal(HeardLog().logger), ""), None)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    await Site(runner, listening, gate, ssl_context=None).start()
    yield runner
    await runner.cleanup()
    gate.close()


PLACES = {"own": own, "host": host, "admin": admin_port}


@pytest.fixture(params=["own", "host"])
async def place(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Place]:
    """Give one of these servers."""
    caplog.set_level(logging.INFO)
    async with PLACES[request.param]() as runner:
        try:
            yield Place(runner, caplog)
        finally:
            await Wire.hang_up()


def get(
    target: bytes,
    *headers: bytes,
    method: bytes = b"GET",
    host: bytes = b"localhost",
    body: bytes = b"",
) -> bytes:
    """Return a GET after which the connection ends."""
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: " + host, *headers]
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body


def post(target: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """Return a POST."""
    return get(target, *headers, method=b"POST", body=body)


def upgrade(*headers: bytes, version: bytes = b"1.1", body: bytes = b"") -> bytes:
    """Return a slightly odd WebSocket handshake."""
    head = b"GET /echo/websocket HTTP/" + version + b"\r\nHost: a\r\n" + WEBSOCKET
    return head + b"".join(each + b"\r\n" for each in headers) + b"\r\n" + body


KEY = b"Sec-WebSocket-Key: c2l4dGVlbiBieXRlcyBvaw==\r\n"
XHR = b"/echo/0/%s/xhr"
CLOSE = b"\x88\x80\0\0\0\0"

#: Requests, and the allowed statuses of the first answer.
ODDITIES: dict[str, tuple[bytes, set[int]]] = {
    "origin-bytes": (get(b"/echo/info", b"Origin: \xff\xfe"), {200}),
    "origin-latin-1": (get(b"/echo/info", b"Origin: http://\xe9"), {200}),
    "origin-utf-8": (get(b"/echo/info", "Origin: http://é".encode()), {200}),
    "preflight-bytes": (
        get(b"/echo/info", b"Access-Control-Request-Headers: \xff", method=b"OPTIONS"),
        {204},
    ),
    "cookie-bytes": (post(XHR % b"s1", b"Cookie: JSESSIONID=\xff\xfe"), {200}),
    "cookie-quotes": (post(XHR % b"s2", b'Cookie: JSESSIONID="a\\"b\\012c;d"'), {200}),
    "cookie-crlf": (post(XHR % b"s3", b'Cookie: JSESSIONID="a\\015\\012X-Evil: 1"'), {200}),
    "connection-twice": (post(XHR % b"s4", b"Connection: x"), {200}),
    "host-bracket": (get(b"/echo/info", host=b"["), {400}),
    "host-brackets": (get(b"/echo/info", host=b"[::"), {400}),
    "host-at": (get(b"/echo/info", host=b"a@b:c"), {400}),
    "host-port": (get(b"/echo/info", host=b"localhost:99999999"), {400}),
    "host-port-65536": (get(b"/echo/info", host=b"localhost:65536"), {400}),
    "host-bytes": (get(b"/echo/info", host=b"\xff"), {400}),
    "host-bytes-websocket": (upgrade().replace(b"Host: a", b"Host: \xff"), {400}),
    "host-slash": (get(b"/echo/info", host=b"a/b"), {400}),
    "host-ipv6": (get(b"/echo/info", host=b"[::1]:80"), {200}),
    "host-empty": (get(b"/echo/info", host=b""), {200}),
    "host-none": (b"GET /echo/info HTTP/1.1\r\nConnection: close\r\n\r\n", {400}),
    "path-bytes": (post(b"/echo/0/\xff/xhr"), {400}),
    "path-ff": (post(XHR % b"%ff"), {200, 404}),
    "path-nul": (post(XHR % b"%00"), {404}),
    "path-dots": (post(b"/echo/../x/xhr"), {404}),
    "path-encoded-dots": (post(b"/echo/%2e%2e/x/xhr"), {404}),
    "path-slash": (post(XHR % b"a%2fb"), {404}),
    "iframe-path": (get(b"/echo/iframe%2f..%2f..%2fetc.html"), {200, 404}),
    "etag-bytes": (get(b"/echo/iframe.html", b"If-None-Match: \xff"), {200}),
    "absolute": (get(b"http://evil.example/echo/info"), {200, 400, 404}),
    "absolute-bracket": (get(b"http://[/echo"), {400}),
    "absolute-port": (get(b"http://a:b/echo"), {400}),
    "authority": (get(b"localhost:80", method=b"CONNECT"), {400, 404}),
    "asterisk": (get(b"*", method=b"OPTIONS"), {400, 404}),
    "method": (get(b"/echo/info", method=b"FOO"), {400, 405}),
    "http-2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "http-9": (b"GET /echo HTTP/9.9\r\nHost: a\r\n\r\n", {400}),
    "http-0": (b"GET /echo\r\n\r\n", {400, 505}),
    "key-bytes": (upgrade().replace(KEY, b"Sec-WebSocket-Key: \xff\r\n"), {400}),
    "key-short": (upgrade().replace(KEY, b"Sec-WebSocket-Key: YQ==\r\n"), {400}),
    "key-none": (upgrade().replace(KEY, b""), {400}),
    "websocket-version": (upgrade().replace(b"Version: 13", b"Version: \xff"), {400}),
    "websocket-upgrade": (upgrade().replace(b"Upgrade: websocket", b"Upgrade: \xff"), {400}),
    "websocket-connection": (
        upgrade().replace(b"Connection: Upgrade", b"Connection: \xff, close"),
        {400},
    ),
    "websocket-1.0": (upgrade(version=b"1.0"), {400}),
    "websocket-body": (upgrade(b"Content-Length: 5", body=b"hello"), {400}),
    "websocket-request-body": (
        upgrade(b"Content-Length: 40", body=b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        {400},
    ),
    "websocket-chunked": (
        upgrade(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
        {400},
    ),
    "websocket-protocol-bytes": (upgrade(b"Sec-WebSocket-Protocol: \xff", body=CLOSE), {101}),
    "websocket-protocol-long": (
        upgrade(b"Sec-WebSocket-Protocol: " + b"a," * 3000, body=CLOSE),
        {101},
    ),
    "websocket-extensions": (
        upgrade(
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99, \xff",
            body=CLOSE,
        ),
        {101},
    ),
    "length-and-chunks": (
        post(XHR % b"s5", b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        {400},
    ),
    "two-lengths": (post(XHR % b"s6", b"Content-Length: 4", b"Content-Length: 5"), {400}),
    "length-plus": (post(XHR % b"s7", b"Content-Length: +1", body=b"a"), {400}),
    "length-huge": (post(XHR % b"s8", b"Content-Length: " + b"9" * 23, body=b"a"), {400}),
    "transfer-identity": (post(XHR % b"s9", b"Transfer-Encoding: identity"), {400}),
    "transfer-unknown": (post(XHR % b"s10", b"Transfer-Encoding: xchunked"), {400}),
    "chunk-huge": (
        post(XHR % b"s15", b"Transfer-Encoding: chunked", body=b"F" * 17 + b"\r\n"),
        {400},
    ),
    "chunk-negative": (post(XHR % b"s16", b"Transfer-Encoding: chunked", body=b"-1\r\n"), {400}),
    "charset": (
        post(XHR % b"s19", b"Content-Type: text/plain; charset=\xff", b"Content-Length: 0"),
        {200},
    ),
    "needless": (post(XHR % b"s17", b"Content-Length: 1024", body=b"x" * 1024), {200}),
    "needless-long": (post(XHR % b"s18", b"Content-Length: 1025", body=b"x" * 1025), {413}),
    "expect": (post(XHR % b"s20", b"Expect: 200-maybe", b"Content-Length: 0"), {417}),
    "forwarded-bytes": (get(b"/echo/info", b"X-Forwarded-For: \xff, 1.2.3.4:5"), {200}),
    "request-id-bytes": (get(b"/echo/info", b"X-Request-Id: \xff"), {200}),
    "line-only": (b"GET\r\n\r\n", {400}),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64, {400}),
    "query": (get(b"/echo/0/s21/jsonp?c=%ff%00&c["), {404}),
    "obs-fold": (get(b"/echo/info", b"X: a\r\n b"), {400}),
    "header-nul": (get(b"/echo/info", b"X: a\0b"), {400}),
}


@pytest.mark.parametrize(("data", "statuses"), ODDITIES.values(), ids=ODDITIES)
async def test_odd_requests(place: Place, data: bytes, statuses: set[int]) -> None:
    """One answer has a status that says what is wrong, and there is no traceback."""
    answer = await place.answer(data)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert int(head.split()[1]) in statuses, head
    assert b"\r\nX-Evil" not in head
    if statuses == {400} and b"HTTP/1.1 400" in head:
        assert b"HTTP/1." not in rest, "what was refused has a second answer"
    place.check_log()


SENDERS = {
    "length": (b"Content-Length: 4", b"ab", b"xx"),
    "chunk": (b"Transfer-Encoding: chunked", b"1\r\n[\r\n", b"-1\r\n"),
    "chunk-size": (b"Transfer-Encoding: chunked", b"1\r\n[\r\n", b"x" * 300),
}


@pytest.mark.parametrize("target", ["sender", "other", "nowhere"])
@pytest.mark.parametrize(("header", "first", "later"), SENDERS.values(), ids=SENDERS)
async def test_a_body_that_is_invalid_late(
    place: Place,
    header: bytes,
    first: bytes,
    later: bytes,
    target: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error found in the body while its request is answered causes no failure."""
    monkeypatch.setattr("videre.transport.bodies.BODY_SECONDS", 0.3)
    session = fresh()
    assert await poll(place.url, session) == "o\n"
    path = {"sender": f"{session}/xhr_send", "other": f"{session}/x", "nowhere": "/x"}
    wire = await Wire.open(place.url)
    wire.writer.write(post(path[target].encode(), header, body=first))
    await asyncio.sleep(0.05)  # so that the first part is read alone
    wire.writer.write(later)
    assert (await wire.answer()).status in (400, 404, 408, 500)
    wire.reset()
    assert await poll(place.url, fresh()) == "o\n"
    place.check_log(3)


async def test_a_flood_of_odd_requests(caplog: pytest.LogCaptureFixture) -> None:
    """Once a minute the log has one line with the number of invalid requests."""
    caplog.set_level(logging.INFO)
    async with own() as runner:
        place = Place(runner, caplog)
        for _ in range(100):
            assert (await place.answer(b"\0\0\0\r\n\r\n")).startswith(b"HTTP/1.0 400")
        assert not [record for record in caplog.records if record.exc_info]
        assert len(caplog.text) <= LINE
        await Wire.hang_up()


# Bodies.

PIECES = (
    "%",
    "%4",
    "%41",
    "%3d",
    "%3D41",
    "%0A",
    "%C3%BC",
    "%ff",
    "%2B",
    "+",
    "=",
    "==",
    "=41",
    "=\n",
)


@given(st.lists(st.sampled_from((*PIECES, " \r\n", "_", "&", "a", "ü"))).map("".join))
def test_a_form_is_decoded_as_by_the_standard_library(text: str) -> None:
    """Although it is done by other code, which takes a tenth of the time."""
    assert _unescaped(text.encode()) == unquote_plus(text).encode()


def zeros(size: int) -> bytes:
    """Return compressed data that inflates to this many zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(bytes(size)) + packer.flush()


PATHS = {
    "own": ["/", "/nowhere", "/echo", "/echo/info", "/echo/iframe.html", "/health", "/demo"],
    "host": ["/echo", "/echo/info", "/echo/iframe.html", "/echo/websocket"],
    "admin": ["/status", "/metrics", "/nowhere", "/api/v1/packets?room=a", "/health"],
}
PATHS["own"] += [f"/echo/0/0/{name}" for name in ("xhr", "xhr_send", "eventsource", "nothing")]
PATHS["host"] += [f"/echo/0/0/{name}" for name in ("xhr", "xhr_send", "eventsource", "nothing")]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "GZip", "identity, gzip", "\xff"])
@pytest.mark.parametrize("where", PLACES)
async def test_compressed_bodies_are_refused(
    where: str, method: str, coding: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each path answers 415 before the body has arrived, and the connection ends."""
    async with PLACES[where]() as runner:
        place = Place(runner, caplog)
        for path in PATHS[where]:
            lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Encoding: {coding}"]
            head = "\r\n".join([*lines, "Content-Type: application/json", "Content-Length: 9999"])
            answer = await place.answer(head.encode("latin-1") + b"\r\n\r\n")
            assert answer.startswith((b"HTTP/1.1 415", b"HTTP/1.0 400")), (path, answer[:80])
        place.check_log(len(PATHS[where]))
        await Wire.hang_up()


async def test_identity_is_accepted(place: Place) -> None:
    """It means that the body is not compressed."""
    answer = await place.answer(get(b"/echo/info", b"Content-Encoding: Identity"))
    assert answer.startswith(b"HTTP/1.1 200")


async def test_the_cost_of_a_compressed_body(caplog: pytest.LogCaptureFixture) -> None:
    """It costs its compressed size, whatever it would inflate to."""
    async with own() as runner:
        place = Place(runner, caplog)

        async def work(data: bytes) -> None:
            head = b"Content-Encoding: gzip\r\nContent-Length: %d" % len(data)
            await place.answer(post(b"/nowhere", head, body=data))

        await check_async(zeros, work, largest=64 * 2**20)
        await Wire.hang_up()


class Asked:
    """A request whose body arrives as the test says."""

    def __init__(self, content_length: int | None = None) -> None:
        self.content = self
        self.content_length = content_length
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.transport = self
        self.protocol = self
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True
        self.pieces.put_nowait(None)

    async def iter_any(self) -> AsyncIterator[bytes]:
        while (piece := await self.pieces.get()) is not None:
            yield piece


async def begun(
    pieces: list[bytes], address: str, bodies: Holdings[Any], *, limit: int | None = 10**6
) -> tuple[Asked, Any]:
    """Let a body begin to arrive; return its request, and the task that reads it."""
    asked = Asked()
    reading = asyncio.ensure_future(Body(asked, address, bodies).read(limit))  # type: ignore[arg-type]
    for piece in pieces:
        asked.pieces.put_nowait(piece)
    for _ in range(3 * len(pieces)):
        await asyncio.sleep(0)
    assert asked.pieces.empty()
    return asked, reading


async def test_too_many_bodies_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bytes count for the address: a body beyond its limit gets a 429."""
    monkeypatch.setattr("videre.transport.bodies.MAX_ADDRESS_BODIES", 10**6)
    bodies: Holdings[Any] = Holdings()
    first, reading = await begun([b"x" * 600_000], "a", bodies)
    _, second = await begun([b"x" * 600_000], "a", bodies)
    with pytest.raises(web.HTTPTooManyRequests):
        await second
    third, other = await begun([b"x" * 600_000], "b", bodies)
    assert bodies.of("a") == bodies.of("b") == 600_000
    for asked in (first, third):
        asked.pieces.put_nowait(None)
    assert len(await reading) == len(await other) == 600_000
    assert bodies.total == 0


async def test_too_many_bodies_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest body of the address with most bytes is cut off."""
    monkeypatch.setattr("videre.transport.bodies.MAX_BODIES", 10**6)
    bodies: Holdings[Any] = Holdings()
    large, _ = await begun([b"x" * 500_000], "a", bodies)
    small, small_reading = await begun([b"x" * 200_000], "a", bodies)
    other, reading = await begun([b"x" * 400_000], "b", bodies)
    assert (large.aborted, small.aborted, other.aborted) == (True, False, False)
    other.pieces.put_nowait(None)
    assert len(await reading) == 400_000
    small.pieces.put_nowait(None)
    assert len(await small_reading) == 200_000
    assert bodies.total == 0


async def test_a_body_with_too_large_a_length() -> None:
    """It is refused before it arrives."""
    asked = Asked(content_length=1001)
    with pytest.raises(web.HTTPRequestEntityTooLarge):
        await Body(asked, "a", Holdings()).read(1000)  # type: ignore[arg-type]


async def test_a_body_without_a_length_is_limited() -> None:
    """Its bytes are counted as they arrive: up to the limit, and no further."""
    bodies: Holdings[Any] = Holdings()
    asked, reading = await begun([b"x" * 500] * 2, "a", bodies, limit=1000)
    asked.pieces.put_nowait(None)
    assert len(await reading) == 1000
    _, reading = await begun([b"x" * 500, b"x" * 501], "a", bodies, limit=1000)
    with pytest.raises(web.HTTPRequestEntityTooLarge):
        await reading


@pytest.mark.parametrize("bound", ["MAX_ADDRESS_BODIES", "MAX_BODIES"])
async def test_the_largest_body_fits(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that its own limit allows arrives, though it is larger than the bound for all."""
    monkeypatch.setattr(f"videre.transport.bodies.{bound}", 1000)
    bodies: Holdings[Any] = Holdings()
    asked, reading = await begun([b"x" * 4000], "a", bodies, limit=5000)
    asked.pieces.put_nowait(None)
    assert len(await reading) == 4000
    assert not asked.aborted
    small, reading = await begun([b"x" * 900], "a", bodies, limit=None)
    small.pieces.put_nowait(None)
    assert len(await reading) == 900
