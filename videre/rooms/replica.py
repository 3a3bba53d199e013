"""The replica: the rooms with members on this node, kept up to date by the engine's events.

It sends packets to the members' connections. Each event of a room costs O(its members), never
O(rooms).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from videre import packets
from videre.engines import Announcement, Told
from videre.errors import CloseCode
from videre.interfaces import Ice, Log
from videre.packets import Event
from videre.reasons import LeaveReason
from videre.rooms.census import Census
from videre.rooms.hooks import Hooks
from videre.rooms.lost import LostSeats
from videre.rooms.returning import Returning
from videre.rooms.room import Room, Seat
from videre.tally import Tally, size


class Replica:
    """A Listener: the rooms with members here, by name. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        log: Log,
        hooks: Hooks,
        grace: float,
        ice: Ice,
        tally: Tally,
    ) -> None:
        self._clock = clock
        self._log = log
        self._hooks = hooks
        self._grace = grace  # seconds that a seat outlives its connection; goes into the welcome
        self._ice = ice
        self._tally = tally
        self._broadcasts = tally.sent["broadcast"]
        self.rooms: dict[str, Room] = {}
        self.census = Census()
        self.lost = LostSeats(clock, log, grace)
        self.joining: dict[str, Seat] = {}  # requested seats by id, until the engine answers

    def settle(self, seat: Seat) -> None:
        """Drop a requested seat if the engine did not grant it."""
        if self.joining.pop(seat.id, None) is not None:
            seat.connection = None

    def fail(self, seat: Seat) -> None:
        """Drop a seat the engine did not grant; close a session that was told it had one."""
        if seat.id not in self.joining and seat.connection is not None:
            code = CloseCode.ENGINE_UNAVAILABLE
            seat.connection.close(code, code.reason)
        self.settle(seat)

    def greet(self, room: Room, seat: Seat) -> None:
        """Send the welcome that a seat's holder asked for; its packets count from here."""
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
        seat.greeted = size(text)
        self._tally.sent["welcome"].add(text)
        if isinstance(seat.connection, Returning):
            seat.connection.greeting.append(text)
        else:
            seat.connection.send(text)

    # The engine's events (engines.Listener), in the room's order.

    def joined(self, room: str, user: str, seat: str, announcement: Announcement) -> None:
        """See Listener.joined."""
        replica = self.rooms.get(room)
        if replica is None:
            replica = self.rooms[room] = Room(room)
            self._log("room-made", room=room)
        taken = self.joining.pop(seat, None) or Seat(seat, user, room, None, self._clock())
        before = len(replica.members)
        replica.seat(taken)
        self.census.change(room, before, len(replica.members))
        initiator = replica.initiator is taken
        head, tail = announcement
        self._send(replica, Event.CONNECT, f"{head}{packets.ROLE[initiator]}{tail}")
        self.greet(replica, taken)
        self._log("join", room=room, user=user, initiator=initiator, members=len(replica.members))
        if taken.local:
            self._tally.joins += 1
            self._hooks.joined(room, user)

    def moved(
        self, room: str, user: str, seat: str, to: str, code: int | None, last_id: str
    ) -> None:
        """See Listener.moved."""
        replica = self.rooms.get(room)
        if replica is None or user not in replica.members or replica.members[user].id != seat:
            return
        old = replica.members[user]
        self.lost.forget(seat)
        new = self.joining.pop(to, None) or Seat(to, user, room, None, old.since)
        new.since = old.since
        if last_id:
            new.last_id = last_id
        replica.seat(new)
        left, old.connection = old.connection, None
        if isinstance(new.connection, Returning):
            role = packets.ROLE[replica.initiator is new]
            echo = role.join(new.connection.announcement)
            self._tally.sent["connect"].add(echo)
            new.connection.greeting.append(echo)
            if last_id:
                new.welcome = {**(new.welcome or {}), "LastId": orjson.loads(last_id)}
        self.greet(replica, new)
        if left is not None and left is not new.connection:  # the old one was not lost yet
            closing = CloseCode.ENGINE_UNAVAILABLE if code is None else CloseCode(code)
            left.close(closing, closing.reason)

    def found(self, room: str, members: Sequence[tuple[str, str]]) -> None:
        """See Listener.found."""
        seats = dict(members)
        replica = self.rooms.get(room) or Room(room)
        gone = [seat for user, seat in replica.members.items() if seats.get(user) != seat.id]
        for seat in gone:  # they must not hear of each other
            held, seat.connection = seat.connection, None
            if held is not None:
                held.close(CloseCode.ENGINE_UNAVAILABLE, CloseCode.ENGINE_UNAVAILABLE.reason)
        for seat in gone:
            self.left(room, seat.user, seat.id, LeaveReason.ENGINE, None)
        if not members:
            return
        self.rooms[room] = replica
        before = replica.initiator if replica.members else None
        self.census.change(room, len(replica.members), len(seats))
        for user, seat_id in members:
            if user not in replica.members:
                text = packets.write(Event.CONNECT, user, room, "false")
                self._send(replica, Event.CONNECT, text)
                replica.seat(Seat(seat_id, user, room, None, self._clock()))
        replica.arrange([user for user, _ in members])
        if before is not None and replica.initiator is not before:
            if before.connection is not None:
                role = packets.write(Event.CONNECT, before.user, room, "false")
                self._tally.sent["connect"].add(role)
                before.connection.send(role)
            self._promote(replica)

    def dropped(self, room: str) -> None:
        """See Listener.dropped."""
        replica = self.rooms.pop(room, None)
        if replica is not None:
            self.census.change(room, len(replica.members), 0)

    def left(self, room: str, user: str, seat: str, reason: str, code: int | None) -> None:
        """See Listener.left."""
        replica = self.rooms.get(room)
        if replica is None or user not in replica.members or replica.members[user].id != seat:
            return
        promotes = replica.initiator.user == user
        gone = replica.unseat(user)
        self.lost.forget(seat)
        self.census.change(room, len(replica.members) + 1, len(replica.members))
        seconds = round(self._clock() - gone.since, 3)
        self._log("leave", room=room, user=user, reason=reason, seconds=seconds)
        held, gone.connection = gone.connection, None
        if held is not None and code is not None:
            held.close(code, reason if code == CloseCode.REMOVED else CloseCode(code).reason)
        if not replica.members:
            del self.rooms[room]
            self._log("room-dropped", room=room)
        else:
            self._send(replica, Event.DISCONNECT, packets.write(Event.DISCONNECT, user, room))
            if promotes:
                self._promote(replica)
        if gone.local:
            self._tally.leaves[LeaveReason.of(reason, code)] += 1
            self._hooks.left(room, user, reason)

    def _send(self, room: Room, event: Event, text: str) -> None:
        """Send a packet of the room to every member on this node."""
        self._tally.sent[event].add(text, room.send(text))

    def _promote(self, room: Room) -> None:
        heir = room.initiator
        role = None
        for seat in room.here:
            if seat.connection is None:
                continue
            if seat is heir:
                seat.count += 1
                text = packets.write(Event.CONNECT, heir.user, room.name, "true")
                self._tally.sent["connect"].add(text)
                seat.connection.send(text)
            elif seat.welcome is not None:
                role = role or packets.write(Event.ROLE, heir.user, room.name, "true")
                seat.count += 1
                self._tally.sent["role"].add(role)
                seat.connection.send(role)
        if heir.local:
            self._tally.promotions += 1
        self._log("promote", room=room.name, user=heir.user)

    def sent(self, room: str, seat: str, text: str, to: Sequence[str] | None) -> None:
        """See Listener.sent."""
        replica = self.rooms.get(room)
        if replica is None:
            return
        forward = replica.forward
        copies = forward(text, seat) if to is None else replica.forward_to(to, text, seat)
        flow, tally = self._broadcasts, self._tally
        flow.packets += copies
        flow.bytes += copies * (tally.size if text is tally.text else size(text))

    def retell(self, missed: Sequence[Told], user: str, room: str) -> list[str]:
        """Return the packets of `missed`, as `user` would have got them in `room`; count them."""
        texts = []
        for told in missed:
            event, text = _retold(told, user, room)
            self._tally.sent[event].add(text)
            texts.append(text)
        return texts


def _retold(told: Told, user: str, room: str) -> tuple[Event, str]:
    if told.event == "sent":
        return Event.BROADCAST, told.texts[0]
    if told.event == "joined":  # the newcomer found others there
        return Event.CONNECT, packets.ROLE[False].join(told.texts)
    if told.event == "left":
        return Event.DISCONNECT, packets.write(Event.DISCONNECT, told.user, room)
    event = Event.CONNECT if told.user == user else Event.ROLE
    return event, packets.write(event, told.user, room, "true")
