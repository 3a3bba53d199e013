"""A client's connection to the server: it resumes the seat or joins again when the link breaks."""

from __future__ import annotations

import asyncio

from aiohttp import ClientSession

from videre.client import wire
from videre.client.backoff import Pace
from videre.client.connection import CLOSE_SECONDS, INVALID, NORMAL, Connection
from videre.client.departure import Departure, due
from videre.client.dispatcher import Dispatcher
from videre.client.errors import Closed
from videre.client.events import Event, Lost, Rejoined, Resumed
from videre.client.inbox import Inbox
from videre.client.joining import JOIN_SECONDS, Joining
from videre.client.requests import Requests
from videre.client.sender import Sender

BACK_SOON = 4005  # close code of a client that will come back: the server keeps its seat


class Link:
    """The client's `connection`, None while there is none.

    Tells `inbox`, `sender` and `requests` when it changes, and hands packets to them.
    """

    def __init__(
        self,
        joining: Joining,
        *,
        pace: Pace,
        give_up_after: float | None,
        inbox: Inbox,
        sender: Sender,
        requests: Requests,
    ) -> None:
        self.connection: Connection | None = None
        self.left = False  # whether the application has left the room
        self._joining = joining
        self._pace = pace
        self._give_up_after = give_up_after
        self._inbox = inbox
        self._sender = sender
        self._requests = requests
        self._dispatcher = Dispatcher(joining, sender, requests, inbox)
        self._changed = asyncio.Event()  # set when there is a connection, or never will be
        self._end: Exception | None = RuntimeError("Use `async with` first")
        inbox.end(self._end)

    def is_end(self, error: Exception) -> bool:
        """Tell whether this error ended the seat."""
        return error is self._end

    async def get(self) -> Connection:
        """Wait for a connection; raise the error that ended the seat."""
        while self.connection is None:
            if self._end is not None:
                raise self._end.with_traceback(None)  # or each raise would lengthen it
            await self._changed.wait()
        return self.connection

    async def leave(self, task: asyncio.Task[None]) -> None:
        """Give up the seat, and end `task`, which runs `live`."""
        connection = self.connection
        self.left = True
        self._finish(Closed(NORMAL, "The client has left the room"))
        try:
            if connection is not None:
                await connection.close()
                await asyncio.wait([task], timeout=CLOSE_SECONDS)
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def live(self, http: ClientSession, connection: Connection) -> None:
        """Listen, and reconnect after each loss, until an error makes that useless."""
        clock = asyncio.get_running_loop().time
        try:
            while True:
                since = clock()
                lost = await self._listen(connection)
                if self.left:
                    return
                self._inbox.put(lost)
                self._pace.held(clock() - since)
                connection = await self._joining.persist(
                    lambda: self.join(http, again=True), self._pace, self._give_up_after
                )
        except Exception as error:  # handed to the application: nobody awaits this task
            self._finish(error)

    def _finish(self, error: Exception) -> None:
        """End the seat for good, with `error` for all further calls."""
        if self._end is None:
            self._end = error
            self._inbox.end(error)
        self.lose()
        self._changed.set()

    def lose(self, connection: Connection | None = None) -> None:
        """Forget this connection (None: any); requests without an answer are sent on the next."""
        if connection not in (None, self.connection):
            return
        self.connection = None
        self._sender.end()
        if self._end is None:
            self._changed.clear()
        self._requests.drop(self._end)

    async def join(self, http: ClientSession, *, again: bool = False) -> Connection:
        """Connect and take the seat, within JOIN_SECONDS once there is a token."""
        token = await self._joining.fetch_token()
        async with asyncio.timeout(JOIN_SECONDS):
            return await self._enter(http, token, again=again)

    async def _enter(self, http: ClientSession, token: str | None, *, again: bool) -> Connection:
        connection = await self._joining.open(http)
        early: list[tuple[Event, int]] = []
        try:
            resumed = await self._joining.take(connection, token, early)
            if again:
                self._sender.resume(self._joining.seat.last if resumed else None)
                self._inbox.put(Resumed() if resumed else Rejoined())
            for event, size in early:
                self._inbox.put(event, size)
        except BaseException:
            await connection.close(BACK_SOON if again and not self.left else NORMAL)
            raise
        if not again:
            self._end = None
            self._inbox.end(None)
        self.connection = connection
        self._sender.begin(connection, self._joining.seat.limits)
        self._changed.set()
        return connection

    async def _listen(self, connection: Connection) -> Lost:
        """Handle packets until the connection is lost; raise an error that makes trying useless."""
        departure = Departure(connection, BACK_SOON, lambda: self.lose(connection))
        if connection.due is not None:
            departure.schedule(connection.due)
        try:
            while True:
                packet, size = await connection.receive()
                try:
                    if packet.event == wire.GOAWAY:
                        departure.schedule(due(packet))
                    else:
                        self._dispatcher.handle(connection, packet, size)
                except INVALID as error:
                    raise await connection.reject(error) from None
        except Closed as error:
            if await departure.over():
                # The server has spread its clients over time: no jitter is needed. After any other
                # loss the named time means nothing: the seat may be given up before it comes.
                self._pace.skip()
                return Lost(BACK_SOON, "The server is going away")
            if not self._joining.can_retry(error):
                raise
            return Lost(error.code, error.reason)
        finally:
            self.lose()
            await departure.end()
            try:
                await self._dispatcher.end()
            finally:
                await connection.close()
