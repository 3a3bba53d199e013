"""Lost seats: those without a connection, counted for the addresses that left them.

They take memory, a timer and a place in their rooms, but no connection. The address that holds most
of them pays, with the seat that it lost first, and never whoever comes next: an office that comes
back after a network failure finds its seats.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator

from videre.interfaces import Log
from videre.reasons import LeaveReason
from videre.rooms.room import Seat

# Seconds between two lines of the log about seats that are given up.
LOG_INTERVAL = 60.0

# What is too old is looked for so often with each seat that is lost: more often than one is added.
EXPIRED_AT_ONCE = 4

#: Room, user and id of a seat, and the reason for giving it up.
Place = tuple[str, str, str, str]


class LostSeats:
    """The lost seats of one node. `clock` is monotonic; seats are forgotten after `grace` seconds.

    `per_address` and `in_all` are how many there may be; None: no limit. Both may be set anew.
    """

    def __init__(self, clock: Callable[[], float], log: Log, grace: float) -> None:
        self.per_address: int | None = None
        self.in_all: int | None = None
        self._clock = clock
        self._log = log
        self._grace = grace
        self._seats: OrderedDict[str, tuple[float, str, Place]] = OrderedDict()  # by id
        self._ids: dict[str, OrderedDict[str, None]] = {}  # by address, the first lost first
        # Addresses by how many seats they have left, and the most that one has.
        self._by_count: defaultdict[int, OrderedDict[str, None]] = defaultdict(OrderedDict)
        self._most = 0
        self._logged_at = -LOG_INTERVAL

    def __len__(self) -> int:
        return len(self._seats)

    def of(self, address: str) -> int:
        """Return how many seats an address has left."""
        return len(self._ids.get(address, ()))

    def add(self, seat: Seat, address: str) -> Iterator[Place]:
        """Count a seat that `address` has lost; yield the seats to give up for it."""
        now = self._clock()
        self._forget_expired(now)
        ids = self._ids.setdefault(address, OrderedDict())
        ids[seat.id] = None
        self._seats[seat.id] = now, address, (seat.room, seat.user, seat.id, LeaveReason.GRACE_OVER)
        self._moved(address, len(ids) - 1, len(ids))
        if self.per_address is not None and len(ids) > self.per_address:
            yield self._surplus(address, now)
        elif self.in_all is not None and len(self._seats) > self.in_all:
            yield self._surplus(next(iter(self._by_count[self._most])), now)

    def forget(self, seat_id: str) -> None:
        """Count a seat no more: it was resumed or given up, or was never lost."""
        if (found := self._seats.pop(seat_id, None)) is None:
            return
        address = found[1]
        ids = self._ids[address]
        del ids[seat_id]
        self._moved(address, len(ids) + 1, len(ids))
        if not ids:
            del self._ids[address]

    def _surplus(self, address: str, now: float) -> Place:
        oldest = next(iter(self._ids[address]))
        place = self._seats[oldest][2]
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            self._log("too-many-lost-seats", seats=self.of(address), hint="TrustedProxies?")
        self.forget(oldest)
        return place

    def _forget_expired(self, now: float) -> None:
        """Forget seats whose grace is over, for rooms that this node hears of no more."""
        for _ in range(EXPIRED_AT_ONCE):
            if not self._seats:
                return
            oldest = next(iter(self._seats))
            if now - self._seats[oldest][0] <= self._grace:
                return
            self.forget(oldest)

    def _moved(self, address: str, before: int, after: int) -> None:
        if before:
            del self._by_count[before][address]
            if not self._by_count[before]:
                del self._by_count[before]
        if after:
            self._by_count[after][address] = None
        if after > self._most:
            self._most = after
        elif self._most not in self._by_count:
            self._most = after  # which was one more, and had nobody else
