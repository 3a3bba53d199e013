"""Upgrades a request to a WebSocket session."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import hdrs, web
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import HttpVersion11, WebSocketReader, WebSocketWriter
from multidict import CIMultiDict

from videre.reasons import STOPPED
from videre.transport import offers
from videre.transport.clients import Client
from videre.transport.manager import Manager
from videre.transport.session import logger
from videre.transport.websocket import WebSocketSession
from videre.transport.wire import Wire

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # RFC 6455, 4.1


class _Inbound(WebSocketDataQueue):
    """Passes messages from aiohttp's parser straight to the session, without a queue.

    The compiled parser calls these methods from C, where an exception would only be printed. So
    they let none escape.
    """

    def __init__(self, session: WebSocketSession, protocol: web.RequestHandler) -> None:
        if not hasattr(self, "_size"):  # aiohttp without its compiled parser
            super().__init__(protocol, 0, loop=protocol._loop)
        # With it, skip the base's __init__: it would create a queue, 700 bytes, for nothing.
        self._session = session

    def feed_data(self, data: Any, size: int) -> None:
        try:
            self._session.arrived(data)
        except Exception:
            logger.exception("handling a message failed")
            self._session.cut()

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        try:
            self._session.broken(exc)
        except Exception:
            logger.exception("answering a broken frame failed")
            self._session.cut()

    def feed_eof(self) -> None:
        self._session.lost()


class Upgrade(web.WebSocketResponse):
    """aiohttp's handshake, without its queue, its closing handshake and its compressor."""

    def __init__(self, manager: Manager, client: Client, *, sockjs_framing: bool) -> None:
        super().__init__(compress=False)
        self._manager = manager
        self._client = client
        self._sockjs_framing = sockjs_framing
        self._deflate = False
        self.session: WebSocketSession

    def _handshake(
        self, request: web.BaseRequest
    ) -> tuple[CIMultiDict[str], str | None, int, bool]:
        if request.version < HttpVersion11:  # RFC 6455, 4.1
            raise web.HTTPBadRequest(text="WebSockets need HTTP/1.1")
        key = request.headers.get(hdrs.SEC_WEBSOCKET_KEY, "")
        if not _KEY.fullmatch(key):  # aiohttp raises on one that is not ASCII
            raise web.HTTPBadRequest(text="Sec-WebSocket-Key must be 16 bytes in base64")
        options = self._manager.shared.options
        offered = request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ())
        if offered:  # aiohttp would log each one
            headers = CIMultiDict(request.headers)
            headers.popall(hdrs.SEC_WEBSOCKET_PROTOCOL)
            request = request.clone(headers=headers)
        try:
            headers, _, _, _ = super()._handshake(request)
        except UnicodeEncodeError:  # aiohttp echoes the bad value, which fails if not text
            raise web.HTTPBadRequest(text="Not a WebSocket handshake") from None
        if (protocol := offers.subprotocol(offered, options.subprotocols)) is not None:
            headers[hdrs.SEC_WEBSOCKET_PROTOCOL] = protocol
        if options.compression:
            extensions = request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ())
            if (deflate := offers.deflate(extensions)) is not None:
                self._deflate = True
                headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = deflate
        return headers, protocol, 0, False

    def _post_start(
        self, request: web.BaseRequest, protocol: str | None, writer: WebSocketWriter
    ) -> None:
        # Replaces aiohttp's method: the writer is dropped, and the parser feeds the session.
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("connection lost")
        manager = self._manager
        session = WebSocketSession(
            manager,
            self._client,
            transport,
            sockjs_framing=self._sockjs_framing,
            deflate=self._deflate,
        )
        self.session = session
        # The parser also refuses frames of exactly the limit; 0 means no limit.
        limit = manager.shared.options.max_frame_bytes
        limit = 0 if limit is None else limit + 1
        inbound = _Inbound(session, request.protocol)
        parser = WebSocketReader(inbound, limit, compress=self._deflate, decode_text=True)
        session.start()
        request.protocol.keep_alive(False)
        wire = Wire(request.protocol, parser, session, deflate=self._deflate)
        request.protocol.set_parser(wire)  # type: ignore[arg-type]  # it reads on after the request
        transport.set_protocol(wire)

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: the session has closed the connection, or lost it."""
        self._eof_sent = True


async def upgrade(
    request: web.Request, manager: Manager, client: Client, *, sockjs_framing: bool
) -> web.StreamResponse:
    """Serve a WebSocket session until its connection has gone; HTTPBadRequest if malformed."""
    response = Upgrade(manager, client, sockjs_framing=sockjs_framing)
    try:
        await response.prepare(request)
    except web.HTTPException as refusal:
        refusal.force_close()  # or further bytes would be parsed as a request
        raise
    except ConnectionError:  # the client left; aiohttp would log a traceback
        return web.Response()
    session = response.session
    try:
        await session.ended
    finally:
        session.finish(STOPPED)
        manager.released(session)
        session.cut()
    return response
