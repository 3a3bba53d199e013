"""The SockJS 0.3.3 protocol: greeting, iframe page, info, and the URLs of sessions."""

from __future__ import annotations

import json
import re
import uuid

import pytest
from sockjs_client import Answer, array, ask, fresh, poll, send

pytest_plugins = ("sockjs_fixtures",)

IFRAME = re.compile(
    r"\A<!DOCTYPE html>\n<html>\n<head>\n"
    r'  <meta http-equiv="X-UA-Compatible" content="IE=edge" />\n'
    r'  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />\n'
    r'  <script src="(?P<url>[^"]+)"'
    r'( integrity="sha384-[\w+/=]+" crossorigin="anonymous")?></script>\n'
    r"  <script>\n    document\.domain = document\.domain;\n"
    r"    SockJS\.bootstrap_iframe\(\);\n  </script>\n</head>\n<body>\n"
    r"  <h2>Don't panic!</h2>\n"
    r"  <p>This is a SockJS hidden iframe\. It's used for cross domain magic\.</p>\n"
    r"</body>\n</html>\s*\Z"
)


def assert_uncacheable(answer: Answer) -> None:
    directives = set(answer.headers["Cache-Control"].replace(" ", "").split(","))
    assert {"no-store", "no-cache", "must-revalidate", "max-age=0"} <= directives
    assert "Expires" not in answer.headers
    assert "Last-Modified" not in answer.headers


def assert_cacheable(answer: Answer) -> None:
    assert "public" in answer.headers["Cache-Control"]
    assert re.search(r"max-age=[1-9]\d{6}", answer.headers["Cache-Control"])
    assert answer.headers["Expires"]
    assert "Last-Modified" not in answer.headers


@pytest.mark.parametrize("path", ["/echo", "/echo/"])
async def test_greeting(base: str, path: str) -> None:
    """The prefix itself answers in plain text, without a cookie."""
    answer = await ask(base, "GET", path)
    assert (answer.status, answer.text) == (200, "Welcome to SockJS!\n")
    assert answer.content_type == "text/plain;charset=utf-8"
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/a", "/a.html", "//", "///", "/a/a", "/a/a/", "/a/", "/0/0/x"])
async def test_unknown_paths_are_404(base: str, path: str) -> None:
    """Nothing else exists under the prefix."""
    assert (await ask(base, "GET", f"/echo{path}")).status == 404


@pytest.mark.parametrize("path", ["/", "/ech", "/echo2", "/favicon.ico", "/echoo/0/0/xhr"])
async def test_paths_outside_the_prefix_are_404(base: str, path: str) -> None:
    """A path outside every prefix is answered at once."""
    assert (await ask(base, "GET", path)).status == 404


@pytest.mark.parametrize(
    "name",
    [
        "iframe.html",
        "iframe-a.html",
        "iframe-.html",
        "iframe-0.1.2.html",
        "iframe-0.1.2abc-dirty.2144.html",
        "iframe-a.html?t=1234",
        "iframe-0.1.2.html?t=123414",
        "iframe-0.1.2abc-dirty.2144.html?t=qweqweq123",
    ],
)
async def test_iframe_page(base: str, name: str) -> None:
    """Every version of the iframe page is the same, cacheable for long, without a cookie."""
    answer = await ask(base, "GET", f"/echo/{name}")
    assert answer.status == 200
    assert answer.content_type == "text/html;charset=utf-8"
    assert_cacheable(answer)
    assert answer.headers["ETag"]
    assert "Set-Cookie" not in answer.headers
    page = IFRAME.match(answer.text)
    assert page
    assert page["url"].startswith(("/", "http"))


@pytest.mark.parametrize(
    "name",
    [
        "iframe.htm",
        "iframe",
        "IFRAME.HTML",
        "IFRAME",
        "iframe.HTML",
        "iframe.xml",
        "iframe-/.html",
    ],
)
async def test_misspelt_iframe_pages_are_404(base: str, name: str) -> None:
    """Only iframe*.html is the iframe page."""
    assert (await ask(base, "GET", f"/echo/{name}")).status == 404


async def test_iframe_page_is_revalidated_by_its_etag(base: str) -> None:
    """The ETag is stable; a request with it gets a 304 without body and type."""
    first = await ask(base, "GET", "/echo/iframe.html")
    second = await ask(base, "GET", "/echo/iframe-0.3.3.html")
    assert first.headers["ETag"] == second.headers["ETag"]
    headers = {"If-None-Match": first.headers["ETag"]}
    again = await ask(base, "GET", "/echo/iframe.html", headers=headers)
    assert (again.status, again.body) == (304, b"")
    assert not again.headers.get("Content-Type")


async def test_iframe_page_under_another_etag_is_sent(base: str) -> None:
    """A request with an older ETag gets the page."""
    headers = {"If-None-Match": '"an-older-one"'}
    answer = await ask(base, "GET", "/echo/iframe.html", headers=headers)
    assert answer.status == 200
    assert IFRAME.match(answer.text)


async def test_info(base: str) -> None:
    """Info has all that a client needs to choose a transport, and is never cached."""
    answer = await ask(base, "GET", "/echo/info", headers={"Origin": "http://test"})
    assert answer.status == 200
    assert answer.content_type == "application/json;charset=utf-8"
    assert_uncacheable(answer)
    assert "Set-Cookie" not in answer.headers
    info = json.loads(answer.body)
    assert info["websocket"] is True
    assert info["cookie_needed"] is False
    assert info["origins"] == ["*:*"]
    assert type(info["entropy"]) is int
    assert 0 <= info["entropy"] < 1 << 32


async def test_info_has_fresh_entropy(base: str) -> None:
    """Two answers have different entropy."""
    answers = [await ask(base, "GET", "/echo/info") for _ in range(8)]
    entropies = {json.loads(answer.body)["entropy"] for answer in answers}
    assert len(entropies) == len(answers)


async def test_info_of_a_service_without_websockets(base: str) -> None:
    """It says so in info, and has no WebSocket."""
    answer = await ask(base, "GET", "/disabled_websocket_echo/info")
    assert json.loads(answer.body)["websocket"] is False
    for path in ("/disabled_websocket_echo/0/0/websocket", "/disabled_websocket_echo/websocket"):
        assert (await ask(base, "GET", path)).status == 404


@pytest.mark.parametrize("part", ["/a/a", "/_/_", "/1/1", "/abcdefgh_i-j%20/abcdefg_i-j%20"])
async def test_any_server_and_session_open_a_session(base: str, part: str) -> None:
    """Server and session may be any words."""
    assert await poll(base, f"/echo{part}{uuid.uuid4().hex[:12]}") == "o\n"


@pytest.mark.parametrize("part", ["//", "/a./a", "/a/a.", "/./.", "/", "///", "/a", "/a/b/c"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_misshapen_session_urls_are_404(base: str, method: str, part: str) -> None:
    """URLs with empty parts, dots, or more or fewer parts are not sessions."""
    answer = await ask(base, method, f"/echo{part}/xhr", b"")
    assert answer.status == 404


@pytest.mark.parametrize(
    ("session", "status"),
    [
        ("a" * 50, 200),
        ("a" * 65, 404),
        ("a" * 5000, 404),
        ("new%0Aline", 404),
        ("carriage%0Dreturn", 404),
        ("null%00", 404),
        ("escape%1B%5B31m", 404),
        ("delete%7F", 404),
        ("separator%E2%80%A8", 404),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_session_ids_are_short_and_printable(base: str, session: str, status: int) -> None:
    """A decoded session id has at most 64 printable characters (fault 18)."""
    mine = session if status == 404 else session + uuid.uuid4().hex[:14]
    answer = await ask(base, "POST", f"/echo/000/{mine}/xhr", b"")
    assert answer.status == status


@pytest.mark.parametrize("server", ["a" * 65, "new%0Aline", "null%00"], ids=lambda part: part[:20])
async def test_server_ids_are_short_and_printable(base: str, server: str) -> None:
    """The server part of the URL has the same limit as the session part (fault 18)."""
    answer = await ask(base, "POST", f"/echo/{server}/{uuid.uuid4()}/xhr", b"")
    assert answer.status == 404


async def test_session_ids_are_compared_decoded(base: str) -> None:
    """An id and its percent-encoded spelling are one session."""
    name = uuid.uuid4().hex
    assert await poll(base, f"/echo/000/a-{name}") == "o\n"
    assert (await send(base, f"/echo/000/%61%2D{name}", "hello")).status == 204
    assert await poll(base, f"/echo/000/a-{name}") == 'a["hello"]\n'


async def test_the_server_part_is_ignored(base: str) -> None:
    """The session id alone counts, whichever server the load balancer names."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    assert (await send(base, session, "a")).status == 204
    elsewhere = session.replace("/000/", "/999/")
    assert await poll(base, elsewhere) == 'a["a"]\n'


async def test_services_do_not_share_sessions(base: str) -> None:
    """The same id under another prefix is another session."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    there = session.replace("/echo/", "/cookie_needed_echo/")
    answer = await ask(base, "POST", f"{there}/xhr_send", array("a"))
    assert answer.status == 404
