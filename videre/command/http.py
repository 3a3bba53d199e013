"""aiohttp's server, whose connections the gate tracks."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from yarl import URL

from videre.command.gate import Gate
from videre.command.heads import HeadParser
from videre.command.http_log import http_logger
from videre.settings import Process
from videre.transport.checks import MAX_HOST

# Seconds that requests may take to end after a shutdown has closed all sessions.
SHUTDOWN = 1.0
# Seconds to keep reading an unwanted body, so that its sender gets the response.
LINGERING = 3.0
# Longest URL or header, in bytes: a cookie has up to 4 KB, and browsers send all of a site's.
MAX_LINE = 32 * 1024
# Longest head of a request, in bytes: its URL and all its headers.
MAX_HEAD = 4 * MAX_LINE
# Requests that may wait on a connection before it is read no further: browsers send one at a time.
MAX_WAITING = 2
_NEVER = float("inf")


class Connection(web.RequestHandler):
    """aiohttp's protocol for one connection, tracked by the gate."""

    __slots__ = ("_client", "_counted", "_gate", "address")

    def __init__(
        self, server: Server, gate: Gate, address: str, *, client: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(server, **kwargs)
        self._parser: Any = HeadParser(self._parser, MAX_HEAD)
        self._max_msg_queue_size, self._msg_queue_resume_size = MAX_WAITING, MAX_WAITING - 1
        self._client = client  # its address, if the PROXY protocol named it
        self._gate = gate
        self.address = address  # what it counts against
        self._counted = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start serving."""
        super().connection_made(transport)
        self._gate.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop serving, and uncount the connection."""
        super().connection_lost(exc)
        self.uncount()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; drop the traceback of one that was raised.

        aiohttp refers to a raised response from a frame of that response's own traceback. The cycle
        would keep the request and its body in memory until the garbage collector runs, which
        ignores sizes; if frozen (see speedups), it would leak.
        """
        if isinstance(resp, web.HTTPException):
            resp.__traceback__ = None
        try:
            return await super().finish_response(request, resp, start_time)
        except RuntimeError as error:
            # uvloop's error for a write to a client that has gone; asyncio drops such writes.
            if "handler is closed" not in str(error):
                raise
            return resp, True

    @property
    def peername(self) -> Any:
        """The client's address and port, from which aiohttp takes `request.remote`.

        "" over a Unix socket, because its client may have bound a name that looks like an address.
        """
        if self._client is not None:
            return (self._client, 0)
        name = super().peername
        return name if isinstance(name, tuple) else ""

    def uncount(self) -> None:
        """Uncount this connection, which has ended or never started; may be called again."""
        if self._counted:
            self._counted = False
            self._gate.remove(self)
            self._gate.leave(self.address)

    def hand_over(self) -> Callable[[], None]:
        """Stop tracking the connection, which no longer speaks HTTP; see transport.handover.

        Returns the function to call when the connection has gone: it still counts until then.
        """
        self._counted = False
        self._gate.remove(self)
        return functools.partial(self._gate.leave, self.address)

    @property
    def idle_since(self) -> float:
        """When it became idle, by the loop's clock; infinity if it is not idle."""
        waits = self._waiter is not None and not self._waiter.done()
        return self._next_keepalive_close_time - self._keepalive_timeout if waits else _NEVER


class Server(web.Server):
    """aiohttp's server, with our connections."""

    def connection(self, gate: Gate, address: str, client: str | None) -> Connection:
        """Return the protocol for a connection that counts against `address`.

        `client` is the address that a proxy named, or None.
        """
        return Connection(self, gate, address, client=client, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application of ours on our server; it must have no static folders or subapps.

    It does not decompress bodies (see transport.checks), and does not look up paths with more
    segments than any route.
    """

    def __init__(self, app: web.Application, *, keep_alive: float = Process.keep_alive) -> None:
        super().__init__(
            app,
            access_log=None,  # URLs contain session ids and room names
            keepalive_timeout=keep_alive,
            shutdown_timeout=SHUTDOWN,
            lingering_time=LINGERING,
            tcp_keepalive=False,  # silent connections end by KeepAlive or our own pings
            auto_decompress=False,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            logger=http_logger(),
        )

    async def _make_server(self) -> Server:
        made = await super()._make_server()
        return Server(
            made.request_handler,
            request_factory=_shallow(made.request_factory, self.app.router),
            loop=made._loop,
            **made._kwargs,
        )


def _shallow(make: Callable[..., web.BaseRequest], router: web.UrlDispatcher) -> Any:
    """Return a request factory that replaces URLs with more slashes than any route, or a bad host.

    The router looks a path up repeatedly, each time without its last segment: 8 KB of slashes took
    9 ms. The replacement is also deeper than any route, so the result is still 404.
    """
    deepest = max(resource.canonical.count("/") for resource in router.resources())
    nowhere = URL("/-" * (deepest + 1))

    def make_shallow(message: RawRequestMessage, *args: Any) -> web.BaseRequest:
        if message.url.raw_path.count("/") > deepest or not _has_good_host(message.url):
            message = message._replace(url=nowhere)
        return make(message, *args)

    return make_shallow


def _has_good_host(url: URL) -> bool:
    """Tell whether aiohttp can make a request of a URL, which in HTTP may name a host.

    It decodes an international name before it catches any error: a malformed one would leave the
    connection without an answer for ever, and 32 KB would take 200 ms.
    """
    try:
        return not url.absolute or (len(url.raw_host or "") <= MAX_HOST and url.host is not None)
    except ValueError:
        return False
