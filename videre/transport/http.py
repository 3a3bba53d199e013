"""Polling and streaming sessions: a queue between the handler and one receiving request.

A request takes the session with `attach` and leaves it with `detach`: see requests.py.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol

import sockjs

from videre import tally
from videre.reasons import LOST, POLLING_STOPPED, SILENT, End
from videre.transport import framing
from videre.transport.clients import Client
from videre.transport.session import OPEN, Keeper, Session

INTERRUPTED = (1002, "Connection interrupted")
OCCUPIED = (2010, "Another connection still open")


class Receiver(Protocol):
    """The request that carries messages to the client: see requests.Receiving."""

    @property
    def gone(self) -> bool:
        """Whether the client has left."""

    @property
    def buffered(self) -> int:
        """Bytes written that the client has not read yet."""

    def cut(self) -> None:
        """Abort the connection without waiting."""


class HTTPSession(Session):
    """A session named by a URL. It belongs to the address that opened it."""

    def __init__(self, session_id: str, keeper: Keeper, client: Client, transport: str) -> None:
        super().__init__(session_id, keeper, client)
        self.transport = transport
        self.receiver: Receiver | None = None
        self.goodbye: tuple[int, str] | None = None  # sent to every receiver from now on
        self._greeted = False
        self._outbox: list[str] = []  # messages, quoted
        self._bytes = 0  # of these messages
        self._plain = 0  # of the same messages, unquoted: SockJS makes up to three bytes of one
        self._share = 1.0  # of the last frame's bytes, how many were there unquoted
        self._spared = 0  # bytes of one waiting packet that alone exceeds the limit
        self._absent = 0  # sweeps without a receiver, or since the session ended
        self._quiet = 0  # sweeps since something was sent to the receiver
        self._waiter: asyncio.Future[None] | None = None

    # For the handler.

    def send(self, text: str) -> None:
        """See Session.send."""
        if self.state is not OPEN:
            return
        size, quoted = tally.size(text), self.shared.quote(text)
        limit = self.shared.options.max_backlog_bytes
        is_too_much = limit is not None and self._is_too_much(size, limit)
        self._outbox.append(quoted)
        self._bytes += len(quoted)
        self._plain += size
        if is_too_much:
            self.close_slow()
        else:
            self._wake()

    def _is_too_much(self, size: int, limit: int) -> bool:
        """Tell whether a packet of this size would make more than `limit` bytes wait.

        One packet that alone exceeds the limit is not counted until it has been read: it is the
        answer about a crowded room, and a client that never gets it can never enter.
        """
        waiting = self._plain
        if self.receiver is not None:
            waiting += math.ceil(self._share * self.receiver.buffered)
        if waiting <= limit:
            self._spared = size if size > limit else 0
        return waiting + size > limit + self._spared

    def close_slow(self) -> None:
        """See Session.close_slow. What waits is dropped."""
        if self.state is OPEN:
            self._clear()
            super().close_slow()

    def close(self, code: int = 3000, reason: str = "Go away!") -> None:
        """See Session.close."""
        if self.state is not OPEN:
            return
        self.state = sockjs.SessionState.CLOSING
        self.goodbye = (code, reason)
        self._absent = 0
        self._wake()
        self.finish_soon(code)

    # For the manager.

    @property
    def backlog(self) -> int:
        """See Session.backlog."""
        return self._bytes + (self.receiver.buffered if self.receiver is not None else 0)

    @property
    def is_receiving(self) -> bool:
        """See Session.is_receiving."""
        return self.receiver is not None and not self.receiver.gone

    def sweep(self) -> None:
        """Notice a receiver that has gone, a client that stays away, or an idle connection."""
        shared, receiver = self.shared, self.receiver
        if receiver is not None and receiver.gone:
            self.interrupt(LOST)
        elif self.goodbye is not None:
            self._absent += 1
            if receiver is not None and self._absent > shared.goodbye_sweeps:
                self.cut()
            elif receiver is None and self._absent > shared.absent_sweeps:
                self._keeper.released(self)
        elif receiver is None:
            self._absent += 1
            if self._absent >= shared.absent_sweeps:
                self.finish(POLLING_STOPPED)
                self._keeper.released(self)
        else:
            self._sweep_receiver()

    def _sweep_receiver(self) -> None:
        self.silent += 1
        self._quiet += 1
        if self.silent >= self.shared.lost_sweeps:
            self.cut()
            self.interrupt(SILENT)
        elif max(self.silent, self._quiet) >= self.shared.heartbeat_sweeps:
            self._wake()

    def cut(self) -> None:
        """Abort the receiving connection without waiting."""
        if self.receiver is not None:
            self.receiver.cut()

    def interrupt(self, end: End) -> None:
        """End the session because its receiving connection broke; what was sent may be lost."""
        self.goodbye = self.goodbye or INTERRUPTED
        self._absent = 0
        self.finish(end)
        self._clear()
        self.receiver = None
        self._wake()

    # For the receiving transport.

    def attach(self, receiver: Receiver) -> str | None:
        """Make a request the receiver and return None, or return the frame that refuses it."""
        if self.receiver is not None:
            if not self.receiver.gone:
                return framing.close_frame(*OCCUPIED)
            self.interrupt(LOST)
        self.receiver = receiver
        self.silent = self._quiet = 0
        if self.goodbye is None:
            self._absent = 0
        if self.state is sockjs.SessionState.NEW:
            self.open()
        return None

    def detach(self, receiver: Receiver) -> None:
        """Release the session from its receiver; another request may attach."""
        if self.receiver is receiver:
            self.receiver = None

    async def next_frame(self, receiver: Receiver) -> str:
        """Return the next frame to send; "" if the client must poll again to show that it lives.

        Raises ConnectionResetError if the receiver has lost the session.
        """
        while self.receiver is receiver:
            if not self._greeted:
                self._greeted = True
                return framing.OPEN_FRAME
            if self.silent >= self.shared.heartbeat_sweeps and self._quiet < self.silent:
                return ""
            if self._outbox:
                frame = framing.messages_frame(self._outbox)
                self._share = self._plain / len(frame)
                self._clear()
                self._quiet = 0
                return frame
            if self.goodbye is not None:
                return framing.close_frame(*self.goodbye)
            if self._quiet >= self.shared.heartbeat_sweeps:
                self._quiet = 0
                return framing.HEARTBEAT_FRAME
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        raise ConnectionResetError("the session is no longer this request's")

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _clear(self) -> None:
        self._outbox.clear()
        self._bytes = self._plain = 0
