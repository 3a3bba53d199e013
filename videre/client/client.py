"""The client: a seat in a room, and what an application can do there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from ssl import SSLContext
from typing import Any, Self

from aiohttp import ClientSession

from videre.client import options, wire
from videre.client.backoff import Backoff, Pace
from videre.client.errors import Closed, Unreachable, reason
from videre.client.events import Event
from videre.client.inbox import Inbox
from videre.client.joining import TRANSIENT, Joining, Token
from videre.client.link import Link
from videre.client.requests import Requests
from videre.client.seat import Seat
from videre.client.sender import Sender

MAX_TO = 64  # names in `to` (protocol.md, 4)


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
        self._session = session
        self._stack = AsyncExitStack()
        self._inbox = Inbox()
        self._sender = Sender(self._joining.ids, lambda: len(self._seat.users) - 1)
        self._requests = Requests(self._joining.ids)
        self._link = Link(
            self._joining,
            pace=Pace(backoff or Backoff()),
            give_up_after=give_up_after,
            inbox=self._inbox,
            sender=self._sender,
            requests=self._requests,
        )
        self._entered = False

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
        return self._link.connection is not None

    async def broadcast(self, payload: Any, to: str | Iterable[str] | None = None) -> int:
        """Send any JSON value to all other members, or to those in `to`; return the packet's id.

        Waits until there is a connection. If the connection breaks just after the packet was sent,
        the client resends it, provided that the server kept the seat and has not received it.
        Otherwise the packet arrives once or not at all. If the server refuses the packet, `receive`
        raises the PeerError, with this id as its `packet_id`.
        """
        if to is not None and not isinstance(to, str):
            to = list(to)
            if not 1 <= len(to) <= MAX_TO:
                raise ValueError(f"to must name 1 to {MAX_TO} users, not {len(to)}")
        make = wire.broadcast(self.user, self.room, payload, {} if to is None else {"To": to})
        return await self._broadcast(make, to)

    async def _broadcast(self, make: Callable[[int], str], to: str | list[str] | None) -> int:
        """Send the packet that `make` returns for an id; see `broadcast`."""
        identity: int | None = None
        while True:
            connection = await self._link.get()
            if identity is not None and self._sender.has_sent(identity):  # a resume has resent it
                return identity
            copies = 1 if isinstance(to, str) else len(self._seat.users if to is None else to)
            identity, is_sent = await self._sender.send(connection, make, copies)
            if identity is not None and is_sent:
                return identity
            self._link.lose(connection)

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

    def is_end(self, error: Exception) -> bool:
        """Tell whether this error ended the seat: `receive` raises it from now on."""
        return self._link.is_end(error)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.receive()
        except Closed:
            if self._link.left:
                raise StopAsyncIteration from None
            raise

    async def _send(self, event: str, identity: int) -> None:
        text = wire.write(event, self.user, self.room, Id=identity)
        while True:
            connection = await self._link.get()
            if await connection.send(text):
                return
            self._link.lose(connection)

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
                connection = await self._link.join(http)
            except TRANSIENT as error:
                raise Unreachable(f"{self._joining.place}: {reason(error)}") from error
            name = f"videre client {self.user}"
            task = asyncio.create_task(self._link.live(http, connection), name=name)
            stack.push_async_callback(self._link.leave, task)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
