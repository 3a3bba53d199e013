"""The requests of polling and streaming sessions: those that receive, and those that send.

The framing is the plugin's. This module decides how a response begins (`process`), how a request
takes and leaves a session (`handle_session`), and what the body of a sending request may contain.
"""

from __future__ import annotations

import asyncio
import re
from binascii import a2b_qp
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11
from sockjs.transports import (
    eventsource,
    htmlfile,
    jsonp,
    xhr_pooling,
    xhrstreaming,
)
from sockjs.transports.utils import CACHE_CONTROL

from videre.answers import Answer, is_timed_out
from videre.reasons import LOST
from videre.transport import framing
from videre.transport.bodies import Body
from videre.transport.checks import media_type
from videre.transport.http import HTTPSession

_PLAIN = "text/plain; charset=UTF-8"

# In a form: a `%` that begins no escape; and the rest, as `_unescaped` wants it.
_STRAY = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_FORM = bytes.maketrans(b"+%", b" =")

# Ends before anything that must not be in a Set-Cookie header.
_JSESSIONID = re.compile(r"(?:^|;)[ \t]*JSESSIONID=([!-:<-~]+)")


def _headers(request: web.Request, session: HTTPSession, kind: str) -> list[tuple[str, str]]:
    """Return the headers of a response, of a `kind` such as text/plain.

    They repeat the JSESSIONID that the client sent. The plugin parses all cookies for that, even if
    it sets none: 32 KB of them take 50 ms.
    """
    headers: list[tuple[str, str]] = [
        (hdrs.CONTENT_TYPE, kind),
        (hdrs.CACHE_CONTROL, CACHE_CONTROL),
    ]
    if session.shared.options.cookie:
        found = _JSESSIONID.findall(request.headers.get(hdrs.COOKIE, "")) or ["dummy"]
        headers.append((hdrs.SET_COOKIE, f"JSESSIONID={found[-1]}; Path=/"))
    return headers


def _unescaped(value: bytes) -> bytes:
    """Return the value of a form's field, as UTF-8.

    Quoted-printable has the same escapes, but for `=` instead of `%`. The standard library decodes
    it in C; for forms it takes up to 0.4 us and 190 bytes of memory for each byte.
    """
    escaped = _STRAY.sub(b"%25", value).replace(b"=", b"%3D").translate(_FORM)
    return a2b_qp(escaped).decode(errors="replace").encode()


class Receiving:
    """How a receiving request uses a session: a mixin for the plugin's transports."""

    methods: ClassVar[tuple[str, ...]] = ("POST",)
    content_type = "application/javascript; charset=UTF-8"
    closes = False  # the connection, after the response
    request: web.Request
    session: HTTPSession
    response: web.StreamResponse

    @classmethod
    def check(cls, request: web.Request) -> None:
        """Raise an HTTPException if the request must not use a session."""

    @property
    def gone(self) -> bool:
        """Whether the client has left; polled, because aiohttp does not report it."""
        tcp = self.request.transport
        return tcp is None or tcp.is_closing()

    @property
    def buffered(self) -> int:
        """Bytes written that the client has not read yet."""
        tcp = self.request.transport
        return 0 if tcp is None else tcp.get_write_buffer_size()

    def cut(self) -> None:
        """Abort the connection without waiting."""
        if (tcp := self.request.transport) is not None:
            tcp.abort()

    async def process(self) -> web.StreamResponse:
        """Answer with the frames that `handle_session` sends."""
        headers = _headers(self.request, self.session, self.content_type)
        self.response = web.StreamResponse(headers=headers)
        # HTTP/1.0 has no chunks: the body ends with the connection. aiohttp would keep that open if
        # the client asks for it.
        if self.closes or self.request.version < HttpVersion11:
            self.response.force_close()
        await self.response.prepare(self.request)
        if opening := self.opening():
            await self.response.write(opening)
        await self.handle_session()
        return self.response

    def opening(self) -> bytes:
        """Return what precedes the first frame."""
        return b""

    async def handle_session(self) -> None:
        """Send frames until the response is full or the session says goodbye."""
        session = self.session
        if (refusal := session.attach(self)) is not None:
            await self._send(refusal)
            return
        try:
            while frame := await session.next_frame(self):
                if await self._send(frame) or frame[0] == "c":
                    break
        except (asyncio.CancelledError, ConnectionError, web.HTTPException) as error:
            if isinstance(error, asyncio.CancelledError) and is_timed_out(self.request):
                return  # as if the response were full: the client sends another request
            if session.receiver is self:
                session.interrupt(LOST)
            if isinstance(error, web.HTTPException):  # how the plugin reports a lost connection
                raise ConnectionResetError(error.reason) from error
            raise
        finally:
            session.detach(self)

    if TYPE_CHECKING:  # the plugin's, which adds its framing

        async def _send(self, text: str) -> bool: ...


class Callback(Receiving):
    """A receiver that calls a JavaScript function, whose name must be a plain identifier."""

    methods = ("GET",)
    _name = re.compile(r"[A-Za-z0-9_.]{1,128}")

    @property
    def callback(self) -> str:
        """The function's name."""
        return self.request.query["c"]

    @classmethod
    def check(cls, request: web.Request) -> None:
        """See Receiving.check."""
        callback = request.query.get("c")
        if not callback:
            raise web.HTTPInternalServerError(text='"callback" parameter required')
        if not cls._name.fullmatch(callback):
            raise web.HTTPInternalServerError(text='invalid "callback" parameter')


class XHRPolling(Receiving, xhr_pooling.XHRTransport):  # type: ignore[misc]
    """One frame per response."""


class XHRStreaming(Receiving, xhrstreaming.XHRStreamingTransport):  # type: ignore[misc]
    """One frame per line."""

    closes = True

    def opening(self) -> bytes:
        """See Receiving.opening; some old browsers show nothing before they have 2 KB."""
        opening: bytes = self.open_seq
        return opening


class EventSource(Receiving, eventsource.EventsourceTransport):  # type: ignore[misc]
    """One frame per event."""

    methods = ("GET",)
    content_type = "text/event-stream"

    def opening(self) -> bytes:
        """See Receiving.opening; Opera needs one more line."""
        return b"\r\n"


class HTMLFile(Callback, htmlfile.HTMLFileTransport):  # type: ignore[misc]
    """One frame per script element."""

    content_type = "text/html; charset=UTF-8"
    closes = True

    def opening(self) -> bytes:
        """See Receiving.opening."""
        before, after = htmlfile.PRELUDE1, htmlfile.PRELUDE2 + b" " * 1024
        return bytes(before + self.callback.encode() + after)

    async def _send(self, text: str) -> bool:
        # The plugin quotes for JavaScript, but `</script>` in a string would still end the element.
        return await super()._send(text.replace("<", "\\u003c"))


class JSONPPolling(Callback, jsonp.JSONPolling):  # type: ignore[misc]
    """One frame per script."""


class Sending:
    """A request that sends messages to an open session."""

    methods: ClassVar[tuple[str, ...]] = ("POST",)
    request: web.Request
    session: HTTPSession

    async def process(self) -> web.Response:
        """Pass the messages in the body to the session."""
        shared = self.session.shared
        body = Body(self.request, self.session.address, shared.bodies)
        text = self.unwrap(await body.read(shared.options.max_body_bytes))
        if not text:
            raise web.HTTPInternalServerError(text="Payload expected.")
        try:
            messages = framing.messages(text)
        except ValueError:
            raise web.HTTPInternalServerError(text="Broken JSON encoding.") from None
        self.session.silent = 0
        relays = shared.tally.relays
        relays.left -= 1
        if not relays.left:
            relays.begin()
        for message in messages:
            self.session.receive(message)
        relays.end()
        return self.answer()

    def unwrap(self, body: bytes) -> bytes:
        """Return the JSON text in the body."""
        return body

    def answer(self) -> web.Response:
        """Return the response that confirms the messages."""
        return Answer(status=204, headers=_headers(self.request, self.session, _PLAIN))


class XHRSend(Sending, xhr_pooling.XHRSendTransport):  # type: ignore[misc]
    """Messages as the body of a POST."""


class JSONPSend(Sending, jsonp.JSONPollingSend):  # type: ignore[misc]
    """Messages as the body of a POST, or as the field `d` of a form."""

    def unwrap(self, body: bytes) -> bytes:
        """See Sending.unwrap."""
        if media_type(self.request) != "application/x-www-form-urlencoded":
            return body
        if not body.startswith(b"d="):
            return b""
        return _unescaped(body[2:])

    def answer(self) -> web.Response:
        """See Sending.answer; some old browsers misbehave on a 204."""
        return web.Response(body=b"ok", headers=_headers(self.request, self.session, _PLAIN))


#: The transports that a URL can name, except for the WebSocket.
TRANSPORTS: Mapping[str, Any] = {
    "xhr": XHRPolling,
    "xhr_send": XHRSend,
    "xhr_streaming": XHRStreaming,
    "eventsource": EventSource,
    "htmlfile": HTMLFile,
    "jsonp": JSONPPolling,
    "jsonp_send": JSONPSend,
}
