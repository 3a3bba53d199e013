"""Rooms: who is in which, who of them is the initiator, and who is told of what.

The engine decides and publishes; a Rooms hears each room's events in order, keeps a replica of the
rooms that have members here, and hands packets to the members' connections. Whatever happens in
a room costs O(its members), never O(rooms).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Awaitable, Callable
from typing import Protocol

from videre import packets
from videre.engines import Announcement, Engine, Terms
from videre.errors import CloseCode
from videre.packets import Event


class Connection(Protocol):
    """The way to one client; transport/ provides it."""

    def send(self, text: str) -> None:
        """Send a packet. Never blocks and never raises; who reads too slowly is dropped."""

    def close(self, code: int, reason: str) -> None:
        """Close with a code once all that was sent is out. Calls nobody back before it returns."""


class Log(Protocol):
    """Takes one record: the name of an event, and its fields; it shortens room ids."""

    def __call__(self, event: str, /, **fields: object) -> None: ...


class Seat:
    """One user's place in one room, held by the session behind `connection`."""

    __slots__ = ("connection", "id", "room", "since", "user")

    def __init__(
        self, seat_id: str, user: str, room: str, connection: Connection | None, since: float
    ) -> None:
        self.id = seat_id
        self.user = user
        self.room = room
        self.connection = connection  # None: on another node, or given up
        self.since = since  # by the clock of Rooms, in seconds


class Room:
    """The replica of one room: its members in joining order; the first of them is the initiator."""

    __slots__ = ("members", "name", "users_payload")

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, Seat] = {}
        self.users_payload: str | None = None  # the answer to a ping, until the members change

    @property
    def initiator(self) -> Seat:
        """Who has been here longest."""
        return next(iter(self.members.values()))

    def send(self, text: str) -> None:
        """Send to every member."""
        for seat in self.members.values():
            if seat.connection is not None:
                seat.connection.send(text)


class Rooms:
    """The rooms of one namespace. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], float],
        log: Log,
        terms: Terms | None = None,
        node: str = "",
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._log = log
        self._terms = terms or Terms()
        self._rooms: dict[str, Room] = {}
        self._joining: dict[str, Seat] = {}  # seats asked for, by id, until the engine answers
        self._seat_ids = (f"{node}{number}" for number in itertools.count())

    def start(self) -> Awaitable[None] | None:
        """Open the engine."""
        return self._engine.start(self)

    def close(self) -> Awaitable[None] | None:
        """Close the engine."""
        return self._engine.close()

    def __len__(self) -> int:
        return len(self._rooms)

    # What peers ask for. A result that is awaitable must be awaited before the peer's next request.

    def join(
        self,
        user: str,
        room: str,
        connection: Connection,
        announcement: Announcement,
        *,
        capacity: int | None = None,
    ) -> tuple[Seat, Awaitable[None] | None]:
        """Take a seat; all members hear the announcement with the role, the new one included.

        `capacity` is of the room, where the user's grant says so. Raises UserTaken or RoomFull
        (from the awaitable, if there is one) where the terms say so.
        """
        terms = self._terms
        if capacity is not None:
            terms = dataclasses.replace(terms, capacity=capacity)
        seat = Seat(next(self._seat_ids), user, room, connection, self._clock())
        self._joining[seat.id] = seat
        try:
            pending = self._engine.join(room, user, seat.id, announcement, terms)
        except BaseException:
            del self._joining[seat.id]
            raise
        if pending is not None:
            pending = self._joined_later(seat, pending)
        return seat, pending

    async def _joined_later(self, seat: Seat, pending: Awaitable[None]) -> None:
        try:
            await pending
        finally:
            self._joining.pop(seat.id, None)

    def leave(self, seat: Seat, reason: str) -> Awaitable[None] | None:
        """Give up a seat: the other members hear a disconnect, `reason` is for the log.

        The holder has it until that is done; one that is gone is given up already.
        """
        if seat.connection is None:
            return None
        return self._engine.leave(seat.room, seat.user, seat.id, reason)

    def broadcast(self, seat: Seat, text: str) -> Awaitable[None] | None:
        """Send `text` to every other member of the seat's room."""
        return self._engine.publish(seat.room, seat.id, text)

    def is_initiator(self, seat: Seat) -> bool:
        """Tell whether the holder of a seat is its room's initiator."""
        return self._rooms[seat.room].initiator is seat

    def users(self, name: str) -> str | Awaitable[str]:
        """Return the user ids in a room, in joining order, as a Payload: a JSON string of JSON."""
        room = self._rooms.get(name)
        if room is not None:
            if room.users_payload is None:
                room.users_payload = packets.json_string(list(room.members))
            return room.users_payload
        members = self._engine.members(name)
        if isinstance(members, list):
            return packets.json_string(members)
        return self._users_later(members)

    async def _users_later(self, members: Awaitable[list[str]]) -> str:
        return packets.json_string(await members)

    # What the engine tells (engines.Listener), in the room's order.

    def joined(self, room: str, user: str, seat: str, announcement: Announcement) -> None:
        """See Listener.joined."""
        replica = self._rooms.get(room)
        if replica is None:
            replica = self._rooms[room] = Room(room)
            self._log("room-made", room=room)
        taken = self._joining.pop(seat, None) or Seat(seat, user, room, None, self._clock())
        replica.members[user] = taken
        replica.users_payload = None
        initiator = replica.initiator is taken
        head, tail = announcement
        replica.send(f"{head}{packets.ROLE[initiator]}{tail}")
        self._log("join", room=room, user=user, initiator=initiator, members=len(replica.members))

    def left(self, room: str, user: str, seat: str, reason: str) -> None:
        """See Listener.left."""
        replica = self._rooms.get(room)
        if replica is None or user not in replica.members or replica.members[user].id != seat:
            return
        promotes = replica.initiator.user == user
        gone = replica.members.pop(user)
        replica.users_payload = None
        seconds = round(self._clock() - gone.since, 3)
        self._log("leave", room=room, user=user, reason=reason, seconds=seconds)
        if gone.connection is not None and reason == "replaced":
            gone.connection.close(CloseCode.REPLACED, CloseCode.REPLACED.reason)
        gone.connection = None
        if not replica.members:
            del self._rooms[room]
            self._log("room-dropped", room=room)
            return
        replica.send(packets.write(Event.DISCONNECT, user, room))
        if promotes:
            self._promote(replica)

    def _promote(self, room: Room) -> None:
        heir = room.initiator
        if heir.connection is not None:
            heir.connection.send(packets.write(Event.CONNECT, heir.user, room.name, "true"))
        self._log("promote", room=room.name, user=heir.user)

    def sent(self, room: str, seat: str, text: str) -> None:
        """See Listener.sent."""
        replica = self._rooms.get(room)
        if replica is None:
            return
        for member in replica.members.values():
            if member.connection is not None and member.id != seat:
                member.connection.send(text)
