"""The engines that keep the rooms: who is seated, in which order, and who hears of it.

An engine decides, in one step each, who joins and leaves a room, and tells the Listener of every
node in the one order that the room has. The initiator is not stored: it is the member that has
been present longest, the first in joining order, so that a room with members always has exactly
one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Sequence
from typing import Protocol

from videre.errors import CloseCode

#: Why a member lost its seat to another session of its user.
REPLACED = ("replaced", CloseCode.REPLACED)


class Listener(Protocol):
    """What an engine calls: synchronously, and for each room in the order of its events."""

    def joined(self, room: str, user: str, seat: str, announcement: Announcement) -> None:
        """`user` took a seat in the room, the last in joining order."""

    def left(self, room: str, user: str, seat: str, reason: str, code: int | None) -> None:
        """`user` gave up the seat, or (`code`) lost it: then its session is closed with that.

        `reason` is for the log; one that was REMOVED is told it.
        """

    def sent(self, room: str, seat: str, text: str, to: Sequence[str] | None) -> None:
        """The member in `seat` ("": the server) sent a packet to the others in the room.

        `to` names those who get it, each once; None: all.
        """


#: The halves of the connect packet around its Payload, which is the role of who joined.
Announcement = tuple[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Terms:
    """On which terms a join is asked for; None is no limit."""

    replace: bool = True
    capacity: int | None = None  # members of the room, who joins included
    max_rooms: int | None = None


class Engine(Protocol):
    """Where rooms live. Every method is atomic, its publication to the listeners included.

    A method returns None when its work is done, or an awaitable to wait for; it raises EngineError
    (at once, or from the awaitable) if the work was not done.
    """

    def start(self, listener: Listener) -> Awaitable[None] | None:
        """Open the engine; `listener` hears of each room with a member on this node from now on."""

    def join(
        self, room: str, user: str, seat: str, announcement: Announcement, terms: Terms
    ) -> Awaitable[None] | None:
        """Seat `user`, last in joining order. `seat` is unique for ever.

        Where the user has a seat in the room already, that seat is lost first (REPLACED), or the
        join raises UserTaken, as the terms say. It raises RoomFull where the terms leave no place.
        A join that raises changes nothing.
        """

    def leave(
        self, room: str, user: str, seat: str | None, reason: str, code: int | None = None
    ) -> Awaitable[None] | None:
        """Give up a seat, or take it away from its holder (`code`), see Listener.left.

        A seat that is already gone is no error. None stands for whichever seat the user has.
        """

    def publish(
        self, room: str, seat: str, text: str, to: Sequence[str] | None = None
    ) -> Awaitable[None] | None:
        """Hand a packet to the room, after all that `seat` published before; see Listener.sent."""

    def members(self, room: str) -> list[str] | Awaitable[list[str]]:
        """Return the user ids in the room in joining order; empty for an unknown room."""

    def rooms(self) -> list[str] | Awaitable[list[str]]:
        """Return the names of all rooms that have members, in no order."""

    def close(self) -> Awaitable[None] | None:
        """Close the engine; nothing is heard from it afterwards."""
