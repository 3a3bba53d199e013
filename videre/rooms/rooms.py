"""Rooms: who takes and leaves a seat, who comes back to one, and what the application may do.

The engine decides and publishes; the replica hears each room's events in order and hands packets to
the members' connections.
"""

from __future__ import annotations

import dataclasses
import itertools
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from videre import packets
from videre.engines import Announcement, Engine, Gap, Resumption
from videre.engines.listing import list_rooms
from videre.engines.timed import TimedEngine
from videre.errors import MAX_REASON, CloseCode
from videre.interfaces import Connection, Ice, Log, Spawn, no_ice
from videre.reasons import End, LeaveReason
from videre.rooms.census import Census
from videre.rooms.hooks import Hooks, OnJoin, OnLeave
from videre.rooms.replica import Replica
from videre.rooms.returning import Returning
from videre.rooms.room import Seat, digest
from videre.settings import JoinPolicy
from videre.tally import Tally


class Rooms:
    """The rooms of one namespace. `clock` is monotonic, in seconds.

    `secret` returns a new one: 128 random bits, as text. `grace` is the engine's, in seconds; 0: no
    seat outlives its connection. No other process has any of the `seat_ids`. The coroutines and
    hooks are for the hosting application; the rest is for peers.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], float],
        log: Log,
        spawn: Spawn,
        secret: Callable[[], str],
        grace: float = 0.0,
        policy: JoinPolicy | None = None,
        ice: Ice = no_ice,
        seat_ids: Iterator[str] | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.tally = tally = tally or Tally(clock)
        self._engine = TimedEngine(engine, tally)
        self._publish = self._engine.publish_quickly
        self._relays = tally.relays
        self._clock = clock
        self._log = log
        self._secret = secret
        self._grace = grace
        self.policy = policy or JoinPolicy()  # may be set anew
        self._spawn = spawn
        self._hooks = Hooks(spawn, lambda: log("hook-failed", error=traceback.format_exc()))
        self._replica = Replica(
            clock=clock, log=log, hooks=self._hooks, grace=grace, ice=ice, tally=tally
        )
        self.lost = self._replica.lost
        self._seat_ids = seat_ids or map(str, itertools.count())

    def start(self) -> Awaitable[None] | None:
        """Open the engine."""
        return self._engine.start(self._replica)

    def close(self) -> Awaitable[None] | None:
        """Close the engine. No member hears of it."""
        return self._engine.close()

    @property
    def ready(self) -> bool:
        """Whether the engine can be reached: if not, peers are told `unavailable`."""
        return self._engine.ready

    @property
    def fault(self) -> str:
        """Why the engine cannot be reached, in words; "": it can."""
        return self._engine.fault

    def __len__(self) -> int:
        return len(self._replica.rooms)

    @property
    def census(self) -> Census:
        """How many members the rooms have that have members on this node."""
        return self._replica.census

    # What peers ask for. A result that is awaitable must be awaited before the peer's next request.

    def join(
        self,
        user: str,
        room: str,
        connection: Connection,
        announcement: Announcement,
        *,
        capacity: int | None = None,
        welcome: Mapping[str, object] | None = None,
        replace: bool = False,
    ) -> tuple[Seat, Awaitable[None] | None]:
        """Take a seat; all members hear the announcement with the role, the new one included.

        `capacity` is of the room, where the user's grant says so. `welcome`: the new member gets a
        welcome, which says this as well. `replace`: whoever has the user's seat loses it, whatever
        the policy. Raises UserTaken or RoomFull (from the awaitable, if there is one) where the
        policy says so.
        """
        policy = self.policy
        if capacity is not None:
            policy = dataclasses.replace(policy, capacity=capacity)
        if replace:
            policy = dataclasses.replace(policy, replace=True)
        seat = self._seat(user, room, connection, welcome)
        self._replica.joining[seat.id] = seat
        try:
            pending = self._engine.join(
                room, user, seat.id, announcement, policy, self._ticket(seat)
            )
        except BaseException:
            del self._replica.joining[seat.id]
            raise
        if pending is not None:
            pending = self._joined_later(seat, pending)
        return seat, pending

    async def _joined_later(self, seat: Seat, pending: Awaitable[None]) -> None:
        try:
            await pending
        except BaseException:
            self._replica.fail(seat)
            raise
        self._replica.settle(seat)

    def resume(
        self,
        user: str,
        room: str,
        connection: Connection,
        announcement: Announcement,
        *,
        secret: str,
        received: int | None,
    ) -> Seat | Gap | Awaitable[Seat | Gap | None] | None:
        """Give a user its seat back: it hears its role, a welcome, and all that it has missed.

        Returns None if there is no such seat any more, and a Gap if something that was missed is
        not kept: nothing has changed then, and the user may join anew. Raises Unauthorized if it is
        not the seat's secret. See Engine.resume for `received`.
        """
        returning = Returning(connection, announcement)
        seat = self._seat(user, room, returning, {"Resumed": True})
        ticket = self._ticket(seat)
        if ticket is None:
            return None
        replica = self._replica.rooms.get(room)
        held = None if replica is None else replica.members.get(user)
        # It may not be lost yet; but of other nodes' seats, and newer ones, nobody knows.
        here = held is not None and held.ticket == digest(secret)
        if held is not None and here and held.connection is not None and received is None:
            received = held.seen()
        self._replica.joining[seat.id] = seat
        try:
            found = self._engine.resume(room, user, seat.id, digest(secret), ticket, received)
        except BaseException:
            del self._replica.joining[seat.id]
            raise
        if isinstance(found, Awaitable):
            return self._resumed_later(seat, returning, found)
        return self._resumed(seat, returning, found)

    async def _resumed_later(
        self, seat: Seat, returning: Returning, pending: Awaitable[Resumption]
    ) -> Seat | Gap | None:
        try:
            found = await pending
        except BaseException:
            self._replica.fail(seat)
            raise
        return self._resumed(seat, returning, found)

    def _resumed(self, seat: Seat, returning: Returning, found: Resumption) -> Seat | Gap | None:
        self._replica.settle(seat)
        if not isinstance(found, list):
            return found
        missed = self._replica.retell(found, seat.user, seat.room)
        if seat.connection is returning:
            seat.connection = returning.connection
            seat.count += len(missed)
        returning.arrive(missed)
        self._log("resume", room=seat.room, user=seat.user, missed=len(missed))
        return seat

    def renew(self, seat: Seat) -> tuple[Seat, Awaitable[None] | None]:
        """Send another welcome, with another secret, to a member that sits already.

        Returns the seat that it has from then on, at the same place.
        """
        if self._grace <= 0:
            seat.welcome = {}
            self._replica.greet(self._replica.rooms[seat.room], seat)
            return seat, None
        new = self._seat(seat.user, seat.room, seat.connection, {})
        new.secret = self._secret()
        ticket = new.ticket = digest(new.secret)
        self._replica.joining[new.id] = new
        try:
            pending = self._engine.renew(seat.room, seat.user, seat.id, new.id, ticket)
        except BaseException:
            del self._replica.joining[new.id]
            raise
        if pending is None:
            self._replica.settle(new)
            return new, None
        return new, self._joined_later(new, pending)

    def _seat(
        self,
        user: str,
        room: str,
        connection: Connection | None,
        welcome: Mapping[str, object] | None,
    ) -> Seat:
        return Seat(next(self._seat_ids), user, room, connection, self._clock(), welcome=welcome)

    def _ticket(self, seat: Seat) -> str | None:
        """Give a seat a secret if its holder asked for a welcome; return what the engine knows."""
        if seat.welcome is None or self._grace <= 0:
            return None
        seat.secret = self._secret()
        seat.ticket = digest(seat.secret)
        return seat.ticket

    def leave(self, seat: Seat, reason: LeaveReason) -> Awaitable[None] | None:
        """Give up a seat: the others hear a disconnect. The holder has it until that is done."""
        if seat.connection is None:
            return None
        return self._engine.leave(seat.room, seat.user, seat.id, reason)

    def lose(self, seat: Seat, end: End, address: str = "") -> Awaitable[None] | None:
        """Keep the seat of a lost connection for its grace; or give it up, if nobody can resume.

        If the client's address leaves too many, one is given up.
        """
        if seat.connection is None or seat.welcome is None or self._grace <= 0:
            return self.leave(seat, end.reason)
        seen = seat.seen()
        seat.connection = None
        seat.replica.lose(seat)
        self._log("lost", room=seat.room, user=seat.user, **end.fields())
        pending = self._engine.lose(seat.room, seat.user, seat.id, seen)
        for place in self.lost.add(seat, address):
            if (left := self._engine.leave(*place)) is not None:
                self._spawn(left)
        return pending

    def broadcast(
        self, seat: Seat, text: str, to: Sequence[str] | None = None, packet_id: str = ""
    ) -> Awaitable[None] | None:
        """Send `text` to every other member of the seat's room, or to those in `to` alone.

        `packet_id` is as in Engine.publish.
        """
        if self._relays.arrived is None:
            return self._publish(seat.room, seat.id, text, to, packet_id)
        return self._engine.relay(seat.room, seat.id, text, to, packet_id)

    def is_initiator(self, seat: Seat) -> bool:
        """Tell whether the holder of a seat is its room's initiator."""
        return self._replica.rooms[seat.room].initiator is seat

    def users(self, name: str) -> str | Awaitable[str]:
        """Return the user ids in a room, in joining order, as a Payload: a JSON string of JSON."""
        room = self._replica.rooms.get(name)
        if room is not None:
            return room.users()
        members = self._engine.members(name)
        if isinstance(members, list):
            return packets.json_string(members)
        return self._users_later(members)

    async def _users_later(self, members: Awaitable[list[str]]) -> str:
        return packets.json_string(await members)

    # For the hosting application.

    def on_join(self, hook: OnJoin) -> OnJoin:
        """Have `hook(room, user)` called for each user that takes a seat; usable as a decorator.

        It may be async. It is called once for a member, when its connect has been answered, on the
        node that it is connected to. What it raises is logged and harms nobody.
        """
        self._hooks.on_join.append(hook)
        return hook

    def on_leave(self, hook: OnLeave) -> OnLeave:
        """Have `hook(room, user, reason)` called for each seat that is given up; see `on_join`.

        That of a lost connection is, after its grace. `reason`: a LeaveReason, or that of `kick`.
        """
        self._hooks.on_leave.append(hook)
        return hook

    async def rooms(self, *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return the rooms with members, sorted; with `limit`, the first so many past `after`."""
        return await list_rooms(self._engine, after, limit)

    async def members(self, room: str) -> list[str]:
        """Return the user ids in a room in joining order; empty for a room that is not there."""
        members = self._engine.members(room)
        return members if isinstance(members, list) else await members

    async def kick(self, room: str, user: str, reason: str = "Removed") -> bool:
        """Take a user's seat away: the others hear a disconnect, its session is closed with 4504.

        The session is told the reason, of at most 123 bytes in UTF-8, or ValueError is raised.
        Returns False if the user is not in the room. Raises EngineError.
        """
        if len(reason.encode()) > MAX_REASON:
            raise ValueError(f"the reason has more than {MAX_REASON} bytes")
        if user not in await self.members(room):
            return False
        if (pending := self._engine.leave(room, user, None, reason, CloseCode.REMOVED)) is not None:
            await pending
        return True

    async def send(
        self, room: str, payload: Any, *, to: str | Sequence[str] | None = None, sender: str = ""
    ) -> None:
        """Send the members of a room (or those in `to`) a broadcast with `payload`, a JSON value.

        `to` is a user, or some; `sender` is the packet's UserId. Who is not in the room does not
        get it. Raises TypeError for what JSON has not, and EngineError.
        """
        text = packets.write_broadcast(sender, room, payload)
        if to is not None:
            to = tuple(dict.fromkeys([to] if isinstance(to, str) else to))
            if not to:
                return
        if (pending := self._engine.publish(room, "", text, to)) is not None:
            await pending
