"""The engines: they keep each room's members in joining order, and publish changes and packets.

An engine carries out each join and leave in one atomic step. All nodes with members in the room
hear of its events (`Listener`) in the same order. Nothing stores the initiator: it is the first
member in joining order, so a room with members always has exactly one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable
from typing import Protocol

from videre.engines.events import Announcement, Event, Receivers
from videre.engines.nodes import Seen
from videre.errors import CloseCode
from videre.ids import Digest, RoomId, SeatId, UserId
from videre.reasons import LeaveReason
from videre.settings import JoinPolicy

#: Why a member lost its seat to another session of its user.
REPLACED = (LeaveReason.REPLACED, CloseCode.REPLACED)


class Listener(Protocol):
    """Hears the events of rooms: synchronously, and for each room in order."""

    def hear(self, room: RoomId, event: Event) -> None:
        """Take in an event of a room."""


@dataclasses.dataclass(slots=True)
class Missed:
    """What a resuming user missed: the last `count` packets that `events` bring to it."""

    count: int
    events: list[Event]


class Gap:
    """The seat exists, but some of the missed packets are no longer kept."""


#: The result of a resume; None if the seat is gone.
Resumption = Missed | Gap | None


class Engine(Protocol):
    """Where rooms live. Every method is atomic, including its publication to the listeners.

    A method raises EngineError, at once or when awaited, if its work was not done, or if nobody
    knows whether it was. `publish`, which is called most, returns None when its work is done at
    once.
    """

    @property
    def in_process(self) -> bool:
        """Whether no method ever waits; then its coroutines need no task (see peers.eagerly)."""

    @property
    def fault(self) -> str:
        """Why it cannot work now, in words without addresses and secrets; "" if it can."""

    async def start(self, listener: Listener) -> None:
        """Open the engine; `listener` hears of each room with a member on this node from now on."""

    async def join(
        self,
        room: RoomId,
        user: UserId,
        seat: SeatId,
        announcement: Announcement,
        policy: JoinPolicy,
        ticket: Digest | None = None,
    ) -> None:
        """Seat `user`, last in joining order. `seat` is an id that is never used again.

        With a `ticket`, the digest of a secret, the user may `resume` after losing its connection.

        If the user already has a seat in the room, the policy decides: the old seat goes first
        (REPLACED), or the join raises UserTaken. It raises RoomFull beyond the policy's limits.
        These two errors change nothing; a seat granted in spite of an EngineError is given up.
        """

    async def renew(
        self, room: RoomId, user: UserId, seat: SeatId, to: SeatId, ticket: Digest
    ) -> None:
        """Move `user` from `seat` to the seat `to` at the same place, with another ticket.

        The count of its packets begins again. If the seat is gone, nothing happens.
        """

    def lose(self, room: RoomId, user: UserId, seat: SeatId) -> None:
        """Keep a seat with a ticket for its grace period, then give it up unless it was resumed.

        If the seat is gone, or has no ticket, nothing happens.
        """

    async def resume(
        self, room: RoomId, user: UserId, to: SeatId, shown: Digest, ticket: Digest, received: int
    ) -> Resumption:
        """Move `user` to the seat `to`, at the same place, if `shown` is the ticket of its seat.

        Return what the user missed up to the move; the listener hears of the move first. `received`
        is how many packets of the room (Event.packets) the user got since `shown` was issued. The
        new seat has the new `ticket`, whose count begins with the missed packets.

        Return None if there is no such seat, and a Gap if not all missed packets are kept; raise
        Unauthorized if `shown` is not the seat's ticket. In these three cases nothing changes.
        """

    async def leave(self, room: RoomId, user: UserId, seat: SeatId, reason: str) -> None:
        """Give up a seat, for this LeaveReason. If it is gone, nothing happens.

        An outage of the store only delays it.
        """

    async def remove(self, room: RoomId, user: UserId, words: str) -> bool:
        """Remove whatever seat a user has, and return whether it had one.

        If a session holds the seat, it is closed with REMOVED and these words.
        """

    def publish(
        self, room: RoomId, seat: SeatId, text: str, to: Receivers = None, packet_id: str = ""
    ) -> Awaitable[None] | None:
        """Send a packet to the room, after everything that `seat` sent before; see Sent.

        `packet_id` is the packet's id as JSON ("null" if it has none), "" if it is the same as
        before. The engine keeps it with the seat, for Moved.
        """

    async def members(self, room: RoomId) -> list[str]:
        """Return the user ids in the room in joining order; empty for an unknown room."""

    async def rooms(self, after: str | None, limit: int) -> list[str]:
        """Return a page of the rooms that have members: the first `limit` names after `after`.

        Names are sorted by code point; None begins the list. A page shorter than `limit` is the
        last one. A page costs work for its own names and for the rooms made or dropped since the
        last page; only after many of these, also one pass over all names.
        """

    def nodes(self) -> list[Seen]:
        """Return the living nodes that share the rooms, as this node saw them last; see Seen.

        This sends no request: while the engine is not ready, nothing new is seen.
        """

    async def close(self) -> None:
        """Close the engine; the listener hears nothing afterwards."""
