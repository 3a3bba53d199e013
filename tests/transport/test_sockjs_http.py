"""SockJS over HTTP: 1.0, keep-alive, pipelining, chunks, methods, cookies."""

from __future__ import annotations

import asyncio

import pytest
from sockjs_client import FORM, Answer, Stream, Wire, array, ask, fresh, poll
from test_sockjs_polling import GO_AWAY

pytest_plugins = ("sockjs_fixtures",)

GREETING = "Welcome to SockJS!\n"
RECEIVERS = [
    ("POST", "/xhr"),
    ("POST", "/xhr_streaming"),
    ("GET", "/eventsource"),
    ("GET", "/htmlfile?c=call"),
    ("GET", "/jsonp?c=call"),
]
SENDERS = [("POST", "/xhr_send"), ("POST", "/jsonp_send")]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_keep_alive(base: str, version: str) -> None:
    """A kept connection carries a second request."""
    wire = await Wire.open(base)
    headers = {"Connection": "Keep-Alive"}
    for _ in range(2):
        answer = await wire.ask("GET", "/echo", headers=headers, version=version)
        assert (answer.status, answer.text) == (200, GREETING)
    if version == "1.0":
        assert "Transfer-Encoding" not in answer.headers
        assert answer.headers["Connection"].lower() == "keep-alive"


async def test_http_1_0_ends_by_itself(base: str) -> None:
    """An HTTP/1.0 request without keep-alive gets none."""
    wire = await Wire.open(base)
    answer = await wire.ask("GET", "/echo", version="1.0")
    assert answer.text == GREETING
    assert await wire.ended()


async def test_streaming_to_http_1_0(base: str) -> None:
    """An HTTP/1.0 client gets an unchunked stream, which ends with the connection."""
    headers = {"Connection": "Keep-Alive"}
    stream = await Stream.open(
        base, "POST", f"{fresh('/close')}/xhr_streaming", headers, version="1.0"
    )
    assert stream.head.status == 200
    assert "Transfer-Encoding" not in stream.head.headers
    assert "Content-Length" not in stream.head.headers
    assert await stream.until() == "h" * 2048 + "\n"
    assert await stream.rest() == f"o\n{GO_AWAY}\n".encode()


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
async def test_polling_from_http_1_0(base: str, connection: str) -> None:
    """A poll by HTTP/1.0 ends with the connection: there are no chunks, and the length is open."""
    headers = {"Connection": connection}
    stream = await Stream.open(base, "POST", f"{fresh()}/xhr", headers, version="1.0")
    assert "Transfer-Encoding" not in stream.head.headers
    assert "Content-Length" not in stream.head.headers
    assert stream.head.headers.get("Connection", "close").lower() == "close"
    assert await stream.rest() == b"o\n"


async def test_streaming_to_http_1_1(base: str) -> None:
    """An HTTP/1.1 client gets each frame as a chunk, and a last chunk at the end."""
    stream = await Stream.open(base, "POST", f"{fresh('/close')}/xhr_streaming")
    assert stream.head.headers["Transfer-Encoding"].lower() == "chunked"
    assert "Content-Length" not in stream.head.headers
    chunks = [await stream.chunk() for _ in range(4)]
    assert chunks == [b"h" * 2048 + b"\n", b"o\n", f"{GO_AWAY}\n".encode(), b""]


async def test_pipelined_requests_are_answered_in_order(base: str) -> None:
    """Requests sent together on one connection are answered one after the other."""
    wire = await Wire.open(base)
    session = fresh()
    wire.say("POST", f"{session}/xhr", b"")
    wire.say("POST", f"{session}/xhr_send", array("a"))
    wire.say("POST", f"{session}/xhr", b"")
    wire.say("GET", "/echo")
    answers = [await wire.answer() for _ in range(4)]
    assert [answer.text for answer in answers] == ["o\n", "", 'a["a"]\n', GREETING]


async def test_polls_share_a_connection(base: str) -> None:
    """A polling client needs only one connection, however often it polls and sends."""
    wire = await Wire.open(base)
    session = fresh()
    assert (await wire.ask("POST", f"{session}/xhr", b"")).text == "o\n"
    for number in range(3):
        assert (await wire.ask("POST", f"{session}/xhr_send", array(f"{number}"))).status == 204
        assert (await wire.ask("POST", f"{session}/xhr", b"")).text == f'a["{number}"]\n'


@pytest.mark.parametrize(("url", "connection"), [("xhr_streaming", "close"), ("xhr", "keep-alive")])
async def test_an_answer_says_whether_its_connection_is_kept(
    base: str, url: str, connection: str
) -> None:
    """A proxy would send its next request where a stream has ended, and lose it."""
    wire = await Wire.open(base)
    wire.say("POST", f"{fresh()}/{url}", b"", headers={"Connection": "keep-alive"})
    head = await wire.head()
    assert head.headers.get("Connection", "keep-alive").lower() == connection  # HTTP/1.1's default


async def test_a_chunked_body_is_read(base: str) -> None:
    """Messages may arrive in a chunked body."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    wire = await Wire.open(base)
    wire.say("POST", f"{session}/xhr_send", headers={"Transfer-Encoding": "chunked"})
    wire.writer.write(b'3\r\n["h\r\n4\r\ni!"]\r\n0\r\n\r\n')
    assert (await wire.answer()).status == 204
    assert await poll(base, session) == 'a["hi!"]\n'


async def test_an_upgrade_to_http_2_is_declined(base: str) -> None:
    """The request of `curl --http2` gets a normal answer, and the server goes on."""
    headers = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAAQCAAAAAAIAAAAA",
    }
    for path, status in (("/echo", 200), ("/echo/info", 200), ("/nowhere", 404)):
        assert (await ask(base, "GET", path, headers=headers)).status == status


def assert_not_allowed(answer: Answer, *allowed: str) -> None:
    assert answer.status == 405
    assert answer.body == b""
    assert not answer.headers.get("Content-Type")
    assert set(allowed) <= set(answer.headers["Allow"].replace(" ", "").split(","))


WRONG = [
    (allowed, url, method)
    for allowed, url in [*RECEIVERS, *SENDERS, ("GET", "/websocket")]
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD")
    if method != allowed
]


@pytest.mark.parametrize(("allowed", "url", "method"), WRONG)
async def test_other_methods_are_405(base: str, allowed: str, url: str, method: str) -> None:
    """Each transport has one method; others are refused with Allow and open nothing (15)."""
    session = fresh()
    assert_not_allowed(await ask(base, method, session + url, b""), allowed)
    assert (await ask(base, "POST", f"{session}/xhr_send", array("a"))).status == 404


@pytest.mark.parametrize("path", ["/echo", "/echo/", "/echo/info", "/echo/iframe.html"])
async def test_static_urls_are_read_only(base: str, path: str) -> None:
    """Greeting, info and iframe page can only be read."""
    for method in ("POST", "PUT", "DELETE"):
        answer = await ask(base, method, path, b"")
        assert answer.status == 405
        assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize(
    "url",
    [
        *(url for _, url in RECEIVERS + SENDERS),
        "/websocket",
        "/nonsense",
    ],
)
async def test_head_writes_no_body(base: str, url: str) -> None:
    """The answer to HEAD has no body: the next answer follows at once (fault 15)."""
    wire = await Wire.open(base)
    session = fresh()
    wire.say("HEAD", session + url)
    wire.say("GET", "/echo")
    answer, follower = await wire.answer(bodiless=True), await wire.answer()
    assert (follower.status, follower.text) == (200, GREETING)
    assert answer.status in (404, 405)


@pytest.mark.parametrize("path", ["/echo", "/echo/info", "/echo/iframe.html", "/nowhere"])
async def test_head_of_static_urls_writes_no_body(base: str, path: str) -> None:
    """The connection stays in step after HEAD of a page, whether served or refused."""
    wire = await Wire.open(base)
    wire.say("HEAD", path)
    wire.say("GET", "/echo")
    assert (await wire.answer(bodiless=True)).status in (200, 404, 405)
    assert (await wire.answer()).text == GREETING


@pytest.mark.parametrize("jsessionid", ["dummy", "abcdef"])
@pytest.mark.parametrize(("method", "url"), RECEIVERS)
async def test_cookie(base: str, method: str, url: str, jsessionid: str) -> None:
    """A service with cookies sets JSESSIONID for all paths, or repeats the client's."""
    headers = {} if jsessionid == "dummy" else {"Cookie": f"JSESSIONID={jsessionid}"}
    session = fresh("/cookie_needed_echo")
    stream = await Stream.open(base, method, session + url, headers)
    assert stream.head.status == 200
    name, path = stream.head.headers["Set-Cookie"].split(";")[:2]
    assert name.strip() == f"JSESSIONID={jsessionid}"
    assert path.strip().lower() == "path=/"
    sent = await ask(base, "POST", f"{session}/xhr_send", array("a"), headers)
    assert f"JSESSIONID={jsessionid}" in sent.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("cookie", "jsessionid"),
    [
        ("a=b; JSESSIONID=x.node-1; c=d", "x.node-1"),
        ("a;JSESSIONID=YWI=;", "YWI="),
        ('JSESSIONID="x"', '"x"'),
        ("JSESSIONID=one; JSESSIONID=two", "two"),
        ("JSESSIONID=", "dummy"),
        ("JSESSIONID", "dummy"),
        ("XJSESSIONID=x; a=JSESSIONID=x; JSESSIONIDX=x", "dummy"),
        ("JSESSIONID=\u00e9", "dummy"),
        ("JSESSIONID=a\u00e9", "a"),
    ],
)
async def test_which_cookie_is_repeated(base: str, cookie: str, jsessionid: str) -> None:
    """The value that the client sent, up to what no Set-Cookie header may contain."""
    url = f"{fresh('/cookie_needed_echo')}/xhr"
    answer = await ask(base, "POST", url, b"", {"Cookie": cookie})
    assert answer.headers["Set-Cookie"] == f"JSESSIONID={jsessionid}; Path=/"


async def test_cookie_of_jsonp_send(base: str) -> None:
    """Answers to jsonp_send have the cookie as well."""
    session = fresh("/cookie_needed_echo")
    await ask(base, "GET", f"{session}/jsonp?c=x")
    sent = await ask(base, "POST", f"{session}/jsonp_send", b"d=%5B%22x%22%5D", FORM)
    assert sent.headers["Set-Cookie"].startswith("JSESSIONID=dummy")


async def test_info_announces_the_cookie_and_sets_none(base: str) -> None:
    """Info says that cookies are needed, and works without one."""
    answer = await ask(base, "GET", "/cookie_needed_echo/info")
    assert '"cookie_needed":true' in answer.text.replace(" ", "")
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(("method", "url"), RECEIVERS)
async def test_no_cookies_by_default(base: str, method: str, url: str) -> None:
    """A service without cookies sets none."""
    stream = await Stream.open(base, method, fresh() + url)
    assert "Set-Cookie" not in stream.head.headers


async def test_many_sessions_at_once(base: str) -> None:
    """Sessions opened at the same time get their own answers."""
    sessions = [fresh() for _ in range(32)]
    assert await asyncio.gather(*(poll(base, each) for each in sessions)) == ["o\n"] * 32
