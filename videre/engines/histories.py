"""The histories of all rooms of one process, and the memory that they take together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from videre.engines.events import Joined, Left, Sent
from videre.engines.history import UNNOTICED, History
from videre.ids import Digest, RoomId, UserId
from videre.settings import Retention

# Entries of one room's history, and quiet rooms, to clear with each packet: more than it adds, at
# most 0.1 ms of work.
FORGOTTEN_AT_ONCE = 64
ROOMS_AT_ONCE = 4

# Bytes that all histories together may take. Each has its own limit, but one address can fill a
# thousand, and keep them with lost seats. Above this bound the largest lose their oldest entries.
MAX_HISTORIES = 64 * 1024 * 1024


class Histories:
    """The history of each room in which a member holds a ticket. `clock` is monotonic.

    A packet costs the same however many histories there are.
    """

    def __init__(self, clock: Callable[[], float], retention: Retention) -> None:
        self.rooms: dict[RoomId, History] = {}
        self.bytes = 0  # of all histories
        self._clock = clock
        self._keep = UNNOTICED + retention.grace  # seconds
        self._max_bytes = retention.max_bytes
        self._most = max(MAX_HISTORIES, retention.max_bytes or 0)
        # The rooms by the bit length of their histories' bytes; the last to arrive is last.
        self._sizes: dict[int, OrderedDict[RoomId, None]] = {}
        # Time of the last entry, by room; the longest-quiet room is first.
        self._told: OrderedDict[RoomId, float] = OrderedDict()

    def issue(self, room: RoomId, user: UserId, ticket: Digest, count: int = 0) -> None:
        """Give a member a ticket; see History.issue."""
        if room not in self.rooms:
            self.rooms[room] = History(self._max_bytes)
        self.rooms[room].issue(user, ticket, count)

    def withdraw(self, room: RoomId, user: UserId) -> None:
        """Take a member's ticket, if it holds one, and drop the history with the last ticket."""
        if history := self.rooms.get(room):
            history.tickets.pop(user, None)
            if not history.tickets:
                del self.rooms[room]
                self._told.pop(room, None)
                self._resize(room, history.bytes, 0)

    def record(self, room: RoomId, event: Joined | Left | Sent) -> None:
        """Record an event in the room's history, if any member may resume."""
        if (history := self.rooms.get(room)) is None:
            return
        now = self._clock()
        before = now - self._keep
        size = history.bytes
        history.record(event, now)
        history.forget(before, FORGOTTEN_AT_ONCE)
        self._resize(room, size, history.bytes)
        self._told[room] = now
        self._told.move_to_end(room)
        self._forget_quiet(before)
        if self.bytes > self._most:
            self._shorten()

    def clear(self) -> None:
        """Drop all histories and tickets."""
        self.rooms.clear()
        self._told.clear()
        self._sizes.clear()
        self.bytes = 0

    def _forget_quiet(self, before: float) -> None:
        """Forget old entries of a few quiet rooms, which record nothing themselves."""
        for _ in range(ROOMS_AT_ONCE):
            quiet = next(iter(self._told))
            if self._told[quiet] >= before:
                return
            history = self.rooms[quiet]
            size = history.bytes
            all_gone = history.forget(before, FORGOTTEN_AT_ONCE)
            self._resize(quiet, size, history.bytes)
            if not all_gone:
                return
            del self._told[quiet]

    def _shorten(self) -> None:
        """Drop the oldest entries of the largest histories until all fit.

        Costs O(entries dropped). A history pays only if it has at least half the bytes of the
        largest: first the one that grew so large last, until it has less.
        """
        while (excess := self.bytes - self._most) > 0:
            largest = max(self._sizes)
            room = next(reversed(self._sizes[largest]))
            history = self.rooms[room]
            size = history.bytes
            history.shorten(max(size - excess, (1 << largest - 1) - 1))
            self._resize(room, size, history.bytes)

    def _resize(self, room: RoomId, before: int, after: int) -> None:
        """Count that a room's history went from `before` to `after` bytes."""
        self.bytes += after - before
        old, new = before.bit_length(), after.bit_length()
        if old == new:
            return
        if old:
            same = self._sizes[old]
            del same[room]
            if not same:
                del self._sizes[old]
        if new:
            self._sizes.setdefault(new, OrderedDict())[room] = None
