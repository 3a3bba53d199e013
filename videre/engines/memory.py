"""The engine of a single process: rooms in a dictionary; no method ever waits."""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable
from functools import partial

from videre.engines import REPLACED, Gap, Listener, Resumption
from videre.engines.events import SERVER, Announcement, Joined, Left, Moved, Receivers, Sent
from videre.engines.histories import Histories
from videre.engines.names import Names
from videre.engines.nodes import About, Seen, this_process
from videre.engines.state import RoomState
from videre.errors import CloseCode, RoomFull, Unauthorized, UserTaken
from videre.ids import Digest, RoomId, SeatId, UserId
from videre.interfaces import Later, Timer
from videre.reasons import LeaveReason
from videre.settings import JoinPolicy, Retention


@dataclasses.dataclass(slots=True)
class _Held:
    """What the engine keeps of a seat."""

    user: UserId
    last_id: str = "null"  # of its last packet
    grace: Timer | None = None  # of a lost seat


class MemoryEngine:
    """Keeps the rooms of one process. A join, leave or packet costs O(1), whatever the room's size.

    `clock` is monotonic, in seconds; `later` calls back after a number of seconds.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        later: Later,
        retention: Retention | None = None,
    ) -> None:
        self._clock = clock
        self._later = later
        self._retention = retention or Retention()
        self._rooms: dict[RoomId, RoomState] = {}
        self._names = Names()  # of all rooms, sorted
        self._histories = Histories(clock, self._retention)  # of rooms with tickets
        self._held: dict[SeatId, _Held] = {}  # by seat
        self._listener: Listener
        self._began = clock()
        self._process = ""

    in_process, fault = True, ""

    async def start(self, listener: Listener) -> None:
        """See Engine.start."""
        self._listener = listener
        self._process = this_process()

    async def join(
        self,
        room: RoomId,
        user: UserId,
        seat: SeatId,
        announcement: Announcement,
        policy: JoinPolicy,
        ticket: Digest | None = None,
    ) -> None:
        """See Engine.join."""
        state = self._rooms.get(room)
        held = None if state is None else state.members.get(user)
        if held is not None:
            if not policy.replace:
                raise UserTaken("Header.UserId: is already in the room")
            self._end(room, user, held, *REPLACED)
            state = self._rooms.get(room)
        elif state is None:
            if policy.max_rooms is not None and len(self._rooms) >= policy.max_rooms:
                raise RoomFull("The limit on rooms is reached")
        elif policy.capacity is not None and len(state.members) >= policy.capacity:
            raise RoomFull("The room is full")
        if state is None:
            state = self._rooms[room] = RoomState()
            self._names.add(room)
        event = Joined(user, seat, announcement)
        state.apply(event)
        self._held[seat] = _Held(user)
        self._histories.record(room, event)
        if ticket is not None:
            self._histories.issue(room, user, ticket)
        self._listener.hear(room, event)

    async def renew(
        self, room: RoomId, user: UserId, seat: SeatId, to: SeatId, ticket: Digest
    ) -> None:
        """See Engine.renew."""
        if self._holds(room, user, seat):
            self._move(room, user, to, ticket)

    def lose(self, room: RoomId, user: UserId, seat: SeatId) -> None:
        """See Engine.lose."""
        history = self._histories.rooms.get(room)
        if history is None or user not in history.tickets or not self._holds(room, user, seat):
            return
        over = partial(self._end, room, user, seat, LeaveReason.GRACE_OVER)
        self._held[seat].grace = self._later(self._retention.grace, over)

    async def resume(
        self, room: RoomId, user: UserId, to: SeatId, shown: Digest, ticket: Digest, received: int
    ) -> Resumption:
        """See Engine.resume."""
        if room not in self._rooms or user not in self._rooms[room].members:
            return None
        history = self._histories.rooms.get(room)
        held = None if history is None else history.tickets.get(user)
        if history is None or held is None or not hmac.compare_digest(held.digest, shown):
            raise Unauthorized("The resume secret is wrong")
        missed = history.missed(user, received)
        if missed is None:
            return Gap()
        self._move(room, user, to, ticket, missed.count)
        return missed

    async def leave(self, room: RoomId, user: UserId, seat: SeatId, reason: str) -> None:
        """See Engine.leave."""
        self._end(room, user, seat, reason)

    async def remove(self, room: RoomId, user: UserId, words: str) -> bool:
        """See Engine.remove."""
        state = self._rooms.get(room)
        if state is None or user not in state.members:
            return False
        self._end(room, user, state.members[user], words, CloseCode.REMOVED)
        return True

    def _end(
        self, room: RoomId, user: UserId, seat: SeatId, reason: str, code: int | None = None
    ) -> None:
        """End a seat, unless it is gone; see Left."""
        if not self._holds(room, user, seat):
            return
        state = self._rooms[room]
        event = Left(user, seat, reason, code, state.heir(user))
        state.apply(event)
        self._release(seat)
        if not state.members:
            del self._rooms[room]
            self._names.remove(room)
        self._histories.withdraw(room, user)
        self._histories.record(room, event)
        self._listener.hear(room, event)

    def publish(
        self, room: RoomId, seat: SeatId, text: str, to: Receivers = None, packet_id: str = ""
    ) -> None:
        """See Engine.publish."""
        held = self._held.get(seat)
        if packet_id and held is not None:
            held.last_id = packet_id
        event = Sent(SERVER if held is None else held.user, seat, text, to)
        if room in self._histories.rooms:
            self._histories.record(room, event)
        self._listener.hear(room, event)

    async def members(self, room: RoomId) -> list[str]:
        """See Engine.members."""
        state = self._rooms.get(room)
        return [] if state is None else list(state.members)

    async def rooms(self, after: str | None, limit: int) -> list[str]:
        """See Engine.rooms."""
        return self._names.page(after, limit)

    def nodes(self) -> list[Seen]:
        """See Engine.nodes: the process alone."""
        age = int(self._clock() - self._began)
        return [Seen("memory", True, 0.0, About(age, len(self._held), self._process))]

    async def close(self) -> None:
        """See Engine.close."""
        for seat in list(self._held):
            self._release(seat)
        self._rooms.clear()
        self._names = Names()
        self._histories.clear()

    def _holds(self, room: RoomId, user: UserId, seat: SeatId) -> bool:
        return room in self._rooms and self._rooms[room].holds(user, seat)

    def _move(
        self, room: RoomId, user: UserId, to: SeatId, ticket: Digest, missed: int = 0
    ) -> None:
        state = self._rooms[room]
        seat = state.members[user]
        held = self._held[to] = self._release(seat)
        event = Moved(user, seat, to, CloseCode.REPLACED, held.last_id)
        state.apply(event)
        self._histories.issue(room, user, ticket, missed)
        self._listener.hear(room, event)

    def _release(self, seat: SeatId) -> _Held:
        """Forget a seat, and end its grace; return what was kept of it."""
        held = self._held.pop(seat)
        if held.grace is not None:
            held.grace.cancel()
            held.grace = None
        return held
