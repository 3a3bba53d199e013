"""SockJS across origins: CORS headers, preflights, and which origins are allowed."""

from __future__ import annotations

import re

import pytest
from seam import Seam, Seams
from sockjs_client import Answer, Stream, array, ask, fresh, poll
from test_sockjs_http import RECEIVERS
from websocket_client import Socket

pytest_plugins = ("sockjs_fixtures",)

ORIGIN = "https://site.example.com"
PREFLIGHTS = [
    ("/info", "GET"),
    ("/abc/abc/xhr", "POST"),
    ("/abc/abc/xhr_send", "POST"),
    ("/abc/abc/xhr_streaming", "POST"),
]
REFUSED = [
    "https://evil.test",
    "https://example.com.evil.test",
    "https://site.example.com.evil.test",
    "https://notexample.com",
    "https://evil.test/.example.com",
    "https://evil.test#.example.com",
    "https://evil.test\\.example.com",
    "https://user@evil.test:1.example.com",
    "http://site.example.com",
    "https://site.example.com:8443",
    "null",
    "",
]


def assert_shared(answer: Answer, origin: str) -> None:
    """Check that `origin` may read the answer, with credentials, and that caches keep it apart."""
    allowed = answer.headers["Access-Control-Allow-Origin"]
    assert allowed == origin or (origin == "null" and allowed == "*")
    if allowed != "*":
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "origin" in answer.headers.get("Vary", "").lower()


def assert_not_shared(answer: Answer) -> None:
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("origin", [ORIGIN, "http://test", "null"])
@pytest.mark.parametrize(("path", "method"), PREFLIGHTS)
async def test_preflight(base: str, path: str, method: str, origin: str) -> None:
    """It is allowed for a year, with an empty body, and opens no session."""
    headers = {"Origin": origin, "Access-Control-Request-Method": method}
    answer = await ask(base, "OPTIONS", f"/echo{path}", headers=headers)
    assert (answer.status, answer.body) == (204, b"")
    assert "public" in answer.headers["Cache-Control"]
    assert re.search(r"max-age=[1-9]\d{6}", answer.headers["Cache-Control"])
    assert answer.headers["Expires"]
    assert int(answer.headers["Access-Control-Max-Age"]) > 1_000_000
    methods = answer.headers["Access-Control-Allow-Methods"].replace(" ", "").split(",")
    assert {"OPTIONS", method} <= set(methods)
    assert_shared(answer, origin)


async def test_options_without_an_origin(base: str) -> None:
    """OPTIONS outside CORS is answered for any origin."""
    answer = await ask(base, "OPTIONS", "/echo/abc/abc/xhr")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("asked", ["a, b, c", "", None])
async def test_requested_headers_are_echoed(base: str, asked: str | None) -> None:
    """A preflight allows exactly the headers that were asked for."""
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    if asked is not None:
        headers["Access-Control-Request-Headers"] = asked
    answer = await ask(base, "OPTIONS", f"{fresh()}/xhr", headers=headers)
    assert answer.headers.get("Access-Control-Allow-Headers", "") == (asked or "")


async def test_a_preflight_opens_no_session(base: str) -> None:
    """Only the request that follows does."""
    session = fresh()
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    await ask(base, "OPTIONS", f"{session}/xhr", headers=headers)
    assert (await ask(base, "POST", f"{session}/xhr_send", array("a"))).status == 404


@pytest.mark.parametrize("origin", [ORIGIN, "null"])
@pytest.mark.parametrize(("method", "url"), RECEIVERS)
async def test_receivers_are_readable_across_origins(
    base: str, method: str, url: str, origin: str
) -> None:
    """All receiving transports may be read with credentials (fault 17)."""
    stream = await Stream.open(base, method, fresh() + url, {"Origin": origin})
    assert stream.head.status == 200
    assert_shared(stream.head, origin)


async def test_info_and_senders_are_readable_across_origins(base: str) -> None:
    """So may info, sending, and their error answers (fault 17)."""
    headers = {"Origin": ORIGIN}
    assert_shared(await ask(base, "GET", "/echo/info", headers=headers), ORIGIN)
    session = fresh()
    assert await poll(base, session) == "o\n"
    for body, status in ((array("a"), 204), (b"", 500), (b"[", 500)):
        answer = await ask(base, "POST", f"{session}/xhr_send", body, headers)
        assert answer.status == status
        assert_shared(answer, ORIGIN)
    gone = await ask(base, "POST", f"{fresh()}/xhr_send", array("a"), headers)
    assert gone.status == 404
    assert_shared(gone, ORIGIN)


async def test_without_an_origin_anyone_may_read(base: str) -> None:
    """The answer then has `*`."""
    answer = await ask(base, "GET", "/echo/info")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.fixture
async def guarded(seam: Seams) -> Seam:
    """Give a server that allows https://*.example.com and one more origin."""
    return await seam(
        origins=("https://*.example.com", "http://localhost:3000"), jsonp=True, htmlfile=True
    )


@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:3000"])
async def test_listed_origins_are_allowed(guarded: Seam, origin: str) -> None:
    """A listed origin may use every transport, by name or by wildcard (fault 17)."""
    headers = {"Origin": origin}
    assert_shared(await ask(guarded.base, "GET", "/echo/info", headers=headers), origin)
    for method, url in RECEIVERS:
        stream = await Stream.open(guarded.base, method, fresh() + url, headers)
        assert stream.head.status == 200
        assert_shared(stream.head, origin)
    for url in (f"{fresh()}/websocket", "/echo/websocket"):
        assert (await Socket.open(guarded.base, url, headers)).head.status == 101


@pytest.mark.parametrize("origin", REFUSED)
async def test_other_origins_are_refused(guarded: Seam, origin: str) -> None:
    """Any other origin gets an unreadable 403 everywhere, and opens no session (fault 17)."""
    headers = {"Origin": origin}
    answers = [await ask(guarded.base, "GET", "/echo/info", headers=headers)]
    answers += [
        await ask(guarded.base, method, fresh() + url, b"", headers)
        for method, url in [*RECEIVERS, ("POST", "/xhr_send"), ("POST", "/jsonp_send")]
    ]
    answers += [
        (await Socket.open(guarded.base, url, headers)).head
        for url in (f"{fresh()}/websocket", "/echo/websocket")
    ]
    preflight = {**headers, "Access-Control-Request-Method": "POST"}
    answers.append(await ask(guarded.base, "OPTIONS", f"{fresh()}/xhr", headers=preflight))
    assert [answer.status for answer in answers] == [403] * len(answers)
    for answer in answers:
        assert_not_shared(answer)
    assert guarded.tape.events == []


async def test_a_session_is_closed_to_other_origins(guarded: Seam) -> None:
    """A page of another origin cannot send into a session whose URL it knows (fault 17)."""
    session = fresh()
    assert await poll(guarded.base, session) == "o\n"
    evil = {"Origin": "https://evil.test"}
    sent = await ask(guarded.base, "POST", f"{session}/xhr_send", array("a"), evil)
    assert sent.status == 403
    assert guarded.tape.story() == ["open"]


async def test_programs_without_an_origin_are_allowed(guarded: Seam) -> None:
    """A client that sends no Origin is not a browser."""
    assert await poll(guarded.base, fresh()) == "o\n"
    for url in (f"{fresh()}/websocket", "/echo/websocket"):
        assert (await Socket.open(guarded.base, url)).head.status == 101
