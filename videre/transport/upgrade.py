"""Upgrades a request to a WebSocket session."""

from __future__ import annotations

import base64
import hashlib
import re

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11

from videre.answers import Answer
from videre.settings import Options
from videre.transport import handover, offers
from videre.transport.clients import Client
from videre.transport.manager import Manager
from videre.transport.websocket import WebSocketSession
from videre.transport.wire import Wire

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")  # RFC 6455, 4.1
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_VERSIONS = ("13", "8", "7")  # drafts 7 and 8 have the frames of RFC 6455


def answer(request: web.BaseRequest, options: Options) -> dict[str, str]:
    """Return the headers that accept a handshake (RFC 6455, 4.2).

    Raises HTTPBadRequest for a malformed one.
    """
    headers = request.headers
    if request.version < HttpVersion11:
        raise web.HTTPBadRequest(text="WebSockets need HTTP/1.1")
    if headers.get(hdrs.UPGRADE, "").strip().lower() != "websocket":
        raise web.HTTPBadRequest(text='Can "Upgrade" only to "WebSocket"')
    if not request._message.upgrade:  # aiohttp would parse what follows as a request
        raise web.HTTPBadRequest(text="The Connection header must have Upgrade")
    if headers.get(hdrs.SEC_WEBSOCKET_VERSION) not in _VERSIONS:
        raise web.HTTPBadRequest(
            text="Unsupported WebSocket version",
            headers={hdrs.SEC_WEBSOCKET_VERSION: _VERSIONS[0]},  # RFC 6455, 4.4
        )
    key = headers.get(hdrs.SEC_WEBSOCKET_KEY, "")
    if not _KEY.fullmatch(key):
        raise web.HTTPBadRequest(text="Sec-WebSocket-Key must be 16 bytes in base64")
    accept = base64.b64encode(
        hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    ).decode()
    found: dict[str, str] = {
        hdrs.UPGRADE: "websocket",
        hdrs.CONNECTION: "upgrade",
        hdrs.SEC_WEBSOCKET_ACCEPT: accept,
    }
    offered = headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ())
    if (protocol := offers.subprotocol(offered, options.subprotocols)) is not None:
        found[hdrs.SEC_WEBSOCKET_PROTOCOL] = protocol
    extensions = headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ())
    if options.compression and (deflate := offers.deflate(extensions)) is not None:
        found[hdrs.SEC_WEBSOCKET_EXTENSIONS] = deflate
    return found


class Upgrade(web.WebSocketResponse):
    """The answer that opens a session: aiohttp's class, so that a site's middlewares know it.

    Only `prepare` and `write_eof` are for use: the connection is the session's, not the response's.
    """

    def __init__(self, manager: Manager, client: Client, *, sockjs_framing: bool) -> None:
        super().__init__(compress=False)
        self._manager = manager
        self._client = client
        self._sockjs_framing = sockjs_framing
        self._opened = False

    @property
    def prepared(self) -> bool:
        """Whether the answer is on its way, so that its headers can no longer be changed."""
        return self._opened

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Shake hands and open the session; raise HTTPBadRequest for a malformed handshake."""
        if not self._opened:
            headers = answer(request, self._manager.options)
            self.headers.update(headers)
            self.force_close()
            await web.StreamResponse.prepare(self, request)
            self._open(request, deflate=hdrs.SEC_WEBSOCKET_EXTENSIONS in headers)
        return request.writer

    def _open(self, request: web.BaseRequest, *, deflate: bool) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("connection lost")
        self._opened = True
        session = WebSocketSession(
            self._manager,
            self._client,
            transport,
            sockjs_framing=self._sockjs_framing,
            deflate=deflate,
        )
        session.start()
        wire = Wire(session, handover.counted(request.protocol), deflate=deflate)
        handover.hand_over(request, transport, wire)

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: what follows the answer is the session's."""


async def upgrade(
    request: web.Request, manager: Manager, client: Client, *, sockjs_framing: bool
) -> web.StreamResponse:
    """Open a WebSocket session, and return while it is still open.

    Raises HTTPBadRequest for a malformed handshake.
    """
    response = Upgrade(manager, client, sockjs_framing=sockjs_framing)
    try:
        await response.prepare(request)
    except web.HTTPException as refusal:
        refusal.force_close()  # or further bytes would be parsed as a request
        raise
    except ConnectionError:  # the client left; aiohttp would log a traceback
        return Answer()
    return response
