"""Rooms: joining, leaving and resuming seats.

The engine decides and publishes; the replica receives each room's events in order and sends packets
to the members' connections.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from videre import packets
from videre.engines import Engine, Gap, Missed
from videre.engines.events import Announcement, Receivers
from videre.ids import Digest, RoomId, SeatId, UserId
from videre.interfaces import Connection, Ice, Log, Spawn, no_ice
from videre.reasons import End, LeaveReason
from videre.rooms.census import Census
from videre.rooms.hooks import Hooks
from videre.rooms.hosting import Hosting
from videre.rooms.replica import Replica
from videre.rooms.returning import Returning
from videre.rooms.room import ASKED, HELD, Seat, digest
from videre.settings import JoinPolicy
from videre.tally import Tally

Found = TypeVar("Found")


class Rooms(Hosting):
    """The rooms of one namespace. `clock` is monotonic, in seconds.

    `secret` returns a new resume secret: 128 random bits, as text. `grace` is the engine's, in
    seconds; 0 means that no seat outlives its connection. `seat_ids` must be unique across all
    processes. What is in Hosting is for the hosting application; the rest is for peers.
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
        seat_ids: Iterator[SeatId] | None = None,
        tally: Tally | None = None,
    ) -> None:
        hooks = Hooks(spawn, lambda error: log("hook-failed", error=error))
        super().__init__(engine, hooks)
        self.in_process = engine.in_process
        self.tally = tally = tally or Tally(clock)
        self._publish = engine.publish
        self._relays = tally.relays
        self._clock = clock
        self._log = log
        self._secret = secret
        self._grace = grace
        self.policy = policy or JoinPolicy()  # replaced on reload
        self._replica = Replica(
            clock=clock, log=log, hooks=hooks, grace=grace, ice=ice, tally=tally
        )
        self.lost = self._replica.lost
        self._seat_ids = seat_ids or map(SeatId, map(str, itertools.count()))

    async def start(self) -> None:
        """Open the engine."""
        await self._engine.start(self._replica)

    async def close(self) -> None:
        """Close the engine. No member hears of it."""
        await self._engine.close()

    @property
    def ready(self) -> bool:
        """Whether the engine is reachable; if not, peers get `unavailable`."""
        return not self._engine.fault

    @property
    def fault(self) -> str:
        """Why the engine is unreachable, in words; "" if it is reachable."""
        return self._engine.fault

    def __len__(self) -> int:
        return len(self._replica.rooms)

    @property
    def census(self) -> Census[RoomId]:
        """The sizes of the rooms that have members on this node."""
        return self._replica.census

    # For peers. An awaitable result must be awaited before the peer's next request.

    async def join(
        self,
        user: UserId,
        room: RoomId,
        connection: Connection,
        announcement: Announcement,
        *,
        capacity: int | None = None,
        welcome: Mapping[str, object] | None = None,
        replace: bool = False,
    ) -> Seat:
        """Return a new seat. All members, the new one included, get the announcement with its role.

        `capacity` overrides the policy's room capacity. If `welcome` is not None, the new member
        gets a welcome that includes its keys. `replace` takes the user's seat from its holder,
        whatever the policy. Raises UserTaken or RoomFull according to the policy.
        """
        policy = self.policy
        if capacity is not None:
            policy = dataclasses.replace(policy, capacity=capacity)
        if replace:
            policy = dataclasses.replace(policy, replace=True)
        seat, ticket = self._request(user, room, connection, welcome)
        await self._ask(seat, self._engine.join(room, user, seat.id, announcement, policy, ticket))
        return seat

    async def _ask(self, seat: Seat, step: Coroutine[Any, Any, Found]) -> Found:
        """Take an engine's step that may grant a seat."""
        self._replica.joining[seat.id] = seat
        try:
            found = await step
        except BaseException:
            self._replica.fail(seat)
            raise
        self._replica.settle(seat)
        return found

    async def resume(
        self,
        user: UserId,
        room: RoomId,
        connection: Connection,
        announcement: Announcement,
        *,
        secret: str,
        received: int,
    ) -> Seat | Gap | None:
        """Give a user its seat back. It gets its role, a welcome, and all the packets it missed.

        Returns None if the seat is gone, and a Gap if some missed packets are no longer kept; then
        nothing has changed, and the user may join again. Raises Unauthorized if `secret` is not the
        seat's. See Engine.resume for `received`.
        """
        returning = Returning(connection)
        seat, ticket = self._request(user, room, returning, {"Resumed": True})
        seat.announcement = announcement
        if ticket is None:
            return None
        step = self._engine.resume(room, user, seat.id, digest(secret), ticket, received)
        found = await self._ask(seat, step)
        if not isinstance(found, Missed):
            return found
        self._replica.retell(found, seat, returning)
        self._log("resume", room=seat.room, user=seat.user, missed=found.count)
        return seat

    async def renew(self, seat: Seat, announcement: Announcement) -> Seat:
        """Send a seated member its role again, and another welcome, with a new secret.

        Neither is sent if the engine refuses: until the next welcome the member counts the packets
        that it hears, and the engine does not count this one.

        Returns the member's new seat, at the same place. Without a grace there is no secret, and
        the seat stays. It also stays if the engine has lost it, until the event that says so closes
        the session.
        """
        new, ticket = self._request(seat.user, seat.room, seat.connection, {})
        new.announcement = announcement
        if ticket is None:
            seat.welcome, seat.announcement = {}, announcement
            self._replica.greet(self._replica.rooms[seat.room], seat)
            return seat
        await self._ask(new, self._engine.renew(seat.room, seat.user, seat.id, new.id, ticket))
        return seat if seat.state is HELD else new

    def _request(
        self,
        user: UserId,
        room: RoomId,
        connection: Connection,
        welcome: Mapping[str, object] | None,
    ) -> tuple[Seat, Digest | None]:
        """Return a seat to ask for, and its ticket. Without a welcome or a grace, that is None."""
        new, now = next(self._seat_ids), self._clock()
        seat = Seat(new, user, room, state=ASKED, connection=connection, since=now, welcome=welcome)
        if welcome is None or self._grace <= 0:
            return seat, None
        seat.secret = self._secret()
        return seat, digest(seat.secret)

    async def leave(self, seat: Seat, reason: LeaveReason) -> None:
        """Give up a seat; the others get a disconnect. The holder keeps it until that is done.

        If a store that is away delays this, the holder still loses the seat at once: it gets no
        more of the room's packets.
        """
        if seat.state is not HELD:
            return
        await self._engine.leave(seat.room, seat.user, seat.id, reason)
        if seat.state is HELD:
            self._replica.lose(seat)

    async def lose(self, seat: Seat, end: End, address: str = "") -> None:
        """Keep the seat of a lost connection for its grace; give it up if it is not resumable.

        If there are too many lost seats now, give one up: see LostSeats.
        """
        if seat.state is not HELD or seat.welcome is None or self._grace <= 0:
            await self.leave(seat, end.reason)
            return
        self._replica.lose(seat)
        self._log("lost", room=seat.room, user=seat.user, **end.fields())
        self._engine.lose(seat.room, seat.user, seat.id)
        for gone in self.lost.add(seat, address):
            await self._engine.leave(gone.room, gone.user, gone.id, LeaveReason.GRACE_OVER)

    def broadcast(
        self, seat: Seat, text: str, to: Receivers = None, packet_id: str = ""
    ) -> Awaitable[None] | None:
        """Send `text` to the other members of the seat's room, or only to those in `to`.

        See Engine.publish for `packet_id`.
        """
        pending = self._publish(seat.room, seat.id, text, to, packet_id)
        if pending is None and self._relays.arrived is not None:
            self._relays.written += 1
        return pending

    def is_initiator(self, seat: Seat) -> bool:
        """Return whether the holder of a seat is its room's initiator."""
        return self._replica.rooms[seat.room].initiator is seat

    def users_here(self, name: RoomId) -> str | None:
        """Return `users` if the room has members on this node, else None."""
        room = self._replica.rooms.get(name)
        return None if room is None else room.users()

    async def users(self, name: RoomId) -> str:
        """Return a room's user ids in joining order as a Payload: a JSON string of JSON."""
        return self.users_here(name) or packets.json_string(await self._engine.members(name))
