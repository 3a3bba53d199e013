"""SockJS by polling: xhr and xhr_send, jsonp and jsonp_send, and the life of such a session."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from sockjs_client import FORM, Stream, Wire, array, ask, fresh, poll, send
from test_sockjs_protocol import assert_uncacheable

pytest_plugins = ("sockjs_fixtures",)

SECOND_RECEIVER = 'c[2010,"Another connection still open"]'
GO_AWAY = 'c[3000,"Go away!"]'
CONTENT_TYPES = [
    "text/plain",
    "T",
    "application/json",
    "application/xml",
    "",
    "application/json; charset=utf-8",
    "text/xml; charset=utf-8",
    "text/xml",
]


async def jsonp(base: str, session: str, callback: str = "call") -> str:
    """Return the frame of one jsonp poll, taken from its call."""
    answer = await ask(base, "GET", f"{session}/jsonp?c={callback}")
    assert answer.status == 200, answer
    start, end = f"{callback}(", ");\r\n"
    text = answer.text.removeprefix("/**/")
    assert text.startswith(start)
    assert text.endswith(end)
    return str(json.loads(text[len(start) : -len(end)]))


async def test_xhr_opens_sends_and_receives(base: str) -> None:
    """The first poll brings the open frame, later ones the messages, one frame a poll."""
    session = fresh()
    opening = await ask(base, "POST", f"{session}/xhr", b"")
    assert (opening.status, opening.text) == (200, "o\n")
    assert opening.content_type == "application/javascript;charset=utf-8"
    assert_uncacheable(opening)
    sent = await send(base, session, "x")
    assert (sent.status, sent.body) == (204, b"")
    assert sent.content_type == "text/plain;charset=utf-8"
    assert_uncacheable(sent)
    assert await poll(base, session) == 'a["x"]\n'


async def test_messages_wait_for_the_poll_in_one_frame(base: str) -> None:
    """Messages that come between two polls are in one array, in order."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    await send(base, session, "a", "b")
    await send(base, session, "c")
    assert await poll(base, session) == 'a["a","b","c"]\n'


async def test_a_waiting_poll_is_answered_by_a_message(base: str) -> None:
    """A poll without a message waits, and ends with the first one."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    waiting = await Stream.open(base, "POST", f"{session}/xhr")
    await send(base, session, "at last")
    assert await waiting.rest() == b'a["at last"]\n'


@pytest.mark.parametrize("send_url", ["xhr_send", "jsonp_send"])
async def test_sending_to_no_session_is_404(base: str, send_url: str) -> None:
    """Messages for a session that was never opened are refused."""
    answer = await ask(base, "POST", f"{fresh()}/{send_url}", array("x"))
    assert answer.status == 404


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b'["x', "Broken JSON encoding."),
        (b"\xff\xfe", "Broken JSON encoding."),
        (b"[" * 100_000, "Broken JSON encoding."),
        (b"", "Payload expected."),
    ],
)
async def test_xhr_send_refuses_invalid_json(base: str, body: bytes, complaint: str) -> None:
    """The 500 says whether JSON is broken or missing, and the session lives on."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    refused = await ask(base, "POST", f"{session}/xhr_send", body)
    assert refused.status == 500
    assert complaint in refused.text
    assert (await send(base, session, "a")).status == 204
    assert await poll(base, session) == 'a["a"]\n'


async def test_xhr_send_takes_any_content_type(base: str) -> None:
    """Browsers and proxies set a body's type as they like."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    for kind in CONTENT_TYPES:
        headers = {"Content-Type": kind}
        answer = await ask(base, "POST", f"{session}/xhr_send", array("a"), headers)
        assert (answer.status, answer.body) == (204, b""), kind
    await send(base, session, "b")
    assert json.loads((await poll(base, session))[1:]) == ["a"] * len(CONTENT_TYPES) + ["b"]


async def test_xhr_send_takes_an_empty_array(base: str) -> None:
    """Clients send an empty array as a heartbeat."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    assert (await send(base, session)).status == 204
    assert (await send(base, session, "a", "")).status == 204
    assert await poll(base, session) == 'a["a",""]\n'


async def test_a_post_without_content_length_opens(base: str) -> None:
    """A POST without Content-Length has no body."""
    wire = await Wire.open(base)
    answer = await wire.ask("POST", f"{fresh()}/xhr")
    assert (answer.status, answer.text) == (200, "o\n")


async def test_a_second_poll_gets_2010(base: str) -> None:
    """Two polls cannot wait on one session: the second gets an error, the first waits on."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    first = await Stream.open(base, "POST", f"{session}/xhr")
    assert await poll(base, session) == f"{SECOND_RECEIVER}\n"
    await send(base, session, "still here")
    assert await first.rest() == b'a["still here"]\n'


async def test_an_aborted_poll_interrupts_the_session(base: str) -> None:
    """After a poll broke off, the URL answers 1002 or opens a new session."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    first = await Stream.open(base, "POST", f"{session}/xhr")
    assert await poll(base, session) == f"{SECOND_RECEIVER}\n"
    await first.wire.close()
    assert await poll(base, session) in ("o\n", 'c[1002,"Connection interrupted"]\n')


async def test_every_poll_of_a_closed_session_gets_the_close(base: str) -> None:
    """Each poll after the close frame gets it again."""
    session = fresh("/close")
    assert await poll(base, session) == "o\n"
    for _ in range(3):
        assert await poll(base, session) == f"{GO_AWAY}\n"


async def test_jsonp_opens_sends_and_receives(base: str) -> None:
    """A jsonp poll returns a call of the named function, with the frame as a string."""
    session = fresh()
    opening = await ask(base, "GET", f"{session}/jsonp?c=%63allback")
    assert opening.status == 200
    assert opening.text.removeprefix("/**/") == 'callback("o");\r\n'
    assert opening.content_type == "application/javascript;charset=utf-8"
    assert_uncacheable(opening)
    sent = await ask(base, "POST", f"{session}/jsonp_send", b"d=%5B%22x%22%5D", FORM)
    assert (sent.status, sent.text) == (200, "ok")
    assert sent.content_type == "text/plain;charset=utf-8"
    assert_uncacheable(sent)
    assert await jsonp(base, session) == 'a["x"]'


@pytest.mark.parametrize("transport", ["jsonp", "htmlfile"])
async def test_a_callback_is_required(base: str, transport: str) -> None:
    """Without the name of a function the poll is refused, also by an open session."""
    used = fresh()
    assert await jsonp(base, used) == "o"
    for session in (fresh(), used):
        for query in ("", "?c="):
            answer = await ask(base, "GET", f"{session}/{transport}{query}")
            assert answer.status == 500
            assert '"callback" parameter' in answer.text


@pytest.mark.parametrize("transport", ["jsonp", "htmlfile"])
@pytest.mark.parametrize("callback", ["%20", "*", "abc(", "abc%28", "a%0A", "%0Aa", "a%3Balert"])
async def test_callbacks_have_plain_names(base: str, transport: str, callback: str) -> None:
    """Other characters are refused, even a trailing newline (fault 16), also by an open session."""
    used = fresh()
    assert await jsonp(base, used) == "o"
    for session in (fresh(), used):
        answer = await ask(base, "GET", f"{session}/{transport}?c={callback}")
        assert answer.status == 500
        assert 'invalid "callback" parameter' in answer.text
    assert (await ask(base, "POST", f"{used}/jsonp_send", b"d=%5B%22b%22%5D", FORM)).text == "ok"
    assert await jsonp(base, used) == 'a["b"]'


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"d=%5B%22x", "Broken JSON encoding."),
        (b"", "Payload expected."),
        (b"d=", "Payload expected."),
        (b"p=p", "Payload expected."),
    ],
)
async def test_jsonp_send_refuses_invalid_json(base: str, body: bytes, complaint: str) -> None:
    """The 500 says whether JSON is broken or missing, and the session lives on."""
    session = fresh()
    assert await jsonp(base, session) == "o"
    refused = await ask(base, "POST", f"{session}/jsonp_send", body, FORM)
    assert refused.status == 500
    assert complaint in refused.text
    sent = await ask(base, "POST", f"{session}/jsonp_send", b"d=%5B%22b%22%5D", FORM)
    assert sent.text == "ok"
    assert await jsonp(base, session) == 'a["b"]'


async def test_jsonp_send_takes_a_form_or_plain_text(base: str) -> None:
    """Only a form's value is URL-decoded."""
    session = fresh()
    assert await jsonp(base, session) == "o"
    form = b"d=" + quote('["a b&+=%"]').encode()
    assert (await ask(base, "POST", f"{session}/jsonp_send", form, FORM)).text == "ok"
    plain = {"Content-Type": "text/plain"}
    sent = await ask(base, "POST", f"{session}/jsonp_send", b'["%61bc"]', plain)
    assert sent.text == "ok"
    assert await jsonp(base, session) == 'a["a b&+=%","%61bc"]'


async def test_every_jsonp_poll_of_a_closed_session_gets_the_close(base: str) -> None:
    """The close frame comes by jsonp too, on each poll."""
    session = fresh("/close")
    assert await jsonp(base, session) == "o"
    for _ in range(2):
        assert await jsonp(base, session) == GO_AWAY
