"""What a member hears of an event: at once, or when it resumes. Pure."""

from __future__ import annotations

from functools import lru_cache

from videre import packets
from videre.engines import events
from videre.engines.events import Joined, Left, Sent
from videre.ids import RoomId, UserId
from videre.packets import Event
from videre.rooms.room import Seat

#: A packet of a room: its event and its text.
Delivery = tuple[Event, str]


def packets_for(event: events.Event, member: Seat) -> tuple[Delivery, ...]:
    """Return the packets of its room that an event brings to `member`, in order."""
    if isinstance(event, Joined):
        # A member that hears of another's join was there before.
        initiator = event.user == member.user and member.replica.initiator is member
        return (_joined(*event.announcement, initiator),)
    if isinstance(event, Left):
        gone = _left(event.user, member.room)
        return (gone,) if event.heir is None else (gone, *promotion_for(event.heir, member))
    if isinstance(event, Sent) and event.concerns(member.user):
        return ((Event.BROADCAST, event.text),)
    return ()


def promotion_for(heir: UserId, member: Seat) -> tuple[Delivery, ...]:
    """Return what `member` hears when `heir` becomes the room's initiator."""
    if member.user == heir:
        return ((Event.CONNECT, packets.write(Event.CONNECT, heir, member.room, "true")),)
    return () if member.welcome is None else (_role(heir, member.room),)


# Each is written once: all members get the same text, which is then framed once.


@lru_cache(maxsize=1)
def _joined(head: str, tail: str, initiator: bool) -> Delivery:
    return Event.CONNECT, f"{head}{packets.ROLE[initiator]}{tail}"


@lru_cache(maxsize=1)
def _left(user: UserId, room: RoomId) -> Delivery:
    return Event.DISCONNECT, packets.write(Event.DISCONNECT, user, room)


@lru_cache(maxsize=1)
def _role(heir: UserId, room: RoomId) -> Delivery:
    return Event.ROLE, packets.write(Event.ROLE, heir, room, "true")
