"""The engine of a single process: rooms in a dictionary; no method ever waits."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

from videre.engines import REPLACED, Announcement, Gap, Listener, Resumption, Told
from videre.engines.history import UNNOTICED, History
from videre.engines.names import Names
from videre.errors import CloseCode, RoomFull, Unauthorized, UserTaken
from videre.interfaces import Later, Timer
from videre.reasons import LeaveReason
from videre.settings import JoinPolicy, Retention

# Entries of one room's history, and quiet rooms, to clear with each packet: more than it adds, at
# most 0.1 ms of work.
FORGOTTEN_AT_ONCE = 64
ROOMS_AT_ONCE = 4


class MemoryEngine:
    """Keeps the rooms of one process. Every operation costs O(1), whatever the room's size.

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
        self._keep = UNNOTICED + self._retention.grace  # seconds
        self._rooms: dict[str, dict[str, str]] = {}  # room -> user -> seat, in joining order
        self._names = Names()  # of all rooms, sorted
        self._histories: dict[str, History] = {}  # of rooms with tickets
        self._users: dict[str, str] = {}  # by seat
        self._last_ids: dict[str, str] = {}  # id of its last packet, by seat
        # Time of the last entry, by room with a history; the longest-quiet room is first.
        self._told: OrderedDict[str, float] = OrderedDict()
        self._graces: dict[str, Timer] = {}  # by seat
        self._listener: Listener

    in_process = True

    @property
    def ready(self) -> bool:
        """See Engine.ready."""
        return True

    @property
    def fault(self) -> str:
        """See Engine.fault."""
        return ""

    async def start(self, listener: Listener) -> None:
        """See Engine.start."""
        self._listener = listener

    async def join(
        self,
        room: str,
        user: str,
        seat: str,
        announcement: Announcement,
        policy: JoinPolicy,
        ticket: str | None = None,
    ) -> None:
        """See Engine.join."""
        seats = self._rooms.get(room)
        held = None if seats is None else seats.get(user)
        if held is not None:
            if not policy.replace:
                raise UserTaken("Header.UserId: is already in the room")
            self.leave(room, user, held, *REPLACED)
        elif seats is None:
            if policy.max_rooms is not None and len(self._rooms) >= policy.max_rooms:
                raise RoomFull("The limit on rooms is reached")
        elif policy.capacity is not None and len(seats) >= policy.capacity:
            raise RoomFull("The room is full")
        if (seats := self._rooms.get(room)) is None:
            seats = self._rooms[room] = {}
            self._names.add(room)
        seats[user] = seat
        self._users[seat] = user
        self._tell(room, Told("joined", user, announcement))
        if ticket is not None:
            self._issue(room, user, ticket)
        self._listener.joined(room, user, seat, announcement)

    async def renew(self, room: str, user: str, seat: str, to: str, ticket: str) -> None:
        """See Engine.renew."""
        if self._holds(room, user, seat):
            self._move(room, user, to, ticket)

    def lose(self, room: str, user: str, seat: str, seen: int | None) -> None:
        """See Engine.lose."""
        history = self._histories.get(room)
        if history is None or user not in history.tickets or not self._holds(room, user, seat):
            return
        ticket = history.tickets[user]
        ticket.lost, ticket.seen = True, seen
        over = partial(self.leave, room, user, seat, LeaveReason.GRACE_OVER)
        self._graces[seat] = self._later(self._retention.grace, over)

    async def resume(
        self, room: str, user: str, to: str, shown: str, ticket: str, received: int | None
    ) -> Resumption:
        """See Engine.resume."""
        if user not in self._rooms.get(room, ()):
            return None
        history = self._histories.get(room)
        held = None if history is None else history.tickets.get(user)
        if history is None or held is None or not hmac.compare_digest(held.digest, shown):
            raise Unauthorized("The resume secret is wrong")
        missed = history.missed(user, received)
        if missed is None:
            return Gap()
        self._move(room, user, to, ticket, len(missed))
        return missed

    def leave(
        self, room: str, user: str, seat: str | None, reason: str, code: int | None = None
    ) -> None:
        """See Engine.leave."""
        seats = self._rooms.get(room)
        held = None if seats is None else seats.get(user)
        if seats is None or held is None or seat not in (held, None):
            return
        promotes = room in self._histories and next(iter(seats)) == user
        del seats[user], self._users[held]
        self._last_ids.pop(held, None)
        if not seats:
            del self._rooms[room]
            self._names.remove(room)
        if history := self._histories.get(room):
            self._end_grace(held)
            history.tickets.pop(user, None)
            if not history.tickets:
                del self._histories[room]
                self._told.pop(room, None)
            self._tell(room, Told("left", user))
            if promotes and seats:
                self._tell(room, Told("promoted", next(iter(seats))))
        self._listener.left(room, user, held, reason, code)

    def publish(
        self, room: str, seat: str, text: str, to: Sequence[str] | None = None, packet_id: str = ""
    ) -> None:
        """See Engine.publish."""
        if packet_id:
            self._last_ids[seat] = packet_id
        if room in self._histories:
            self._tell(room, Told("sent", self._users.get(seat, ""), (text,), to))
        self._listener.sent(room, seat, text, to)

    async def members(self, room: str) -> list[str]:
        """See Engine.members."""
        return list(self._rooms.get(room, ()))

    async def rooms(self, after: str | None, limit: int) -> list[str]:
        """See Engine.rooms."""
        return self._names.page(after, limit)

    async def close(self) -> None:
        """See Engine.close."""
        for timer in self._graces.values():
            timer.cancel()
        self._graces.clear()
        self._rooms.clear()
        self._names = Names()
        self._histories.clear()
        self._users.clear()
        self._last_ids.clear()
        self._told.clear()

    def _holds(self, room: str, user: str, seat: str) -> bool:
        return self._rooms.get(room, {}).get(user) == seat

    def _move(self, room: str, user: str, to: str, ticket: str, missed: int = 0) -> None:
        seat, self._rooms[room][user] = self._rooms[room][user], to
        self._end_grace(seat)
        del self._users[seat]
        self._users[to] = user
        self._issue(room, user, ticket, missed)
        if (last_id := self._last_ids.pop(seat, "null")) != "null":
            self._last_ids[to] = last_id
        self._listener.moved(room, user, seat, to, CloseCode.REPLACED, last_id)

    def _end_grace(self, seat: str) -> None:
        if (timer := self._graces.pop(seat, None)) is not None:
            timer.cancel()

    def _issue(self, room: str, user: str, ticket: str, count: int = 0) -> None:
        if room not in self._histories:
            self._histories[room] = History(self._retention.max_bytes)
        self._histories[room].issue(user, ticket, count)

    def _tell(self, room: str, told: Told) -> None:
        """Record an event in the room's history, if any member may resume."""
        history = self._histories.get(room)
        if history is None:
            return
        now = self._clock()
        before = now - self._keep
        history.record(told, now)
        history.forget(before, FORGOTTEN_AT_ONCE)
        self._told[room] = now
        self._told.move_to_end(room)
        # Quiet rooms must forget too: clear a few while others are active.
        for _ in range(ROOMS_AT_ONCE):
            quiet = next(iter(self._told))
            if self._told[quiet] >= before:
                return
            if not self._histories[quiet].forget(before, FORGOTTEN_AT_ONCE):
                return
            del self._told[quiet]
