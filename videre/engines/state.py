"""The state of a room: its members and their seats, as its events determine them. Pure.

The memory engine makes its decisions from it. A cluster node's view of a room (redis/view.py) and
each node's replica of it (rooms/room.py) are copies, brought up to date by the events.
"""

from __future__ import annotations

from videre.engines.events import Dropped, Event, Found, Joined, Left, Moved
from videre.ids import SeatId, UserId


class RoomState:
    """The members of a room and their seats, in joining order. The first is the initiator."""

    __slots__ = ("members",)

    def __init__(self) -> None:
        self.members: dict[UserId, SeatId] = {}

    @property
    def initiator(self) -> UserId | None:
        """The longest-present member; None in an empty room."""
        return next(iter(self.members), None)

    def heir(self, user: UserId) -> UserId | None:
        """Return the member that becomes initiator when `user` leaves; None if none does."""
        members = iter(self.members)
        return next(members, None) if next(members, None) == user else None

    def holds(self, user: UserId, seat: SeatId) -> bool:
        """Return whether `user` has this seat."""
        return self.members.get(user) == seat

    def apply(self, event: Event) -> bool:
        """Follow an event; return False for one about a seat that is gone: it changes nothing."""
        match event:
            case Moved() | Left() if not self.holds(event.user, event.seat):
                return False
            case Joined():
                self.members.pop(event.user, None)  # a new seat has the last place
                self.members[event.user] = event.seat
            case Moved():
                self.members[event.user] = event.to
            case Left():
                del self.members[event.user]
            case Found():
                self.members = dict(event.members)
            case Dropped():
                self.members = {}
        return True
