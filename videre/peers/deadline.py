"""Deadlines: a session must join a room in time, and show a fresh token before its grant ends."""

from __future__ import annotations

from typing import Protocol

from videre.auth import Grant
from videre.errors import CloseCode, PeerError, TokenExpired
from videre.interfaces import Timer
from videre.peers.context import Context
from videre.rooms.room import Seat


class Subject(Protocol):
    """The session under the deadline."""

    @property
    def seat(self) -> Seat | None:
        """Its seat, if any."""

    def refuse(self, error: PeerError) -> None:
        """Send it an error."""

    def close(self, code: CloseCode) -> None:
        """Close its session."""


class _Nobody:
    """The subject of a deadline whose session has ended."""

    seat = None

    def refuse(self, error: PeerError) -> None:
        """Do nothing."""

    def close(self, code: CloseCode) -> None:
        """Do nothing."""


_NOBODY = _Nobody()


class Deadline:
    """A session's deadline; it has at most one at a time."""

    __slots__ = ("_context", "_subject", "_timer")

    def __init__(self, context: Context, subject: Subject) -> None:
        self._context = context
        self._subject = subject
        self._timer: Timer | None = None

    def enter(self) -> None:
        """Start the deadline for joining a room."""
        seconds = self._context.limits.join_timeout
        if seconds is not None:
            self._timer = self._context.later(seconds, self._idled)

    def renew(self, grant: Grant) -> None:
        """End the deadline for joining; start the one for the end of the grant."""
        self.cancel()
        if grant.expires is not None:
            seconds = grant.expires - self._context.unix_time()
            self._timer = self._context.later(seconds, self._expired)

    def cancel(self) -> None:
        """Cancel whichever deadline is running."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def end(self) -> None:
        """Release the ended session, so that no reference cycle keeps it in memory."""
        self.cancel()
        self._subject = _NOBODY

    def _idled(self) -> None:
        self._timer = None
        if self._subject.seat is None:
            self._subject.close(CloseCode.NO_PACKET)

    def _expired(self) -> None:
        self._timer = None
        if self._subject.seat is None:
            return
        self._subject.refuse(TokenExpired("Connect to the room again with a fresh token"))
        self._timer = self._context.later(self._context.leeway, self._outlasted)

    def _outlasted(self) -> None:
        self._timer = None
        if self._subject.seat is not None:
            self._subject.close(CloseCode.UNAUTHORIZED)
