"""Takes an upgraded connection away from aiohttp, which then forgets it.

aiohttp keeps a request, an HTTP parser and two tasks for each request under way: 10 KB, of which a
WebSocket uses nothing. So the handler of an upgrade returns at once, and the connection is ours.

This relies on aiohttp in four ways; tests/transport/test_seam_handover.py has a test for each:

1. `set_parser` passes on what came after the request, and reads on if that was too much to buffer.
2. Without a `transport`, aiohttp writes nothing and closes nothing, whatever the handler, its
   middlewares or the server's shutdown do next.
3. `request.task` ends when the handler has returned, as it does on any lost connection.
4. `connection_lost` makes the server forget the connection. Called after that task, it cannot
   cancel it (see `handler_cancellation`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web
from aiohttp.http import WebSocketReader


class _Rest:
    """Stands in for a parser while aiohttp passes on what came after the request."""

    __slots__ = ("_receive",)

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._receive(data)
        return False, b""

    def feed_eof(self) -> None:
        """Ignore the end that `hand_over` causes."""


def counted(http: web.RequestHandler) -> Callable[[], object]:
    """Return a function that the connection's new protocol must call when the connection has gone.

    A server that counts connections, such as ours (command.http), has a protocol with a method
    `hand_over` that returns it.
    """
    leave: Callable[[], Callable[[], object]] | None = getattr(http, "hand_over", None)
    return _nothing if leave is None else leave()


def hand_over(
    request: web.BaseRequest, transport: asyncio.Transport, protocol: asyncio.Protocol
) -> None:
    """Give the connection of a request to `protocol`, with what came after the request."""
    http = request.protocol
    transport.set_protocol(protocol)
    http.set_parser(cast(WebSocketReader, _Rest(protocol.data_received)))
    http.transport = None
    request.task.add_done_callback(lambda _task: http.connection_lost(None))


def _nothing() -> None:
    pass
