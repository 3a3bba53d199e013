"""Accepts connections, and counts them from accept on.

We accept connections ourselves, so that the gate can refuse one before its TLS handshake, and the
log can report that descriptors ran out (libuv silently drops what it cannot accept).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from typing import cast

from aiohttp import web

from videre.command import proxy_protocol
from videre.command.gate import Gate
from videre.command.http import Connection, Runner, Server
from videre.command.listening import BACKLOG

# Seconds that a TLS handshake may take: ten round trips over a satellite link.
TLS_HANDSHAKE = 10.0
# Connections to accept per turn of the event loop. Each costs about 0.4 ms in the turns until its
# session is open: a crowd that connects at once must not block the loop.
ACCEPTED_AT_ONCE = 16
# Seconds to pause accepting when no descriptor is left (as asyncio does).
PAUSE = 1.0

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


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
