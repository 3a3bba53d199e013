"""SockJS by streaming: xhr_streaming, eventsource and htmlfile."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from sockjs_client import Stream, ask, fresh, send
from test_sockjs_polling import GO_AWAY, SECOND_RECEIVER
from test_sockjs_protocol import assert_uncacheable

pytest_plugins = ("sockjs_fixtures",)

LIMIT = 4096  # bytes in one response of the test server


@dataclass(frozen=True)
class Framing:
    """How one streaming transport is requested, and how it encloses a frame."""

    method: str
    url: str
    content_type: str
    prelude_end: str
    frame_end: str

    async def open(self, base: str, session: str) -> Stream:
        """Open the response and read its prelude."""
        stream = await Stream.open(base, self.method, session + self.url)
        assert stream.head.status == 200
        await stream.until(self.prelude_end)
        return stream

    async def frame(self, stream: Stream) -> str:
        """Return the next frame, or "" at the end of the response."""
        text = await stream.until(self.frame_end)
        if not text:
            return ""
        if self.url == "/eventsource":
            assert text.startswith("data: ")
            return text.removeprefix("data: ").removesuffix("\r\n\r\n")
        if self.url.startswith("/htmlfile"):
            text = text.lstrip()
            assert text.startswith("<script>\np(")
            call = text.removeprefix("<script>\np(").removesuffix(");\n</script>\r\n")
            return str(json.loads(call))
        return text.removesuffix("\n")


XHR = Framing("POST", "/xhr_streaming", "application/javascript;charset=utf-8", "\n", "\n")
EVENTSOURCE = Framing("GET", "/eventsource", "text/event-stream", "\r\n", "\r\n\r\n")
HTMLFILE = Framing(
    "GET", "/htmlfile?c=%63all", "text/html;charset=utf-8", "</script>", "</script>\r\n"
)
every_framing = pytest.mark.parametrize(
    "framing", [XHR, EVENTSOURCE, HTMLFILE], ids=["xhr", "eventsource", "htmlfile"]
)


@every_framing
async def test_opens_sends_and_receives(base: str, framing: Framing) -> None:
    """One response brings the open frame and every later message as it comes."""
    session = fresh()
    stream = await framing.open(base, session)
    assert stream.head.content_type.startswith(framing.content_type)
    assert_uncacheable(stream.head)
    assert await framing.frame(stream) == "o"
    for text in ("x", "  \u0000\n\r ", "\u00e9\U0001f600"):
        assert (await send(base, session, text)).status == 204
        frame = await framing.frame(stream)
        assert frame[0] == "a"
        assert json.loads(frame[1:]) == [text]


async def test_xhr_streaming_starts_with_two_kilobytes(base: str) -> None:
    """The prelude for old browsers is 2048 times h and a newline."""
    stream = await Stream.open(base, "POST", f"{fresh()}/xhr_streaming")
    assert await stream.until() == "h" * 2048 + "\n"
    assert await stream.until() == "o\n"


async def test_eventsource_starts_with_a_newline(base: str) -> None:
    """The prelude is an empty line; leading blanks and newlines in a message stay JSON."""
    session = fresh()
    stream = await Stream.open(base, "GET", f"{session}/eventsource")
    assert await stream.until("\r\n") == "\r\n"
    assert await stream.until("\r\n\r\n") == "data: o\r\n\r\n"
    await ask(base, "POST", f"{session}/xhr_send", rb'["  \u0000\n\r "]')
    assert await stream.until("\r\n\r\n") == 'data: a["  \\u0000\\n\\r "]\r\n\r\n'


async def test_htmlfile_starts_with_a_page(base: str) -> None:
    """The prelude is a page over 1 KiB that calls the parent's function."""
    stream = await Stream.open(base, "GET", f"{fresh()}/htmlfile?c=%63allback")
    page = await stream.until('p("o");\n</script>\r\n')
    prelude = page.removesuffix('<script>\np("o");\n</script>\r\n')
    assert prelude.strip() == (
        "<!doctype html>\n<html><head>\n"
        '  <meta http-equiv="X-UA-Compatible" content="IE=edge" />\n'
        '  <meta http-equiv="Content-Type" content="text/html; charset=UTF-8" />\n'
        "</head><body><h2>Don't panic!</h2>\n"
        "  <script>\n    document.domain = document.domain;\n"
        "    var c = parent.callback;\n    c.start();\n"
        "    function p(d) {c.message(d);};\n"
        "    window.onload = function() {c.stop();};\n  </script>"
    )
    assert len(prelude) > 1024


@every_framing
async def test_a_response_ends_at_its_limit(base: str, framing: Framing) -> None:
    """A response ends at 4096 bytes; the next one continues where it stopped."""
    session = fresh()
    stream = await framing.open(base, session)
    assert await framing.frame(stream) == "o"
    await send(base, session, "x" * LIMIT)
    assert await framing.frame(stream) == f'a["{"x" * LIMIT}"]'
    assert await framing.frame(stream) == ""
    await send(base, session, "more")
    again = await framing.open(base, session)
    assert await framing.frame(again) == 'a["more"]'


async def test_small_messages_count_towards_the_limit(base: str) -> None:
    """31 frames of 133 bytes after the open frame make 4096 bytes, framing included."""
    session = fresh()
    stream = await XHR.open(base, session)
    assert await XHR.frame(stream) == "o"
    for _ in range(31):
        await send(base, session, "x" * 128)
        assert await XHR.frame(stream) == f'a["{"x" * 128}"]'
    assert await XHR.frame(stream) == ""


@every_framing
async def test_every_response_of_a_closed_session_has_the_close(
    base: str, framing: Framing
) -> None:
    """The close frame ends a response; a later request gets it too, not 2010."""
    session = fresh("/close")
    first = await framing.open(base, session)
    assert [await framing.frame(first) for _ in range(3)] == ["o", GO_AWAY, ""]
    second = await framing.open(base, session)
    assert [await framing.frame(second) for _ in range(2)] == [GO_AWAY, ""]


@every_framing
async def test_a_second_response_gets_2010(base: str, framing: Framing) -> None:
    """The second response gets the error and ends, while the first one lives on."""
    session = fresh()
    first = await framing.open(base, session)
    assert await framing.frame(first) == "o"
    second = await framing.open(base, session)
    assert [await framing.frame(second) for _ in range(2)] == [SECOND_RECEIVER, ""]
    await send(base, session, "still here")
    assert await framing.frame(first) == 'a["still here"]'


@every_framing
async def test_an_aborted_response_interrupts_the_session(base: str, framing: Framing) -> None:
    """After a response broke off, the URL answers 1002 or opens a new session."""
    session = fresh()
    first = await framing.open(base, session)
    assert await framing.frame(first) == "o"
    await first.wire.close()
    later = await framing.open(base, session)
    assert await framing.frame(later) in ("o", 'c[1002,"Connection interrupted"]')
