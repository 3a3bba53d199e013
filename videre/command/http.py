"""aiohttp's server, with connections counted from accept on.

We accept connections ourselves, so that the gate can refuse one before its TLS handshake, and the
log can report that descriptors ran out (libuv silently drops what it cannot accept).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from yarl import URL

from videre.command import proxy_protocol
from videre.command.gate import Gate
from videre.command.http_log import http_logger
from videre.command.listening import BACKLOG
from videre.settings import Process

# Seconds that requests may take to end after a shutdown has closed all sessions.
SHUTDOWN = 1.0
# Seconds to keep reading an unwanted body, so that its sender gets the response.
LINGERING = 3.0
# Longest URL or header, in bytes: a cookie has up to 4 KB, and browsers send all of a site's.
MAX_LINE = 32 * 1024
# Seconds that a TLS handshake may take: ten round trips over a satellite link.
TLS_HANDSHAKE = 10.0
# Connections to accept per turn of the event loop. Each costs the next turns some 0.4 ms, until it
# has its session: those that come at once must not come through the loop at once.
ACCEPTED_AT_ONCE = 16
# Seconds to pause accepting when no descriptor is left (as asyncio does).
PAUSE = 1.0

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)
_NEVER = float("inf")


class Connection(web.RequestHandler):
    """aiohttp's protocol for one connection, tracked by the gate."""

    __slots__ = ("_client", "_counted", "_gate", "address")

    def __init__(
        self, server: Server, gate: Gate, address: str, *, client: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(server, **kwargs)
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

        "" over a Unix socket. A name that its client has bound may look like an address.
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
        """Stop tracking the connection, which no longer speaks HTTP; see transport.handover."""
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
    """Return a request factory that replaces paths with more slashes than any route.

    The router looks a path up repeatedly, each time without its last segment: 8 KB of slashes took
    9 ms. The replacement is also deeper than any route, so the result is still 404.
    """
    deepest = max(resource.canonical.count("/") for resource in router.resources())
    nowhere = URL("/-" * (deepest + 1))

    def make_shallow(message: RawRequestMessage, *args: Any) -> web.BaseRequest:
        if message.url.raw_path.count("/") > deepest:
            message = message._replace(url=nowhere)
        return make(message, *args)

    return make_shallow


class Site(web.BaseSite):
    """Accepts the connections on a listening socket that the gate admits."""

    __slots__ = ("_gate", "_listening")

    def __init__(
        self,
        runner: Runner,
        listening: socket.socket,
        gate: Gate,
        *,
        ssl_context: ssl.SSLContext | None,
    ) -> None:
        super().__init__(runner, ssl_context=ssl_context)
        self._listening = listening
        self._gate = gate

    @property
    def name(self) -> str:
        """See BaseSite."""
        return str(self._listening.getsockname())

    async def start(self) -> None:
        """Start accepting."""
        await super().start()
        server = cast(Server, self._runner.server)
        acceptor = Acceptor(self._listening, server, self._gate, self._ssl_context)
        self._server = cast(asyncio.AbstractServer, acceptor)


class Acceptor:
    """Accepts connections; stands in for the asyncio.Server of an aiohttp site."""

    def __init__(
        self, listening: socket.socket, server: Server, gate: Gate, context: ssl.SSLContext | None
    ) -> None:
        self.sockets = (listening,)
        self._server = server
        self._gate = gate
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        listening.listen(BACKLOG)  # a socket from a service manager may have a smaller backlog
        self._resume()

    def close(self) -> None:
        """Stop accepting. Connections that were accepted before are still served."""
        if self._paused is not None:
            self._paused.cancel()
        (listening,) = self.sockets
        self._loop.remove_reader(listening.fileno())
        listening.close()
        self.sockets = ()  # type: ignore[assignment]

    def _resume(self) -> None:
        self._paused = None
        self._loop.add_reader(self.sockets[0].fileno(), self._accept)

    def _accept(self) -> None:
        (listening,) = self.sockets
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._gate.refuse("descriptors")
                self._loop.remove_reader(listening.fileno())
                self._paused = self._loop.call_later(PAUSE, self._resume)
                return
            self._begin(accepted, str(peer[0]) if isinstance(peer, tuple) else "")

    def _begin(self, accepted: socket.socket, address: str) -> None:
        accepted.setblocking(False)
        payer = self._gate.admit(address)
        if payer is None:
            self._turn_away(accepted)
            return
        introduced = self._gate.speaks_proxy_protocol(address)
        begin = self._introduce if introduced else self._connect
        task = self._loop.create_task(begin(accepted, payer))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    def _turn_away(self, accepted: socket.socket) -> None:
        with accepted, contextlib.suppress(OSError):
            if self._context is None:
                with contextlib.suppress(BlockingIOError):
                    accepted.recv(65536)  # unread data would cause a reset
                accepted.send(_BUSY)

    async def _introduce(self, accepted: socket.socket, payer: str) -> None:
        """Serve a proxy's connection; count it against the client that the proxy names."""
        try:
            client = await proxy_protocol.read(accepted)
        except BaseException as error:
            accepted.close()
            self._gate.leave(payer)
            if not isinstance(error, (OSError, TimeoutError, ValueError)):
                raise
            self._gate.refuse("proxy-protocol")
            return
        if client is not None:
            self._gate.leave(payer)
            admitted = self._gate.admit(client)
            if admitted is None:
                self._turn_away(accepted)
                return
            payer = admitted
        await self._connect(accepted, payer, client)

    async def _connect(
        self, accepted: socket.socket, payer: str, client: str | None = None
    ) -> None:
        """Serve a connection after its TLS handshake, if any."""
        connection = self._server.connection(self._gate, payer, client)
        begun = False

        def made() -> Connection:
            return connection

        try:
            timeout = None if self._context is None else TLS_HANDSHAKE
            await self._loop.connect_accepted_socket(
                made, accepted, ssl=self._context, ssl_handshake_timeout=timeout
            )
            begun = True
        except (OSError, TimeoutError):  # the handshake failed or timed out: the client's fault
            pass
        finally:
            if not begun:
                accepted.close()
                connection.uncount()
