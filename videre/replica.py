"""The replica: the rooms that have members on this node, kept by what the engine tells of them.

It hands packets to the members' connections. Whatever happens in a room costs O(its members),
never O(rooms).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import orjson

from videre import packets
from videre.connection import Returning
from videre.engines import Announcement, Told
from videre.errors import CloseCode
from videre.hooks import Hooks
from videre.packets import Event
from videre.room import Room, Seat


class Log(Protocol):
    """Takes one record: the name of an event, and its fields; it shortens room ids."""

    def __call__(self, event: str, /, **fields: object) -> None: ...


#: Returns the part of a user's welcome that is about ICE servers.
Ice = Callable[[str], dict[str, Any]]


def no_ice(_user: str) -> dict[str, Any]:
    """Return what a welcome says of ICE servers where there are none."""
    return {"IceServers": [], "IceTtl": None}


class Replica:
    """The rooms that have members here, by name: a Listener. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        log: Log,
        hooks: Hooks,
        grace: float,
        ice: Ice,
    ) -> None:
        self._clock = clock
        self._log = log
        self._hooks = hooks
        self._grace = grace  # seconds that a seat outlives its connection, for the welcome
        self._ice = ice
        self.rooms: dict[str, Room] = {}
        self.joining: dict[str, Seat] = {}  # seats asked for, by id, until the engine answers

    def settle(self, seat: Seat) -> None:
        """Forget a seat that was asked for, if the engine has not given it."""
        if self.joining.pop(seat.id, None) is not None:
            seat.connection = None

    def fail(self, seat: Seat) -> None:
        """Forget a seat that was not given; a session that has heard otherwise is closed."""
        if seat.id not in self.joining and seat.connection is not None:
            code = CloseCode.ENGINE_UNAVAILABLE
            seat.connection.close(code, code.reason)
        self.settle(seat)

    def greet(self, room: Room, seat: Seat) -> None:
        """Send the welcome that the holder of a seat has asked for; its packets count from here."""
        if seat.connection is None or seat.welcome is None:
            return
        welcome = {
            "Initiator": room.initiator.user,
            "Users": list(room.members),
            "Resume": seat.secret,
            "Grace": 0 if seat.secret is None else self._grace,
            **self._ice(seat.user),
            **seat.welcome,
        }
        seat.secret = None
        seat.count = 0
        text = packets.write_json(Event.WELCOME, seat.user, room.name, welcome)
        if isinstance(seat.connection, Returning):
            seat.connection.greeting.append(text)
        else:
            seat.connection.send(text)

    # What the engine tells (engines.Listener), in the room's order.

    def joined(self, room: str, user: str, seat: str, announcement: Announcement) -> None:
        """See Listener.joined."""
        replica = self.rooms.get(room)
        if replica is None:
            replica = self.rooms[room] = Room(room)
            self._log("room-made", room=room)
        taken = self.joining.pop(seat, None) or Seat(seat, user, room, None, self._clock())
        replica.members[user] = taken
        replica.users_payload = None
        initiator = replica.initiator is taken
        head, tail = announcement
        replica.send(f"{head}{packets.ROLE[initiator]}{tail}")
        self.greet(replica, taken)
        self._log("join", room=room, user=user, initiator=initiator, members=len(replica.members))
        if taken.local:
            self._hooks.joined(room, user)

    def moved(self, room: str, user: str, seat: str, to: str, code: int | None, last: str) -> None:
        """See Listener.moved."""
        replica = self.rooms.get(room)
        if replica is None or user not in replica.members or replica.members[user].id != seat:
            return
        old = replica.members[user]
        new = self.joining.pop(to, None) or Seat(to, user, room, None, old.since)
        new.since = old.since
        if last:
            new.last = last
        replica.members[user] = new
        left, old.connection = old.connection, None
        if isinstance(new.connection, Returning):
            role = packets.ROLE[replica.initiator is new]
            new.connection.greeting.append(role.join(new.connection.announcement))
            if last:
                new.welcome = {**(new.welcome or {}), "LastId": orjson.loads(last)}
        self.greet(replica, new)
        if left is not None and left is not new.connection:  # it was not lost yet
            closing = CloseCode.ENGINE_UNAVAILABLE if code is None else CloseCode(code)
            left.close(closing, closing.reason)

    def found(self, room: str, members: Sequence[tuple[str, str]]) -> None:
        """See Listener.found."""
        seats = dict(members)
        replica = self.rooms.get(room) or Room(room)
        gone = [seat for user, seat in replica.members.items() if seats.get(user) != seat.id]
        for seat in gone:  # they shall not hear of each other
            held, seat.connection = seat.connection, None
            if held is not None:
                held.close(CloseCode.ENGINE_UNAVAILABLE, CloseCode.ENGINE_UNAVAILABLE.reason)
        for seat in gone:
            self.left(room, seat.user, seat.id, "not found", None)
        if not members:
            return
        self.rooms[room] = replica
        before = replica.initiator if replica.members else None
        for user, seat_id in members:
            if user not in replica.members:
                text = packets.write(Event.CONNECT, user, room, "false")
                replica.send(text)
                replica.members[user] = Seat(seat_id, user, room, None, self._clock())
        replica.members = {user: replica.members[user] for user, _ in members}
        replica.users_payload = None
        if before is not None and replica.initiator is not before:
            if before.connection is not None:
                role = packets.write(Event.CONNECT, before.user, room, "false")
                before.connection.send(role)
            self._promote(replica)

    def dropped(self, room: str) -> None:
        """See Listener.dropped."""
        self.rooms.pop(room, None)

    def left(self, room: str, user: str, seat: str, reason: str, code: int | None) -> None:
        """See Listener.left."""
        replica = self.rooms.get(room)
        if replica is None or user not in replica.members or replica.members[user].id != seat:
            return
        promotes = replica.initiator.user == user
        gone = replica.members.pop(user)
        replica.users_payload = None
        seconds = round(self._clock() - gone.since, 3)
        self._log("leave", room=room, user=user, reason=reason, seconds=seconds)
        held, gone.connection = gone.connection, None
        if held is not None and code is not None:
            held.close(code, reason if code == CloseCode.REMOVED else CloseCode(code).reason)
        if not replica.members:
            del self.rooms[room]
            self._log("room-dropped", room=room)
        else:
            replica.send(packets.write(Event.DISCONNECT, user, room))
            if promotes:
                self._promote(replica)
        if gone.local:
            self._hooks.left(room, user, reason)

    def _promote(self, room: Room) -> None:
        heir = room.initiator
        role = None
        for seat in room.members.values():
            if seat.connection is None:
                continue
            if seat is heir:
                seat.count += 1
                seat.connection.send(packets.write(Event.CONNECT, heir.user, room.name, "true"))
            elif seat.welcome is not None:
                role = role or packets.write(Event.ROLE, heir.user, room.name, "true")
                seat.count += 1
                seat.connection.send(role)
        self._log("promote", room=room.name, user=heir.user)

    def sent(self, room: str, seat: str, text: str, to: Sequence[str] | None) -> None:
        """See Listener.sent."""
        replica = self.rooms.get(room)
        if replica is None:
            return
        if to is None:
            replica.forward(text, seat)
        else:
            replica.forward_to(to, text, seat)


def retell(told: Told, user: str, room: str) -> str:
    """Return the packet by which `user`, in a room, should have been told of something."""
    if told.event == "sent":
        return told.texts[0]
    if told.event == "joined":  # by somebody who found others there
        return packets.ROLE[False].join(told.texts)
    if told.event == "left":
        return packets.write(Event.DISCONNECT, told.user, room)
    event = Event.CONNECT if told.user == user else Event.ROLE
    return packets.write(event, told.user, room, "true")
