"""A session: a client as its handler sees it, over any transport.

This class and its Keeper own the life cycle, not the plugin: a session opens, passes on messages,
and ends exactly once. When the transport notices an end, `Handler.closed` is called in the same
turn of the event loop; after a `close`, in one of the next turns. It is never called from within
`send` or `close`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import sockjs

from videre.errors import CloseCode, comes_back
from videre.reasons import End, LeaveReason
from videre.transport.clients import Client, Proxies
from videre.transport.shared import Handler, Shared

logger = logging.getLogger("videre.transport")

# Bytes that a waiting message costs in addition to its text: a tuple and a queue slot.
MESSAGE_OVERHEAD = 80

# Bytes that may wait in all inboxes together. Each inbox has its own limit, but while the engine is
# slow, all of them fill up. Above this bound the largest holders are closed.
MAX_WAITING = 64 * 1024 * 1024

# A client without a seat may have 1/16 of MaxBacklogBytes waiting, but at least one packet: it has
# nothing to say before its connect is answered.
STRANGERS_SHARE = 16

# Messages of one session handled in one turn of the loop: about 5 ms of work.
HANDED_AT_ONCE = 250

# The reason for a 4001 that is not the room's fault.
CROWDED = "Too many packets are waiting, connect again"

# A global, because it is read for every packet.
OPEN = sockjs.SessionState.OPEN


#: Called for each session that opens; returns its handler.
Accept = Callable[["Session"], Handler]


class Keeper(Protocol):
    """What a session knows of its manager."""

    @property
    def shared(self) -> Shared:
        """What all sessions share."""

    def opened(self, session: Session) -> None:
        """Count a new session, and sweep it until it is released."""

    def detached(self, session: Session, end: End) -> None:
        """Finish a closed session after the caller, perhaps a room's loop, has returned."""

    def ended(self, session: Session) -> None:
        """Count a session as ended; its connection may still deliver a goodbye."""

    def released(self, session: Session) -> None:
        """Forget a session: its connection has gone, or its URL is no longer answered."""


class Session(sockjs.Session):  # type: ignore[misc]  # the plugin has no types
    """One client. `send` and `close` are for the handler, the rest is for the transports."""

    #: The SockJS name of the transport.
    transport = ""
    #: The trusted proxies by which a URL's session tells its client's address; None: those of now.
    proxies: Proxies | None = None

    def __init__(self, session_id: str, keeper: Keeper, client: Client) -> None:
        # The plugin's fields (wall-clock deadlines, a queue) are not set: nothing uses them.
        self.id = session_id
        self.shared = keeper.shared
        self._keeper = keeper
        self.address = client.address  # as a trusted proxy reports it
        self.secure = client.secure
        self.request_id = client.request_id
        self.handler: Handler | None = None
        self.silent = 0  # sweeps since the client was last heard
        # Messages that wait for a busy handler, with arrival times if they are timed.
        self._inbox: deque[tuple[str, float | None]] | None = None
        self._farewell: int | None = None  # the client's close code, to handle after them

    def __str__(self) -> str:
        return f"<{self.transport} {self.id[:6]} {self.state.name.lower()}>"

    @property
    def expired(self) -> bool:
        """Whether the session has ended; for users of the plugin's manager."""
        return self.state is sockjs.SessionState.CLOSED

    # For the handler.

    def send(self, text: str) -> None:
        """Send a message. Never blocks, never raises."""
        raise NotImplementedError

    def close(self, code: int = 3000, reason: str = "Go away!") -> None:
        """Close with a code that the client receives, after everything sent before."""
        raise NotImplementedError

    # For the transports and the manager.

    @property
    def backlog(self) -> int:
        """The bytes that the client has not read yet."""
        raise NotImplementedError

    @property
    def is_receiving(self) -> bool:
        """Whether the client has a connection on which it can receive."""
        raise NotImplementedError

    @property
    def is_over(self) -> bool:
        """Whether the session accepts no more messages: it is closing or has ended."""
        return self.state in (sockjs.SessionState.CLOSING, sockjs.SessionState.CLOSED)

    def sweep(self) -> None:
        """Advance the session's timeouts by one sweep; look for a client that has gone."""
        raise NotImplementedError

    def cut(self) -> None:
        """Abort the connection without waiting."""
        raise NotImplementedError

    def configure(self) -> None:
        """Apply changed options, as far as the session keeps any of them."""

    def close_slow(self) -> None:
        """Close the session because its client does not read fast enough."""
        if self.state is OPEN:
            self.shared.tally.slow_consumers += 1
            self.close(CloseCode.SLOW_CONSUMER, CloseCode.SLOW_CONSUMER.reason)

    def open(self) -> None:
        """Open the session and ask the application for a handler."""
        self.state = OPEN
        try:
            self.handler = self.shared.accept(self)
        except Exception:
            self.fail()

    def receive(self, text: str) -> None:
        """Pass a message to the handler, after those that wait."""
        if self.state is not OPEN:
            return
        if self._inbox is not None:
            self._keep(self._inbox, text)
        elif (pending := self._hand(text)) is not None:
            self._inbox = deque()
            self.shared.jobs.spawn(self._resume(pending))

    def _hand(self, text: str) -> Awaitable[None] | None:
        """Pass a message to the handler; return what the next one must wait for, if anything."""
        if self.handler is None:
            return None
        try:
            return self.handler.receive(text)
        except Exception:
            self.fail()
            return None

    def _keep(self, inbox: deque[tuple[str, float | None]], text: str) -> None:
        """Queue a message; close sessions if too much waits, here or in all sessions."""
        shared = self.shared
        inbox.append((text, shared.tally.relays.arrived))
        held = shared.inboxes.add(self, _size(text))
        limit = self._inbox_limit()
        if limit is not None and held > limit:
            self._let_go()
            self.close(CloseCode.TOO_MANY_PACKETS, CloseCode.TOO_MANY_PACKETS.reason)
        elif shared.inboxes.total > MAX_WAITING:
            for session in shared.inboxes.heaviest(shared.inboxes.total // 8):
                session.shed()

    def shed(self) -> None:
        """Drop the messages that wait for the handler, and close the session with 4001.

        Called on the largest holders when the messages of all sessions exceed MAX_WAITING bytes.
        """
        self._let_go()
        self.close(CloseCode.ENGINE_UNAVAILABLE, CROWDED)

    def _inbox_limit(self) -> int | None:
        """Return how many bytes may wait for the handler; None: no limit."""
        options = self.shared.options
        limit = options.max_backlog_bytes
        if limit is None or self.handler is None or self.handler.seated:
            return limit
        packet = (options.max_packet_bytes or 0) + _size("")
        return min(limit, max(limit // STRANGERS_SHARE, packet))

    def _let_go(self) -> None:
        """Drop the waiting messages."""
        if self._inbox:
            self._inbox.clear()
        self.shared.inboxes.drop(self)

    async def _resume(self, pending: Awaitable[None] | None) -> None:
        """Handle the waiting messages, each after the one before it is done."""
        while pending is not None:
            try:
                await pending
            except Exception:
                self.fail()
            pending = self._hand_on()
        if self._farewell is not None:
            self.part(self._farewell)

    def _hand_on(self) -> Awaitable[None] | None:
        """Pass on waiting messages; return what the next one must wait for, if anything.

        Each message is popped once; those behind a busy handler are not moved.
        """
        inbox, relays = self._inbox or (), self.shared.tally.relays
        for _ in range(HANDED_AT_ONCE):
            if not inbox or self.state is not OPEN:
                self._let_go()
                self._inbox = None
                return None
            text, arrived = inbox.popleft()
            self.shared.inboxes.remove(self, _size(text))
            if arrived is not None:
                relays.begin(arrived)
            pending = self._hand(text)
            relays.end()
            if pending is not None:
                return pending
        return asyncio.sleep(0)

    def closed_by_client(self, code: int) -> None:
        """Handle the client's close, after the messages that still wait for the handler."""
        if self._inbox is not None:
            self._farewell = code
            if self.handler is not None:
                self.handler.leaving()
        else:
            self.part(code)

    def part(self, code: int) -> None:
        """Answer the client's close, and end the session."""
        raise NotImplementedError

    def fail(self) -> None:
        """Close the session because its handler raised; other sessions go on."""
        logger.exception("a handler failed, its session is closed")
        self.close(CloseCode.INTERNAL_ERROR, CloseCode.INTERNAL_ERROR.reason)

    def finish(self, end: End) -> None:
        """End the session now, and call its handler's `closed`, once."""
        if self.state is sockjs.SessionState.CLOSED:
            return
        self.state = sockjs.SessionState.CLOSED
        self._keeper.ended(self)
        self._let_go()  # nobody will read what waits, and the handler may take long
        handler, self.handler = self.handler, None
        if handler is None:
            return
        try:
            pending = handler.closed(end)
        except Exception:
            logger.exception("a handler failed at the end of its session")
            return
        if pending is not None:
            self.shared.jobs.spawn(_logged(pending))

    def finish_soon(self, code: int) -> None:
        """End a session closed with `code`, after the caller, perhaps a room's loop, has returned.

        A code that asks the client to come back is not a clean end.
        """
        clean = not comes_back(code)
        self._keeper.detached(self, End(LeaveReason.CLOSED_BY_SERVER, code, clean=clean))


def _size(text: str) -> int:
    """Return the bytes that a waiting message takes in CPython."""
    return sys.getsizeof(text) + MESSAGE_OVERHEAD


async def _logged(pending: Awaitable[None]) -> None:
    try:
        await pending
    except Exception:
        logger.exception("a handler failed at the end of its session")
