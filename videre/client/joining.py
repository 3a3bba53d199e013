"""How a client takes its seat on a new connection."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any

import aiohttp
from aiohttp import ClientSession
from yarl import URL

from videre.client import wire
from videre.client.backoff import Pace
from videre.client.connection import INVALID, PROTOCOL_ERROR, Connection
from videre.client.departure import due
from videre.client.errors import Closed, Unreachable, reason
from videre.client.events import Event
from videre.client.seat import Seat
from videre.errors import PeerError, TokenExpired, Unauthorized

logger = logging.getLogger("videre.client")

#: A token, or a function that returns (or awaits) one or None, called for each connection.
Token = str | Callable[[], str | Awaitable[str | None] | None]

# Close codes: retry only with a fresh token; never retry from here up.
UNAUTHORIZED, FINAL = 4502, 4500

JOIN_SECONDS = 40.0  # to take a seat; the server delays its answer to a bad token by up to 25 s

#: Errors that may have gone at the next try. OSError includes TimeoutError.
TRANSIENT = (aiohttp.ClientError, OSError)


@dataclass
class Joining:
    """Where and as whom to join; `ids` numbers all packets of the client."""

    url: URL
    seat: Seat
    room: str
    token: Token | None
    ssl: SSLContext | None
    heartbeat: float | None
    welcome: bool
    header: Callable[[], Mapping[str, Any]] = dict
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def place(self) -> URL:
        """The URL without what may be a secret: a password, or the query."""
        return self.url.with_user(None).with_query(None)

    async def open(self, http: ClientSession) -> Connection:
        """Open a new connection."""
        return await Connection.open(http, self.url, ssl=self.ssl, heartbeat=self.heartbeat)

    def can_renew(self, error: Exception) -> bool:
        """Tell whether a fresh token would clear this error."""
        expired = isinstance(error, TokenExpired) or (
            isinstance(error, Closed) and error.code == UNAUTHORIZED
        )
        return expired and callable(self.token)

    def can_retry(self, error: Exception) -> bool:
        """Tell whether it makes sense to reconnect after this error."""
        if self.can_renew(error):
            return True
        if isinstance(error, Closed):
            return error.code < FINAL and error.code != PROTOCOL_ERROR
        if isinstance(error, PeerError):
            return error.retry
        return isinstance(error, TRANSIENT)

    async def fetch_token(self) -> str | None:
        """Return the token for the next connect packet."""
        try:
            token = self.token() if callable(self.token) else self.token
            return await token if inspect.isawaitable(token) else token
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Something that the function waited for was cancelled, not this task, which would end
            # without a word.
            raise RuntimeError("The function token was cancelled") from error

    async def take(
        self, connection: Connection, token: str | None, early: list[tuple[Event, int]]
    ) -> bool:
        """Take the seat; return True if it is the lost one, resumed without a gap.

        Raises the PeerError of the server's refusal. Adds events in the room that precede the
        welcome to `early`.
        """
        seat = self.seat
        mine = await self._connect(connection, token)
        while True:
            packet, size = await connection.receive()
            try:
                match packet.event:
                    case wire.ERROR if packet.id in (mine, None):
                        refusal = wire.error_of(packet)
                        refusal.packet_id = None  # it answers no broadcast
                        raise refusal
                    case wire.WELCOME if self.welcome:
                        resumed = seat.welcome(packet.value())
                        if not resumed:
                            seat.seen.forget()  # others may have left, and count anew
                        return resumed
                    case wire.CONNECT if packet.user == seat.user:
                        if not self.welcome:  # ask for the members
                            seat.unwelcomed(packet)
                            mine = await self._send(connection, wire.PING)
                    case wire.GOAWAY:
                        connection.due = due(packet)
                    case wire.PING:
                        seat.users = dict.fromkeys(packet.value())
                        return False
                    case _:
                        if event := seat.apply(packet):
                            early.append((event, size))
            except Unauthorized:
                if seat.secret is None:
                    raise
                seat.secret = None  # the old seat has gone: ask for a new one
                mine = await self._connect(connection, token)
            except INVALID as error:
                raise await connection.reject(error) from None

    async def persist(
        self, join: Callable[[], Awaitable[Connection]], pace: Pace, seconds: float | None
    ) -> Connection:
        """Call `join` at this pace until it succeeds; raise an error that makes trying useless.

        Raises Unreachable after `seconds` (None: never). Logs why a try failed, unless the try
        before it failed for the same reason.
        """
        last: Exception | None = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await pace.wait()
                    try:
                        return await join()
                    except Exception as error:
                        if not self.can_retry(error):
                            raise
                        if last is None or reason(error) != reason(last):
                            self._log("cannot reconnect, will try again", error)
                        last = error
        except TimeoutError:
            why = "" if last is None else f": {reason(last)}"
            raise Unreachable(f"{self.place}: no connection for {seconds} s{why}") from last
        finally:
            last = None  # its traceback refers to this frame: break the cycle

    async def renew(self, connection: Connection) -> int | None:
        """Send a fresh token, to keep the seat; return the packet's id, None if none was sent."""
        try:
            token = await self.fetch_token()
            return await self._send(connection, wire.CONNECT, {"Token": token})
        except TRANSIENT as error:
            self._log("no fresh token", error)
            return None  # the server will close with UNAUTHORIZED, and the client retries

    def _log(self, what: str, error: Exception) -> None:
        # The URL may contain a password, and the room's name is one.
        logger.warning("%s at %s: %s: %s", self.seat.user, self.url.host, what, reason(error))

    async def _connect(self, connection: Connection, token: str | None) -> int:
        asked = self.seat.asks() if self.welcome else {}
        if token is not None:
            asked["Token"] = token
        return await self._send(connection, wire.CONNECT, asked)

    async def _send(self, connection: Connection, event: str, payload: Any = "") -> int:
        identity = next(self.ids)
        more = self.header() if event == wire.CONNECT else {}
        text = wire.write(event, self.seat.user, self.room, payload, **{**more, "Id": identity})
        await connection.send(text)  # if closed, `receive` raises
        return identity
