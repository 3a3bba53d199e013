"""aiohttp's WebSocket parser, which passes messages straight to a session."""

from __future__ import annotations

from typing import Any, cast

from aiohttp._websocket.helpers import websocket_mask
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.http import WebSocketReader

from videre.transport.session import logger
from videre.transport.websocket import WebSocketSession

__all__ = ["parser", "websocket_mask"]


def parser(session: WebSocketSession, *, deflate: bool) -> WebSocketReader:
    """Return a parser whose messages and errors go to `session`."""
    limit = session.shared.options.max_frame_bytes
    # The parser also refuses frames of exactly its limit; 0 means no limit.
    size = 0 if limit is None else limit + 1
    return WebSocketReader(_Inbound(session), size, compress=deflate, decode_text=True)


class _Inbound(WebSocketDataQueue):
    """Passes messages from aiohttp's parser straight to the session, without a queue.

    The compiled parser calls these methods from C, where an exception would only be printed. So
    they let none escape.
    """

    __slots__ = ("_session",)

    def __init__(self, session: WebSocketSession) -> None:
        if not hasattr(self, "_size"):  # aiohttp without its compiled parser
            super().__init__(cast(Any, None), 0, loop=cast(Any, None))
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
