"""A session: what a handler sees of one client, whatever transport carries it.

The life cycle is this class's and its Keeper's, not the plugin's: a session is opened, hands over
messages, and ends exactly once. `Handler.closed` is called within the event loop's turn in which
the end is noticed, never from inside of `send` or `close`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import sockjs

from videre.errors import CloseCode, comes_back
from videre.reasons import End, LeaveReason
from videre.transport.clients import Client
from videre.transport.shared import Handler, Shared

logger = logging.getLogger("videre.transport")

# Bytes that a message costs beside its text while it waits: a tuple, and a place in the queue.
MESSAGE_OVERHEAD = 80

# Bytes that may wait in the inboxes of all sessions together: each has its limit, but when handlers
# wait for something slow then all of them do. When it is reached, who holds most is closed.
MAX_WAITING = 64 * 1024 * 1024

# Who has no seat may have this part of MaxBacklogBytes waiting, and one packet at least: before the
# answer to its connect a client has nothing to say.
STRANGERS_SHARE = 16

# Messages that one session has handed over in one turn of the loop: some 5 ms of work.
HANDED_AT_ONCE = 250

# The words that go with 4001 where the room is not to blame.
CROWDED = "Too many packets are waiting, connect again"

# Looked at for every packet.
OPEN = sockjs.SessionState.OPEN


#: Called once for each session that opens.
Accept = Callable[["Session"], Handler]


class Keeper(Protocol):
    """All that a session knows of its manager."""

    @property
    def shared(self) -> Shared:
        """What all sessions share."""

    def opened(self, session: Session) -> None:
        """Count a session that opens, and look after it until it is released."""

    def detached(self, session: Session, end: End) -> None:
        """Finish a session that was closed once the caller, maybe a room's loop, is done."""

    def ended(self, session: Session) -> None:
        """Count a session that has ended; what its connection still has to hear goes on."""

    def released(self, session: Session) -> None:
        """Let go of a session: its connection is gone, or its URL is answered no more."""


class Session(sockjs.Session):  # type: ignore[misc]  # the plugin has no types
    """One client. `send` and `close` are for the handler, the rest is for the transports."""

    #: The SockJS name of what carries the session.
    transport = ""

    def __init__(self, session_id: str, keeper: Keeper, client: Client) -> None:
        # The plugin's fields (wall-clock deadlines, a queue) are not made: nothing uses them.
        self.id = session_id
        self.shared = keeper.shared
        self._keeper = keeper
        self.address = client.address  # a trusted proxy's word taken
        self.secure = client.secure
        self.request_id = client.request_id
        self.handler: Handler | None = None
        self.silent = 0  # sweeps since the client was last heard
        # Messages that wait for the handler, while it works, and when those arrived that are timed.
        self._inbox: deque[tuple[str, float | None]] | None = None
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

    # For the transports and the manager.

    @property
    def backlog(self) -> int:
        """The bytes that wait for the client to read them."""
        raise NotImplementedError

    @property
    def is_receiving(self) -> bool:
        """Whether the client has a connection on which it hears what is sent."""
        raise NotImplementedError

    @property
    def is_over(self) -> bool:
        """Whether the session takes no more messages: it was closed, or has ended."""
        return self.state in (sockjs.SessionState.CLOSING, sockjs.SessionState.CLOSED)

    def sweep(self) -> None:
        """Hear that time has passed: look for a client that is gone."""
        raise NotImplementedError

    def cut(self) -> None:
        """End the connection without waiting for anything."""
        raise NotImplementedError

    def open(self) -> None:
        """Open the session: ask the application for a handler."""
        self.state = OPEN
        try:
            self.handler = self.shared.accept(self)
        except Exception:
            self.fail()

    def receive(self, text: str) -> None:
        """Hand a message to the handler, after those that wait."""
        if self.state is not OPEN:
            return
        if self._inbox is not None:
            self._keep(self._inbox, text)
        elif (pending := self._hand(text)) is not None:
            self._inbox = deque()
            self.shared.jobs.spawn(self._resume(pending))

    def _hand(self, text: str) -> Awaitable[None] | None:
        """Hand a message to the handler; return what to wait for before the next one."""
        if self.handler is None:
            return None
        try:
            return self.handler.receive(text)
        except Exception:
            self.fail()
            return None

    def _keep(self, inbox: deque[tuple[str, float | None]], text: str) -> None:
        """Let a message wait; close who has too much waiting, here or of all."""
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
        """Forget what waits for the handler and close: too much waits, of all sessions."""
        self._let_go()
        self.close(CloseCode.ENGINE_UNAVAILABLE, CROWDED)

    def _inbox_limit(self) -> int | None:
        """Return how many bytes may wait for the handler; None for no limit."""
        options = self.shared.options
        limit = options.max_backlog_bytes
        if limit is None or self.handler is None or self.handler.seated:
            return limit
        packet = (options.max_packet_bytes or 0) + _size("")
        return min(limit, max(limit // STRANGERS_SHARE, packet))

    def _let_go(self) -> None:
        """Forget what waits for the handler."""
        if self._inbox:
            self._inbox.clear()
        self.shared.inboxes.drop(self)

    async def _resume(self, pending: Awaitable[None] | None) -> None:
        """Hand over what waits, each message once its predecessors are done."""
        while pending is not None:
            try:
                await pending
            except Exception:
                self.fail()
            pending = self._hand_on()
        if self._farewell is not None:
            self.part(self._farewell)

    def _hand_on(self) -> Awaitable[None] | None:
        """Hand over messages that wait; return what to wait for before the next one.

        Each is taken out once: what stays behind a busy handler is not moved.
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
        self.close(CloseCode.INTERNAL_ERROR, CloseCode.INTERNAL_ERROR.reason)

    def finish(self, end: End) -> None:
        """End the session, now: tell its handler, unless that has been done."""
        if self.state is sockjs.SessionState.CLOSED:
            return
        self.state = sockjs.SessionState.CLOSED
        self._keeper.ended(self)
        self._let_go()  # nobody will hear what waits, and its handler may take long
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
        """End a session that was closed with `code` once the caller, maybe a room's loop, is done.

        Codes that ask the client to come back are no clean ends.
        """
        clean = not comes_back(code)
        self._keeper.detached(self, End(LeaveReason.CLOSED_BY_SERVER, code, clean=clean))


def _size(text: str) -> int:
    """Return the bytes that a message takes while it waits, in CPython."""
    return sys.getsizeof(text) + MESSAGE_OVERHEAD


async def _logged(pending: Awaitable[None]) -> None:
    try:
        await pending
    except Exception:
        logger.exception("a handler failed at the end of its session")
