"""Lost seats: those without a connection, counted by the address that lost them.

They take memory, a timer and a place in their rooms, but no connection. When there are too many,
the address with the most gives up the one it lost first, even if another address has lost the
latest. So an office that comes back after a network failure finds its seats.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from videre.ids import SeatId
from videre.interfaces import Log
from videre.rooms.census import Census
from videre.rooms.room import Seat

# Seconds between two log lines about seats given up.
LOG_INTERVAL = 60.0

# Expired seats to drop for each seat added: more than one, so that they cannot pile up.
EXPIRED_AT_ONCE = 4


class LostSeats:
    """The lost seats of one node. `clock` is monotonic; seats are forgotten after `grace` seconds.

    `per_address` and `in_all` are the limits; None: no limit. Both may change at any time.
    """

    def __init__(self, clock: Callable[[], float], log: Log, grace: float) -> None:
        self.per_address: int | None = None
        self.in_all: int | None = None
        self._clock = clock
        self._log = log
        self._grace = grace
        self._seats: OrderedDict[SeatId, tuple[float, str, Seat]] = OrderedDict()  # by id
        self._ids: dict[str, OrderedDict[SeatId, None]] = {}  # by address, the first lost first
        self._addresses: Census[str] = Census()  # by the number of their lost seats
        self._logged_at = -LOG_INTERVAL

    def __len__(self) -> int:
        return len(self._seats)

    def of(self, address: str) -> int:
        """Return how many lost seats an address has."""
        return len(self._ids.get(address, ()))

    def add(self, seat: Seat, address: str) -> Iterator[Seat]:
        """Count a seat lost by `address`; yield the seats to give up for it."""
        now = self._clock()
        self._forget_expired(now)
        ids = self._ids.setdefault(address, OrderedDict())
        ids[seat.id] = None
        self._seats[seat.id] = now, address, seat
        self._addresses.change(address, len(ids) - 1, len(ids))
        if self.per_address is not None and len(ids) > self.per_address:
            yield self._surplus(address, now)
        elif self.in_all is not None and len(self._seats) > self.in_all:
            ((most, _),) = self._addresses.largest(1)
            yield self._surplus(most, now)

    def forget(self, seat_id: SeatId) -> None:
        """Stop counting a seat that was resumed or given up; ignore one that was never lost."""
        if (found := self._seats.pop(seat_id, None)) is None:
            return
        address = found[1]
        ids = self._ids[address]
        del ids[seat_id]
        self._addresses.change(address, len(ids) + 1, len(ids))
        if not ids:
            del self._ids[address]

    def _surplus(self, address: str, now: float) -> Seat:
        oldest = next(iter(self._ids[address]))
        seat = self._seats[oldest][2]
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            self._log("too-many-lost-seats", seats=self.of(address), hint="TrustedProxies?")
        self.forget(oldest)
        return seat

    def _forget_expired(self, now: float) -> None:
        """Forget seats whose grace is over, in rooms this node no longer hears of."""
        for _ in range(EXPIRED_AT_ONCE):
            if not self._seats:
                return
            oldest = next(iter(self._seats))
            if now - self._seats[oldest][0] <= self._grace:
                return
            self.forget(oldest)
