"""The replica: the rooms with members on this node, kept up to date by the engine's events.

It sends packets to the members' connections. Each event of a room costs O(its members), never
O(rooms).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from videre import packets
from videre.engines import Missed, events
from videre.engines.events import Dropped, Found, Joined, Left, Moved, Sent
from videre.errors import CloseCode
from videre.ids import RoomId, SeatId, UserId
from videre.interfaces import Ice, Log
from videre.packets import Event
from videre.reasons import LeaveReason
from videre.rooms.census import Census
from videre.rooms.hearing import Delivery, packets_for, promotion_for
from videre.rooms.hooks import Hooks
from videre.rooms.lost import LostSeats
from videre.rooms.returning import Returning
from videre.rooms.room import ASKED, GONE, HELD, LOST, Room, Seat
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
        self.rooms: dict[RoomId, Room] = {}
        self.census: Census[RoomId] = Census()
        self.lost = LostSeats(clock, log, grace)
        self.joining: dict[SeatId, Seat] = {}  # requested seats by id, until the engine answers

    # The seats of this node's sessions.

    def settle(self, seat: Seat) -> None:
        """Drop a requested seat if the engine did not grant it."""
        if seat.state is ASKED:
            del self.joining[seat.id]
            seat.become(GONE)

    def fail(self, seat: Seat) -> None:
        """Drop a seat the engine did not grant; close a session that was told it had one."""
        if seat.state is HELD:
            _close(seat, CloseCode.ENGINE_UNAVAILABLE)
        self.settle(seat)

    def lose(self, seat: Seat) -> None:
        """Keep a seat whose connection is lost."""
        seat.become(LOST)
        seat.replica.lose(seat)

    def _seat(self, seat_id: SeatId, user: UserId, room: RoomId) -> Seat:
        """Return a seat that was taken: one that was asked for here, or another node's."""
        seat = self.joining.pop(seat_id, None)
        if seat is None:
            return Seat(seat_id, user, room, since=self._clock())
        seat.become(HELD)
        return seat

    def greet(self, room: Room, seat: Seat) -> None:
        """Send the welcome that a seat's holder asked for."""
        if seat.state is not HELD or seat.welcome is None:
            return
        holder = seat.connection
        say = holder.greeting.append if isinstance(holder, Returning) else holder.send
        if seat.announcement is not None:
            echo = packets.ROLE[room.initiator is seat].join(seat.announcement)
            seat.announcement = None
            self._tally.sent["connect"].add(echo)
            say(echo)
        welcome = {
            "Initiator": room.initiator.user,
            "Users": list(room.state.members),
            "Resume": seat.secret,
            "Grace": 0 if seat.secret is None else self._grace,
            **self._ice(seat.user),
            **seat.welcome,
        }
        seat.secret = None
        text = packets.write_json(Event.WELCOME, seat.user, room.name, welcome)
        seat.greeted = size(text)
        self._tally.sent["welcome"].add(text)
        say(text)

    # The engine's events, in the room's order.

    def hear(self, room: RoomId, event: events.Event) -> None:
        """See Listener.hear."""
        if type(event) is not Sent:
            _HEAR[type(event)](self, room, event)
            return
        replica = self.rooms.get(room)
        if replica is None:
            return
        # packets_for inlined: nothing is heard more often.
        here, text, to = replica.here, event.text, event.to
        sender = here.get(event.user)
        if to is None:
            for seat in here.values():
                if seat is not sender:
                    seat.connection.send(text)
            copies = len(here) if sender is None else len(here) - 1
        else:
            copies = 0
            for user in to:
                if user in here and here[user] is not sender:
                    here[user].connection.send(text)
                    copies += 1
        flow = self._broadcasts
        flow.packets += copies
        flow.bytes += copies * (len(text) if text.isascii() else size(text))

    def _joined(self, room: RoomId, event: Joined) -> None:
        replica = self.rooms.get(room)
        if replica is None:
            replica = self.rooms[room] = Room(room)
            self._log("room-made", room=room)
        before = len(replica.seats)
        replica.follow(event)
        taken = self._seat(event.seat, event.user, room)
        replica.put(taken)
        members = len(replica.seats)
        self.census.change(room, before, members)
        initiator = replica.initiator is taken
        self._deliver(replica, event)
        self.greet(replica, taken)
        self._log("join", room=room, user=event.user, initiator=initiator, members=members)
        if taken.local:
            self._tally.joins += 1
            self._hooks.joined(room, event.user)

    def _moved(self, room: RoomId, event: Moved) -> None:
        replica = self.rooms.get(room)
        if replica is None or not replica.follow(event):
            return
        self.lost.forget(event.seat)
        new, old = self._seat(event.to, event.user, room), replica.remove(event.user)
        replica.put(new)
        new.since = old.since
        if isinstance(new.connection, Returning) and event.last_id:
            new.welcome = {**(new.welcome or {}), "LastId": orjson.loads(event.last_id)}
        self.greet(replica, new)
        if old.connection is not new.connection:  # the old one was not lost yet
            _close(old, CloseCode.ENGINE_UNAVAILABLE if event.code is None else event.code)
        old.become(GONE)

    def _left(self, room: RoomId, event: Left) -> None:
        replica = self.rooms.get(room)
        if replica is None or not replica.follow(event):
            return
        gone = replica.remove(event.user)
        user, local, members = event.user, gone.local, len(replica.seats)
        self.lost.forget(gone.id)
        self.census.change(room, members + 1, members)
        seconds = round(self._clock() - gone.since, 3)
        self._log("leave", room=room, user=user, reason=event.reason, seconds=seconds)
        if event.code is not None:
            _close(gone, event.code, event.reason)
        gone.become(GONE)
        if members:
            self._deliver(replica, event)
            if event.heir is not None:
                self._promoted(replica)
        else:
            del self.rooms[room]
            self._log("room-dropped", room=room)
        if local:
            self._tally.leaves[LeaveReason.of(event.reason, event.code)] += 1
            self._hooks.left(room, user, event.reason)

    def _found(self, room: RoomId, event: Found) -> None:
        seats = dict(event.members)
        replica = self.rooms.get(room) or Room(room)
        held = replica.state.members.items()
        gone = [replica.seats[user] for user, seat in held if seats.get(user) != seat]
        for seat in gone:  # they must not hear of each other
            _close(seat, CloseCode.ENGINE_UNAVAILABLE)
            replica.here.pop(seat.user, None)
        for seat in gone:
            heir = replica.state.heir(seat.user)
            self._left(room, Left(seat.user, seat.id, LeaveReason.ENGINE, heir=heir))
        if not seats:
            return
        self.rooms[room] = replica
        before = replica.initiator if replica.seats else None
        self.census.change(room, len(replica.seats), len(seats))
        if before is not None and before.state is HELD and event.members[0][0] != before.user:
            # First, because an initiator starts the call at the next connect.
            role = Event.CONNECT, packets.write(Event.CONNECT, before.user, room, "false")
            self._send_each([(before, [role])])
        for user, seat_id in event.members:
            if user not in replica.seats:
                text = packets.write(Event.CONNECT, user, room, "false")
                self._send(replica, (Event.CONNECT, text))
                replica.put(Seat(seat_id, user, room, since=self._clock()))
        replica.follow(event)
        if before is not None and replica.initiator is not before:
            heir, here = replica.initiator.user, replica.here.values()
            self._send_each([(seat, promotion_for(heir, seat)) for seat in here])
            self._promoted(replica)

    def _dropped(self, room: RoomId, _event: Dropped) -> None:
        replica = self.rooms.pop(room, None)
        if replica is not None:
            self.census.change(room, len(replica.seats), 0)

    def _promoted(self, room: Room) -> None:
        heir = room.initiator
        self._tally.promotions += heir.local
        self._log("promote", room=room.name, user=heir.user)

    def _deliver(self, room: Room, event: Joined | Left) -> None:
        if event.packets == 1:  # the same for all members
            self._send(room, *packets_for(event, room.initiator))
        else:
            self._send_each([(seat, packets_for(event, seat)) for seat in room.here.values()])

    def _send(self, room: Room, delivery: Delivery) -> None:
        """Send all members on this node a packet."""
        for seat in room.here.values():
            seat.connection.send(delivery[1])
        self._count(delivery, len(room.here))

    def _send_each(self, told: Sequence[tuple[Seat, Sequence[Delivery]]]) -> None:
        """Send some members what each of them hears: first packets first, then second ones."""
        for number in range(max([len(heard) for _, heard in told], default=0)):
            for seat, heard in told:
                if number < len(heard):
                    self._count(heard[number], 1)
                    seat.connection.send(heard[number][1])

    def _count(self, delivery: Delivery, copies: int) -> None:
        self._tally.sent[delivery[0]].add(delivery[1], copies)

    def retell(self, missed: Missed, seat: Seat, returning: Returning) -> None:
        """Send a resumed seat's holder what it missed; then use its connection directly."""
        told = [delivery for event in missed.events for delivery in packets_for(event, seat)]
        told = told[len(told) - missed.count :]
        for delivery in told:
            self._count(delivery, 1)
        if seat.connection is returning:
            seat.connection = returning.connection
        returning.arrive([text for _, text in told])


_HEAR: dict[type[Any], Callable[[Replica, RoomId, Any], None]] = {
    Joined: Replica._joined,
    Moved: Replica._moved,
    Left: Replica._left,
    Found: Replica._found,
    Dropped: Replica._dropped,
}


def _close(seat: Seat, code: int, reason: str = "") -> None:
    """Close the session that holds a seat, if it is one of ours."""
    words = reason if code == CloseCode.REMOVED else CloseCode(code).reason
    seat.connection.close(code, words)
