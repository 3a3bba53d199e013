"""The requests that bring a polling or streaming session's messages: what they may hold is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote_plus

from aiohttp import hdrs, web
from sockjs.transports import jsonp, xhr_pooling
from sockjs.transports.utils import CACHE_CONTROL, session_cookie

from videre.transport import framing
from videre.transport.requests import Body

if TYPE_CHECKING:
    from videre.transport.http import HTTPSession


class Sender:
    """A request that sends messages to a session that is open."""

    methods: ClassVar[tuple[str, ...]] = ("POST",)
    request: web.Request
    session: HTTPSession

    async def process(self) -> web.Response:
        """Hand the messages in the body to the session."""
        manager = self.session.manager
        body = Body(self.request, self.session.address, manager.bodies)
        text = self.unwrap(await body.read(manager.options.max_body_bytes))
        if not text:
            raise web.HTTPInternalServerError(text="Payload expected.")
        try:
            messages = framing.messages(text)
        except ValueError:
            raise web.HTTPInternalServerError(text="Broken JSON encoding.") from None
        self.session.silent = 0
        relays = manager.tally.relays
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
        """Return what says that the messages were taken."""
        return web.Response(status=204, headers=[*_PLAIN, *session_cookie(self.request)])


_PLAIN = (
    (hdrs.CONTENT_TYPE, "text/plain; charset=UTF-8"),
    (hdrs.CACHE_CONTROL, CACHE_CONTROL),
)


class XHRSend(Sender, xhr_pooling.XHRSendTransport):  # type: ignore[misc]
    """Messages as the body of a POST."""


class JSONPSend(Sender, jsonp.JSONPollingSend):  # type: ignore[misc]
    """Messages as the body of a POST, or as the field `d` of a form."""

    def unwrap(self, body: bytes) -> bytes:
        """See Sender.unwrap."""
        if self.request.content_type.lower() != "application/x-www-form-urlencoded":
            return body
        if not body.startswith(b"d="):
            return b""
        return unquote_plus(body[2:].decode(errors="replace")).encode()

    def answer(self) -> web.Response:
        """See Sender.answer; some old browsers do strange things on a 204."""
        return web.Response(body=b"ok", headers=[*_PLAIN, *session_cookie(self.request)])
