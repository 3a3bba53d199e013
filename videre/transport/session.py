"""A session: what a handler sees of one client, whatever transport carries it.

The life cycle is the manager's and this class's, not the plugin's: a session is opened, hands over
messages, and ends exactly once. `Handler.closed` is called within the event loop's turn in which
the end is noticed, never from inside of `send` or `close`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import sockjs

if TYPE_CHECKING:
    from videre.transport.clients import Client
    from videre.transport.manager import Manager

logger = logging.getLogger("videre.transport")

# Bytes that a message costs beside its text while it waits: one without any is not free.
MESSAGE_OVERHEAD = 64

# Bytes that may wait in the inboxes of all sessions together: each has its limit, but when handlers
# wait for something slow then all of them do.
MAX_WAITING = 64 * 1024 * 1024

# Looked at for every packet.
OPEN = sockjs.SessionState.OPEN


class Handler(Protocol):
    """What the application makes of a session."""

    def receive(self, text: str) -> Awaitable[None] | None:
        """Take a message; the next one waits until an awaitable that is returned is done."""

    def too_large(self) -> None:
        """Hear that the client sent what was too large to be read; the session is closed next."""

    def closed(self, reason: str, clean: bool) -> Awaitable[None] | None:
        """Hear of the session's end, exactly once; `clean`: by a close, not by a loss."""


#: Called once for each session that opens.
Accept = Callable[["Session"], Handler]


class Session(sockjs.Session):  # type: ignore[misc]  # the plugin has no types
    """One client. `send` and `close` are for the handler, the rest is for the transports."""

    #: The SockJS name of what carries the session.
    transport = ""

    def __init__(self, session_id: str, manager: Manager, client: Client) -> None:
        # The plugin's fields (wall-clock deadlines, a queue) are not made: nothing uses them.
        self.id = session_id
        self.manager = manager
        self.address = client.address  # a trusted proxy's word taken
        self.secure = client.secure
        self.request_id = client.request_id
        self.handler: Handler | None = None
        self.silent = 0  # sweeps since the client was last heard
        # Messages that wait for the handler, while it works, and when those arrived that are timed.
        self._inbox: deque[tuple[str, float | None]] | None = None
        self._waiting = 0  # bytes in the inbox, about
        self._farewell: int | None = None  # the code by which the client closes after them

    def __str__(self) -> str:
        return f"<{self.transport} {self.id[:6]} {self.state.name.lower()}>"

    @property
    def expired(self) -> bool:
        """Whether the session has ended, for those who ask the plugin's manager."""
        return self.state is sockjs.SessionState.CLOSED

    # For the handler.

    def send(self, text: str) -> None:
        """Send a message. Never blocks, never raises."""
        raise NotImplementedError

    def close(self, code: int = 3000, reason: str = "Go away!") -> None:
        """Close with a code that the client gets to see, after what was sent before."""
        raise NotImplementedError

    def undelivered(self) -> Sequence[str] | None:
        """Return the last messages that were surely not handed over, None if that is not known."""
        return ()

    # For the transports.

    @property
    def backlog(self) -> int:
        """The bytes that wait for the client to read them."""
        raise NotImplementedError

    def open(self) -> None:
        """Open the session: ask the application for a handler."""
        self.state = OPEN
        try:
            self.handler = self.manager.accept(self)
        except Exception:
            self.fail()

    def receive(self, text: str) -> None:
        """Hand a message to the handler, after those that wait."""
        if self.state is not OPEN:
            return
        if self._inbox is not None:
            self._inbox.append((text, self.manager.tally.relays.arrived))
            self._wait(len(text) + MESSAGE_OVERHEAD)
            limit = self.manager.options.max_backlog_bytes
            if limit is not None and self._waiting > limit:
                self.close(4003, "Too many packets")
            elif self.manager.waiting > MAX_WAITING:
                self.close(4001, "Too much is waiting, connect again")
            return
        if self.handler is None:
            return
        try:
            pending = self.handler.receive(text)
        except Exception:
            self.fail()
            return
        if pending is not None:
            self._inbox = deque()
            self.manager.run(self._resume(pending))

    def _wait(self, size: int) -> None:
        """Count what waits, here and in all sessions."""
        self._waiting += size
        self.manager.waiting += size

    async def _resume(self, pending: Awaitable[None]) -> None:
        try:
            await pending
        except Exception:
            self.fail()
        inbox, self._inbox = self._inbox, None
        self._wait(-self._waiting)
        relays = self.manager.tally.relays
        for text, arrived in inbox or ():
            if arrived is not None:
                relays.begin(arrived)
            self.receive(text)
            relays.end()
        if self._inbox is None and self._farewell is not None:
            self.part(self._farewell)

    def closed_by_client(self, code: int) -> None:
        """Hear that the client closes, after what it has said and its handler has yet to hear."""
        if self._inbox is not None:
            self._farewell = code
        else:
            self.part(code)

    def part(self, code: int) -> None:
        """Answer a client's close, and end the session."""
        raise NotImplementedError

    def fail(self) -> None:
        """Close the session because its handler raised; others go on."""
        logger.exception("a handler failed, its session is closed")
        self.close(4000, "Internal error")

    def finish(self, reason: str, *, clean: bool) -> None:
        """End the session, now: tell its handler, unless that has been done."""
        if self.state is sockjs.SessionState.CLOSED:
            return
        self.state = sockjs.SessionState.CLOSED
        self.manager.forget(self)
        if self._inbox is not None:
            self._inbox.clear()  # nobody will hear what waits, and its handler may take long
            self._wait(-self._waiting)
        handler, self.handler = self.handler, None
        if handler is None:
            return
        try:
            pending = handler.closed(reason, clean)
        except Exception:
            logger.exception("a handler failed at its session's end")
            return
        if pending is not None:
            self.manager.run(_logged(pending))

    def finish_soon(self, code: int) -> None:
        """End a session that was closed with `code` once the caller, maybe a room's loop, is done.

        Codes that ask the client to come back (protocol.md, "Close codes") are no clean ends.
        """
        clean = code != 1001 and not 4000 <= code < 4500
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: self.finish(f"closed with {code}", clean=clean))


async def _logged(pending: Awaitable[None]) -> None:
    try:
        await pending
    except Exception:
        logger.exception("a handler failed at its session's end")
