"""The events of a room, in the one order in which every node hears them. Pure values.

`rooms/hearing.py` says which packets a member hears of each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from videre.ids import SeatId, UserId

#: The sender of packets from the hosting application.
SERVER, SERVER_SEAT = UserId(""), SeatId("")

#: The two halves of a connect packet; the new member's role goes between them as its Payload.
Announcement = tuple[str, str]


#: The users that a packet is for; None: all members.
Receivers = Sequence[UserId] | None


class Event:
    """Something that happened in a room. `packets` is how many packets it brings to a member."""

    __slots__ = ()
    packets = 0

    def concerns(self, _user: UserId) -> bool:
        """Return whether it brings packets to a member."""
        return self.packets > 0


@dataclasses.dataclass(slots=True)
class Joined(Event):
    """`user` took a seat, last in joining order."""

    user: UserId
    seat: SeatId
    announcement: Announcement
    packets = 1


@dataclasses.dataclass(slots=True)
class Moved(Event):
    """`user` moved to another seat at the same place: it resumed, or got a new ticket.

    `last_id` is the id of its last packet (Engine.publish), "" if unknown. If another session still
    holds the old seat, it is closed with `code`.
    """

    user: UserId
    seat: SeatId
    to: SeatId
    code: int | None = None
    last_id: str = ""


@dataclasses.dataclass(slots=True)
class Left(Event):
    """`user` left its seat; or lost it, and its session is closed with `code`.

    `reason` is a LeaveReason; with REMOVED, the words that the session is closed with. If `user`
    was the initiator, `heir` is the new one.
    """

    user: UserId
    seat: SeatId
    reason: str
    code: int | None = None
    heir: UserId | None = None

    @property
    def packets(self) -> int:  # type: ignore[override]
        """One about the leave, one about the heir."""
        return 1 if self.heir is None else 2


@dataclasses.dataclass(slots=True)
class Sent(Event):
    """`user` ("": the server) sent a packet to the others; only to those in `to`, if not None."""

    user: UserId
    seat: SeatId
    text: str
    to: Receivers = None
    packets = 1

    def concerns(self, user: UserId) -> bool:
        """See Event.concerns."""
        return user != self.user and (self.to is None or user in self.to)


@dataclasses.dataclass(slots=True)
class Found(Event):
    """These are the users and seats in joining order; earlier events no longer count.

    Sessions of members that lost their seats are closed with ENGINE_UNAVAILABLE.
    """

    members: Sequence[tuple[UserId, SeatId]]


@dataclasses.dataclass(slots=True)
class Dropped(Event):
    """The room's events end here: it has no member on this node."""
