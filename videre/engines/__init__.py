"""The engines that keep the rooms: who is seated, in which order, and who hears of it.

An engine decides, in one step each, who joins and leaves a room, and tells the Listener of every
node in the one order that the room has. The initiator is not stored: it is the member that has
been present longest, the first in joining order, so that a room with members always has exactly
one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Sequence
from typing import Literal, Protocol

from videre.errors import CloseCode
from videre.settings import JoinPolicy

#: Why a member lost its seat to another session of its user.
REPLACED = ("replaced", CloseCode.REPLACED)


#: The halves of the connect packet around its Payload, which is the role of who joined.
Announcement = tuple[str, str]


class Listener(Protocol):
    """What an engine calls: synchronously, and for each room in the order of its events."""

    def joined(self, room: str, user: str, seat: str, announcement: Announcement) -> None:
        """`user` took a seat in the room, the last in joining order."""

    def moved(self, room: str, user: str, seat: str, to: str, code: int | None, last: str) -> None:
        """`user` has another seat now, at the same place: it came back, or has a new ticket.

        `last` is what its last packet was called (Engine.publish), "" if that is not known. If the
        old seat's session is another one, and still there, it is closed with `code`.
        """

    def left(self, room: str, user: str, seat: str, reason: str, code: int | None) -> None:
        """`user` gave up the seat, or (`code`) lost it: then its session is closed with that.

        `reason` is for the log; one that was REMOVED is told it. If `user` was the initiator, the
        first of those who remain is promoted.
        """

    def found(self, room: str, members: Sequence[tuple[str, str]]) -> None:
        """These are the members and their seats, in joining order: whatever was told before.

        Sessions of members who have lost their seats are closed with ENGINE_UNAVAILABLE.
        """

    def dropped(self, room: str) -> None:
        """Nothing more will be told of the room: nobody on this node is in it."""

    def sent(self, room: str, seat: str, text: str, to: Sequence[str] | None) -> None:
        """The member in `seat` ("": the server) sent a packet to the others in the room.

        `to` names those who get it, each once; None: all.
        """


#: What the members of a room are told of.
Event = Literal["joined", "left", "promoted", "sent"]


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """One thing that the members of a room were told of; `user` is whom it is about."""

    event: Event
    user: str  # "": the server, that sent something
    texts: tuple[str, ...] = ()  # an announcement's halves, or the packet that was sent
    to: Sequence[str] | None = None  # who got the packet; None: all others

    def concerns(self, user: str) -> bool:
        """Tell whether `user`, a member with a ticket, was told: of a promotion, or of others."""
        if self.event == "promoted":
            return True
        return user != self.user and (self.to is None or user in self.to)


class Gap:
    """Stands for a seat that can be had again, but without all that it has missed."""


#: What a user that comes back has missed, if there is something to come back to.
Resumption = list[Told] | Gap | None


class Engine(Protocol):
    """Where rooms live. Every method is atomic, its publication to the listeners included.

    A method returns None when its work is done, or an awaitable to wait for; it raises EngineError
    (at once, or from the awaitable) if the work was not done.
    """

    @property
    def ready(self) -> bool:
        """Whether it can do its work now."""

    @property
    def fault(self) -> str:
        """Why it cannot, where that does not pass by itself; "": nothing is known."""

    def start(self, listener: Listener) -> Awaitable[None] | None:
        """Open the engine; `listener` hears of each room with a member on this node from now on."""

    def join(
        self,
        room: str,
        user: str,
        seat: str,
        announcement: Announcement,
        terms: JoinPolicy,
        ticket: str | None = None,
    ) -> Awaitable[None] | None:
        """Seat `user`, last in joining order. `seat` is unique for ever.

        With a `ticket`, the digest of a secret, the user may `resume` if its connection is lost.

        Where the user has a seat in the room already, that seat is lost first (REPLACED), or the
        join raises UserTaken, as the terms say. It raises RoomFull where the terms leave no place.
        A join that raises changes nothing.
        """

    def renew(
        self, room: str, user: str, seat: str, to: str, ticket: str
    ) -> Awaitable[None] | None:
        """Move `user` from `seat` to the seat `to` at the same place, with another ticket.

        It counts as having got everything. A seat that is gone is no error: nobody is told.
        """

    def lose(self, room: str, user: str, seat: str, seen: int | None) -> Awaitable[None] | None:
        """Keep a seat with a ticket for its grace, in which it may be resumed; then give it up.

        `seen` is how many packets of the room (see Told) may have reached the user since it got
        its ticket; None: not known. A seat that is gone is no error.
        """

    def resume(
        self, room: str, user: str, to: str, shown: str, ticket: str, received: int | None
    ) -> Resumption | Awaitable[Resumption]:
        """Move `user`, who has `shown` the ticket of its seat, to the seat `to` at the same place.

        The listener hears it before the result is there: what the user has missed, in order, not
        counting what is told after the move. `received` is how many packets the user says to have
        got; if it says nothing, one that may have arrived is not repeated. The new `ticket` counts
        what was missed. None: there is no such seat; Gap: not all that was missed is kept; both
        change nothing, and so does Unauthorized, raised if it is not the seat's ticket.
        """

    def leave(
        self, room: str, user: str, seat: str | None, reason: str, code: int | None = None
    ) -> Awaitable[None] | None:
        """Give up a seat, or take it away from its holder (`code`), see Listener.left.

        A seat that is already gone is no error. None stands for whichever seat the user has.
        """

    def publish(
        self, room: str, seat: str, text: str, to: Sequence[str] | None = None, last: str = ""
    ) -> Awaitable[None] | None:
        """Hand a packet to the room, after all that `seat` published before; see Listener.sent.

        `last` is what the sender calls the packet, as JSON ("null": it does not), and "" if that is
        as it was. It goes with the seat wherever that is moved, see Listener.moved.
        """

    def members(self, room: str) -> list[str] | Awaitable[list[str]]:
        """Return the user ids in the room in joining order; empty for an unknown room."""

    def rooms(self, after: str | None, limit: int) -> list[str] | Awaitable[list[str]]:
        """Return a page of the rooms that have members: the first `limit` names past `after`.

        Names are in the order of their characters; None begins the list. A page shorter than
        `limit` is the last one. A page costs what it holds, and at most what has changed since the
        last one, not what rooms there are.
        """

    def close(self) -> Awaitable[None] | None:
        """Close the engine; nothing is heard from it afterwards."""
