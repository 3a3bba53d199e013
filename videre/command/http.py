"""The process's HTTP: aiohttp's, with connections that are counted from their being accepted.

We accept by ourselves: then a connection is refused before it costs a TLS handshake, and when no
descriptor is left the log says so (libuv drops what it cannot accept, without a word).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from yarl import URL

from videre.command import proxy_protocol
from videre.command.gate import Gate
from videre.command.http_log import http_logger
from videre.command.listening import BACKLOG
from videre.settings import Process

# Seconds in which requests must end once all sessions are closed, by a shutdown.
SHUTDOWN = 1.0
# Seconds for which a body is read that nobody wants, so that its sender finds the answer.
LINGERING = 3.0
# Bytes of a URL, and of a header: a browser keeps 4 KB of one cookie, and sends all of a site's.
MAX_LINE = 32 * 1024
# Seconds that a TLS handshake may take: ten round trips by a satellite.
TLS_HANDSHAKE = 10.0
# Connections that are accepted in one turn of the loop.
ACCEPTED_AT_ONCE = 64
# Seconds for which nothing is accepted when there is no descriptor (asyncio has the same).
PAUSE = 1.0

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)
_NEVER = float("inf")


class Connection(web.RequestHandler):
    """aiohttp's protocol of one connection, which the gate looks after."""

    __slots__ = ("_client", "_counted", "_gate", "address")

    def __init__(
        self, server: Server, gate: Gate, address: str, *, client: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(server, **kwargs)
        self._client = client  # whom the PROXY protocol names
        self._gate = gate
        self.address = address  # what it is counted for
        self._counted = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        super().connection_made(transport)
        self._gate.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        super().connection_lost(exc)
        self.uncount()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer a request; an answer that was raised forgets where.

        aiohttp keeps it in a frame of its own traceback. Such a cycle holds the request, with what
        has come of its body, until the collector finds it, which counts no bytes; one that was
        frozen (see speedups) would stay.
        """
        if isinstance(resp, web.HTTPException):
            resp.__traceback__ = None
        try:
            return await super().finish_response(request, resp, start_time)
        except RuntimeError as error:
            # So uvloop refuses to write to a client that has gone; asyncio drops what is written.
            if "handler is closed" not in str(error):
                raise
            return resp, True

    @property
    def peername(self) -> Any:
        """Who is at the other end: to aiohttp, and so to us, what a request is from."""
        return super().peername if self._client is None else (self._client, 0)

    def uncount(self) -> None:
        """Count this connection no more: it has ended, or never begun."""
        if self._counted:
            self._counted = False
            self._gate.remove(self)
            self._gate.leave(self.address)

    @property
    def idle_since(self) -> float:
        """When it began to wait for a request, by the loop's clock; never, if it does not wait."""
        waits = self._waiter is not None and not self._waiter.done()
        return self._next_keepalive_close_time - self._keepalive_timeout if waits else _NEVER


class Server(web.Server):
    """aiohttp's server, which makes such connections."""

    def connection(self, gate: Gate, address: str, client: str | None) -> Connection:
        """Return the protocol of a connection from an address, of a proxy's client if it says."""
        return Connection(self, gate, address, client=client, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application of ours on our server: one without folders or applications below paths.

    No body is inflated (see transport.checks), and no path is looked up that has more parts than
    any route.
    """

    def __init__(self, app: web.Application, *, keep_alive: float = Process.keep_alive) -> None:
        super().__init__(
            app,
            access_log=None,  # a URL holds a session id, or names a room
            keepalive_timeout=keep_alive,
            shutdown_timeout=SHUTDOWN,
            lingering_time=LINGERING,
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
    """Return a maker of requests that cuts paths with more slashes than any route has.

    The router looks a path up again and again, each time without its last part: 8 KB of slashes
    took 9 ms. What is left of such a path is longer than any route still, so that it is not found.
    """
    deepest = max(resource.canonical.count("/") for resource in router.resources())
    nowhere = URL("/-" * (deepest + 1))

    def make_shallow(message: RawRequestMessage, *args: Any) -> web.BaseRequest:
        if message.url.raw_path.count("/") > deepest:
            message = message._replace(url=nowhere)
        return make(message, *args)

    return make_shallow


class Site(web.BaseSite):
    """Accepts connections on a socket that listens, as far as the gate admits them."""

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
        """Begin to accept."""
        await super().start()
        server = cast(Server, self._runner.server)
        acceptor = Acceptor(self._listening, server, self._gate, self._ssl_context)
        self._server = cast(asyncio.AbstractServer, acceptor)


class Acceptor:
    """What accepts: to aiohttp's sites it is an asyncio.Server."""

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
        listening.listen(BACKLOG)  # one that a service manager passes may have less
        self._resume()

    def close(self) -> None:
        """Accept nobody else: whose handshake goes on is let go."""
        if self._paused is not None:
            self._paused.cancel()
        (listening,) = self.sockets
        self._loop.remove_reader(listening.fileno())
        if isinstance(path := listening.getsockname(), str):  # a Unix socket of ours
            with contextlib.suppress(OSError):
                Path(path).unlink()
        listening.close()
        self.sockets = ()  # type: ignore[assignment]
        for task in self._beginning:
            task.cancel()

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
                    accepted.recv(65536)  # what is left unread would undo the answer
                accepted.send(_BUSY)

    async def _introduce(self, accepted: socket.socket, payer: str) -> None:
        """Serve a proxy's connection: from now on it counts for the client that the proxy names."""
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
        """Serve a connection, after its TLS handshake."""
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
        except (OSError, TimeoutError):  # no TLS, or too late: a stranger's affair
            pass
        finally:
            if not begun:
                accepted.close()
                connection.uncount()
