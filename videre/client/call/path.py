"""A replaceable network path between two peers: ICE restart for aiortc.

aiortc has one `aioice.Connection` for a call; when it fails, the call is over. A Path takes its
place. It makes one connection after another, each with its own credentials (RFC 8445, 9), and
carries the DTLS datagrams over the latest that has connected, and that the other end knows. It
listens to the previous one for LINGER seconds more: the other end may change later, and aiortc asks
only once for a lost packet.

Only this module touches private attributes of aiortc: `_connection` and `_remote_candidates_end`
of an RTCIceGatherer; `_connection`, `_recv` and `_send` of an RTCIceTransport, and replaces its
`start` (`install`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast

from aioice import Candidate, ConnectionClosed
from aiortc import RTCIceServer, RTCPeerConnection
from aiortc.rtcicetransport import (
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    connection_kwargs,
)

from videre.client.call.route import Route
from videre.client.call.signals import MAX_CANDIDATES

# Seconds for which a replaced connection is still listened to: browsers check a path every 2.5 s.
LINGER = 5.0
# Seconds to wait until a connection is closed. With a TURN server that does not answer any more, it
# takes a minute, in the background: aioice repeats the request to delete the allocation.
CLOSE = 2.0

_closing: set[asyncio.Task[None]] = set()  # all connections', so that no task is collected


class Path:
    """Replaces aiortc's `aioice.Connection`, and can restart.

    `changed` is called when a connection succeeds or fails: see `is_open`.
    """

    def __init__(
        self,
        gatherer: RTCIceGatherer,
        servers: Callable[[], list[RTCIceServer]],
        changed: Callable[[], None],
    ) -> None:
        self._gatherer = gatherer
        self._servers = servers
        self._changed = changed
        self._controlling = False
        self._latest = self._make()  # described to the other end, or about to be
        self._known: set[tuple[object, ...]] = set()  # the other end's candidates for the latest
        self._open: Route | None = None  # carries the datagrams
        self._former: Route | None = None  # was replaced last; datagrams may still come over it
        self._tasks: dict[Route, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()  # each closes a connection that is given up
        self._datagrams: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._found = asyncio.Event()
        self._closed = asyncio.Event()
        # Set by RTCIceTransport.start, before it connects.
        self.remote_is_lite = False
        self.remote_username: str | None = None
        self.remote_password: str | None = None

    def _make(self) -> Route:
        return Route(ice_controlling=self._controlling, **connection_kwargs(self._servers()))

    # Our own interface.

    @property
    def is_open(self) -> bool:
        """Whether a connection is open, as far as is known."""
        return self._open is not None

    @property
    def silence(self) -> float:
        """Seconds of silence on the open connection; 0 without one."""
        if self._open is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._open.heard

    async def renew(self) -> None:
        """Prepare a new connection, with fresh credentials and candidates and current servers."""
        given_up, self._latest = self._latest, self._make()
        self._known.clear()
        self._gatherer._remote_candidates_end = False  # or aiortc would accept no more candidates
        if given_up is not self._open:
            await self._give_up(given_up)
        await self.gather_candidates()

    def start(self, username: str, password: str) -> None:
        """Connect the latest connection; the other end has these credentials."""
        if self._latest in self._tasks or self._closed.is_set():
            return
        self._latest.remote_is_lite = self.remote_is_lite
        self._latest.remote_username = username
        self._latest.remote_password = password
        self._tasks[self._latest] = asyncio.create_task(self._run(self._latest))

    async def _run(self, route: Route) -> None:
        """Connect, then receive datagrams until the connection fails or has been replaced."""
        try:
            await route.connect()
            # The other end answers our checks even if our description was lost. It would not listen
            # to this connection.
            if not route.remote_is_lite:  # which never checks
                await route.checked.wait()
            route.heard = asyncio.get_running_loop().time()
            before, self._open = self._open, route
            self._found.set()
            self._changed()
            await self._receive(route, before)
        except ConnectionError:  # ICE failed, or consent has expired
            if self._open is route:
                self._open = None
            self._changed()

    async def _receive(self, route: Route, before: Route | None) -> None:
        """Receive datagrams, from the one `before` for LINGER seconds, too."""
        try:
            async with route.end:
                if before is not None:
                    before.end.reschedule(route.heard + LINGER)
                    former, self._former = self._former, before
                    if former is not None:
                        await self._give_up(former)
                while True:
                    self._datagrams.put_nowait(await route.recv())
        except TimeoutError:  # it was replaced
            await self._give_up(route)

    def _give_up(self, route: Route) -> asyncio.Future[None]:
        """Close a connection in a task of its own, which goes on if the caller is cancelled."""
        if (running := self._tasks.pop(route, None)) is not None:
            running.cancel()  # at once, or it could still become the open one
        ending = asyncio.create_task(self._end(route, running))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return asyncio.shield(ending)

    async def _end(self, route: Route, running: asyncio.Task[None] | None) -> None:
        if running is not None:
            await asyncio.wait([running])
        closing = asyncio.create_task(route.close())
        _closing.add(closing)
        closing.add_done_callback(_closed)
        await asyncio.wait([closing], timeout=CLOSE)

    # The interface that aiortc uses.

    @property
    def ice_controlling(self) -> bool:
        """Whether this end is the controlling ICE agent."""
        return self._latest.ice_controlling

    @ice_controlling.setter
    def ice_controlling(self, value: bool) -> None:
        """Make this end the controlling ICE agent, or the controlled one."""
        self._controlling = self._latest.ice_controlling = value

    @property
    def local_candidates(self) -> list[Candidate]:
        """The candidates of this end."""
        return self._latest.local_candidates

    @property
    def remote_candidates(self) -> list[Candidate]:
        """The candidates that the other end has sent."""
        return self._latest.remote_candidates

    @property
    def local_username(self) -> str:
        """The user name of this end."""
        return self._latest.local_username

    @property
    def local_password(self) -> str:
        """The password of this end."""
        return self._latest.local_password

    async def gather_candidates(self) -> None:
        """Gather the candidates of this end."""
        route = self._latest
        try:
            await route.gather_candidates()
        finally:
            if self._closed.is_set():  # meanwhile: there may be new sockets
                await self._give_up(route)

    async def add_remote_candidate(self, candidate: Candidate | None) -> None:
        """Add a candidate of the other end.

        None, the end of candidates, is ignored: browsers send more after it. Without an end, aioice
        never gives up; a restart replaces a connection that takes too long.
        """
        if candidate is None:
            return
        place = (candidate.host, candidate.port, candidate.transport)
        if place not in self._known and len(self._known) < MAX_CANDIDATES:
            self._known.add(place)
            await self._latest.add_remote_candidate(candidate)

    async def connect(self) -> None:
        """Wait for an open connection, even through restarts; raise ConnectionError if closed."""
        self.start(self.remote_username or "", self.remote_password or "")
        waits = [asyncio.ensure_future(each.wait()) for each in (self._found, self._closed)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        if self._closed.is_set():
            raise ConnectionError("The call was ended")

    async def recv(self) -> bytes:
        """Return the next datagram; raise ConnectionError when closed."""
        over = self._closed.is_set() and self._datagrams.empty()
        data = None if over else await self._datagrams.get()
        if data is None:
            raise ConnectionError("The call was ended")
        return data

    async def send(self, data: bytes) -> None:
        """Send a datagram. Without an open connection it is lost, as datagrams may be."""
        if self._open is not None:
            with contextlib.suppress(ConnectionError):  # closed, or aiortc would stop the track
                await self._open.send(data)

    async def get_event(self) -> ConnectionClosed:
        """Wait until closed."""
        await self._closed.wait()
        return ConnectionClosed()

    async def close(self) -> None:
        """Close for good."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._datagrams.put_nowait(None)
        for route in {*self._tasks, self._latest}:
            self._give_up(route)
        self._open = None
        await asyncio.wait(self._ending)


def _closed(closing: asyncio.Task[None]) -> None:
    _closing.discard(closing)
    if not closing.cancelled():
        closing.exception()  # retrieved, so that asyncio does not log it


def install(
    connection: RTCPeerConnection,
    servers: Callable[[], list[RTCIceServer]],
    changed: Callable[[], None],
) -> Path:
    """Put a Path into a peer connection that has one ICE transport and no description yet."""
    transport = _transport(connection)
    path = Path(transport.iceGatherer, servers, changed)
    transport.iceGatherer._connection = transport._connection = cast(Any, path)
    transport._recv, transport._send = path.recv, path.send
    _start_quietly(transport)
    return path


def _start_quietly(transport: Any) -> None:
    """Make a start of a closed transport no error.

    aiortc starts it for one section after the other, in a task that nobody awaits.
    """
    start = transport.start

    async def start_if_open(remote: RTCIceParameters) -> None:
        if transport.state != "closed":
            await start(remote)

    transport.start = start_if_open


def _transport(connection: RTCPeerConnection) -> RTCIceTransport:
    """Return the ICE transport that the whole call shares (max-bundle)."""
    if transceivers := connection.getTransceivers():
        return transceivers[0].receiver.transport.transport
    if connection.sctp is None:
        raise ValueError("A call needs media or a data channel")
    return connection.sctp.transport.transport
