"""The client: a seat in a room. It resumes the seat or joins again when the connection is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from ssl import SSLContext
from typing import Any, Self

from aiohttp import ClientSession

from videre.client import options, wire
from videre.client.backoff import Backoff, Pace
from videre.client.connection import CLOSE_SECONDS, NORMAL, Connection
from videre.client.departure import Departure
from videre.client.dispatcher import Dispatcher
from videre.client.errors import Closed, Unreachable
from videre.client.events import Event, Lost, Rejoined, Resumed
from videre.client.inbox import Inbox
from videre.client.joining import JOIN_SECONDS, TRANSIENT, Joining, Token
from videre.client.requests import Requests
from videre.client.seat import Seat
from videre.client.sender import Sender

BACK_SOON = 4005  # close code of a client that will come back: the server keeps its seat


class Client:
    """A seat in `room` for `user` on the server at `url`, within `async with`.

    Entering tries once to connect and join. It raises Unreachable, Closed, or the PeerError of the
    server's refusal. After that the client reconnects whenever the connection is lost, until it has
    had none for `give_up_after` seconds (None: it never gives up). Leaving gives up the seat.

    `ssl` replaces the system's trusted certificates; `session` is an aiohttp session to use, for
    example with a proxy. After `heartbeat` seconds of silence the client pings the server; without
    an answer for half that time, the connection is lost (None: never). `welcome=False` is for
    servers that send no welcome: they keep no seats, and tell a client only whether it is the
    initiator itself. `header` returns extra keys for the header of each connect packet; other
    members see them.

    Raises TypeError or ValueError for an invalid option, and names it.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str,
        room: str,
        token: Token | None = None,
        ssl: SSLContext | None = None,
        welcome: bool = True,
        heartbeat: float | None = 10.0,
        backoff: Backoff | None = None,
        session: ClientSession | None = None,
        give_up_after: float | None = None,
        header: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        options.check(
            url=url, user=user, room=room, token=token, ssl=ssl, welcome=welcome, header=header,
            heartbeat=heartbeat, backoff=backoff, session=session, give_up_after=give_up_after
        )  # fmt: skip
        self.user = user
        self.room = room
        self._seat = Seat(user)
        self._joining = Joining(
            wire.address(url), self._seat, room, token, ssl, heartbeat, welcome, header or dict
        )
        self._pace = Pace(backoff or Backoff())
        self._session = session
        self._give_up_after = give_up_after
        self._stack = AsyncExitStack()
        self._inbox = Inbox()
        self._sender = Sender(self._joining.ids, lambda: len(self._seat.users) - 1)
        self._requests = Requests(self._joining.ids)
        self._dispatcher = Dispatcher(self._joining, self._sender, self._requests, self._inbox)
        self._connection: Connection | None = None
        self._changed = asyncio.Event()  # set when there is a connection, or never will be
        self._end: Exception | None = RuntimeError("Use `async with` first")
        self._entered = self._left = False

    # The room.

    @property
    def users(self) -> list[str]:
        """The members in joining order, as of the latest packet."""
        return list(self._seat.users)

    @property
    def initiator(self) -> str | None:
        """The member that starts calls; None until the server has named it."""
        return self._seat.initiator

    @property
    def is_initiator(self) -> bool:
        """Whether this client starts calls."""
        return self._seat.initiator == self.user

    @property
    def ice_servers(self) -> list[dict[str, Any]]:
        """STUN and TURN servers of the last welcome or `ice`, in the form of RTCConfiguration."""
        return list(self._seat.ice_servers)

    @property
    def ice_ttl(self) -> float | None:
        """For how many seconds from their arrival `ice_servers` are valid; None: for ever."""
        return self._seat.ice_ttl

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as the client knows."""
        return self._connection is not None

    async def broadcast(self, payload: Any, to: str | Iterable[str] | None = None) -> int:
        """Send any JSON value to all other members, or to those in `to`; return the packet's id.

        Waits until there is a connection. If the connection breaks just after the packet was sent,
        the client resends it, provided that the server kept the seat and has not received it.
        Otherwise the packet arrives once or not at all. If the server refuses the packet, `receive`
        raises the PeerError, with this id as its `packet_id`.
        """
        if to is not None and not isinstance(to, str):
            to = list(to)
        make = wire.broadcast(self.user, self.room, payload, {} if to is None else {"To": to})
        identity: int | None = None
        while True:
            connection = await self._connected()
            if identity is not None and self._sender.has_sent(identity):  # a resume has resent it
                return identity
            copies = 1 if isinstance(to, str) else len(self._seat.users if to is None else to)
            identity, is_sent = await self._sender.send(connection, make, copies)
            if identity is not None and is_sent:
                return identity
            self._lose(connection)

    async def ping(self) -> list[str]:
        """Ask the server for the members, in joining order."""
        users: list[str] = (await self._requests.ask(wire.PING, self._send)).value()
        return users

    async def ice(self) -> list[dict[str, Any]]:
        """Ask the server for ICE servers, with fresh credentials."""
        answer = await self._requests.ask(wire.ICE, self._send)
        servers: list[dict[str, Any]] = answer.value()["IceServers"]
        return servers

    async def receive(self) -> Event:
        """Return the next event.

        Raises the PeerError of a packet that the server refused; more events may follow it. After
        the last event, every call raises the error that ended the seat.
        """
        return await self._inbox.get()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.receive()
        except Closed:
            if self._left:
                raise StopAsyncIteration from None
            raise

    async def _send(self, event: str, identity: int) -> None:
        text = wire.write(event, self.user, self.room, Id=identity)
        while True:
            connection = await self._connected()
            if await connection.send(text):
                return
            self._lose(connection)

    async def _connected(self) -> Connection:
        """Wait for a connection; raise the error that ended the seat."""
        while self._connection is None:
            if self._end is not None:
                raise self._end
            await self._changed.wait()
        return self._connection

    # Its life.

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("A Client can be entered only once")
        self._entered = True
        async with AsyncExitStack() as stack:
            http = self._session
            if http is None:
                http = await stack.enter_async_context(ClientSession())
            try:
                async with asyncio.timeout(JOIN_SECONDS):
                    connection = await self._join(http)
            except TRANSIENT as error:
                why = error or type(error).__name__
                raise Unreachable(f"{self._joining.url}: {why}") from error
            self._end = None
            name = f"videre client {self.user}"
            task = asyncio.create_task(self._live(http, connection), name=name)
            stack.push_async_callback(self._leave, task)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _leave(self, task: asyncio.Task[None]) -> None:
        connection = self._connection
        self._left = True
        self._finish(Closed(NORMAL, "The client has left the room"))
        try:
            if connection is not None:
                await connection.close()
                await asyncio.wait([task], timeout=CLOSE_SECONDS)
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _live(self, http: ClientSession, connection: Connection) -> None:
        """Listen, and reconnect after each loss, until an error makes that useless."""
        clock = asyncio.get_running_loop().time
        try:
            while True:
                since = clock()
                lost = await self._listen(connection)
                if self._left:
                    return
                self._inbox.put(lost)
                self._pace.held(clock() - since)
                connection = await self._joining.persist(
                    lambda: self._join(http, again=True), self._pace, self._give_up_after
                )
        except Exception as error:  # handed to the application: nobody awaits this task
            self._finish(error)

    def _finish(self, error: Exception) -> None:
        """End the seat for good, with `error` for all further calls."""
        if self._end is None:
            self._end = error
            self._inbox.end(error)
        self._lose()
        self._changed.set()

    def _lose(self, connection: Connection | None = None) -> None:
        """Forget this connection (None: any); requests without an answer are sent on the next."""
        if connection not in (None, self._connection):
            return
        self._connection = None
        self._sender.end()
        if self._end is None:
            self._changed.clear()
        self._requests.drop(self._end)

    # Its connections.

    async def _join(self, http: ClientSession, *, again: bool = False) -> Connection:
        """Connect and take the seat."""
        token = await self._joining.fetch_token()
        connection = await self._joining.open(http)
        early: list[tuple[Event, int]] = []
        try:
            resumed = await self._joining.take(connection, token, early)
            if again:
                self._sender.resume(self._seat.last if resumed else None)
                self._inbox.put(Resumed() if resumed else Rejoined())
            for event, size in early:
                self._inbox.put(event, size)
        except BaseException:
            await connection.close(BACK_SOON if again and not self._left else NORMAL)
            raise
        self._connection = connection
        self._sender.begin(connection, self._seat.limits)
        self._changed.set()
        return connection

    async def _listen(self, connection: Connection) -> Lost:
        """Handle packets until the connection is lost; raise an error that makes trying useless."""
        departure = Departure(connection, BACK_SOON, lambda: self._lose(connection))
        try:
            while True:
                packet, size = await connection.receive()
                if packet.event == wire.GOAWAY:
                    due = asyncio.get_running_loop().time() + packet.value()["RetryAfter"] / 1000
                    self._pace.schedule(due)
                    departure.schedule(due)
                else:
                    await self._dispatcher.handle(connection, packet, size)
        except Closed as error:
            if await departure.over():
                return Lost(BACK_SOON, "The server is going away")
            if not self._joining.can_retry(error):
                raise
            return Lost(error.code, error.reason)
        finally:
            departure.cancel()
            self._lose()
            await connection.close()
