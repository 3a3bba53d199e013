"""One room as a node with members in it sees it: its state, and the seats of its members.

A seat is one user's place in the room. It passes through the states in MOVES.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Mapping, Sequence

from videre import packets
from videre.engines.events import Event
from videre.engines.state import RoomState
from videre.ids import Digest, RoomId, SeatId, UserId
from videre.interfaces import Connection


def digest(secret: str) -> Digest:
    """Hash a resume secret; the engine stores only the digest."""
    return Digest(hashlib.sha256(secret.encode(errors="replace")).hexdigest())


class SeatState(enum.StrEnum):
    """What a seat is to its node."""

    ASKED = "asked for"  # the engine has not granted it yet
    HELD = "held"  # by a session of this node
    LOST = "lost"  # without a connection; its holder may resume within the grace
    ELSEWHERE = "elsewhere"  # on another node
    GONE = "gone"  # given up, moved or never granted


ASKED, HELD, LOST = SeatState.ASKED, SeatState.HELD, SeatState.LOST
ELSEWHERE, GONE = SeatState.ELSEWHERE, SeatState.GONE

#: The allowed changes of state. A user that comes back gets another seat at the same place.
MOVES: Mapping[SeatState, frozenset[SeatState]] = {
    ASKED: frozenset({HELD, GONE}),
    HELD: frozenset({LOST, GONE}),
    LOST: frozenset({GONE}),
    ELSEWHERE: frozenset({GONE}),
    GONE: frozenset(),
}


class _Nobody:
    """The connection of a seat that no session here holds."""

    def send(self, text: str) -> None:
        """See Connection.send."""

    def close(self, code: int, reason: str) -> None:
        """See Connection.close."""


NOBODY = _Nobody()


@dataclasses.dataclass(slots=True, eq=False, kw_only=True)
class Seat:
    """A seat. Only the replica changes its state."""

    id: SeatId = dataclasses.field(kw_only=False)
    user: UserId = dataclasses.field(kw_only=False)
    room: RoomId = dataclasses.field(kw_only=False)
    state: SeatState = ELSEWHERE
    connection: Connection = NOBODY  # of its holder, if that is here
    since: float  # when it was taken, on a monotonic clock
    # Extra keys of the welcome, from how the seat was taken; None: no welcome was asked for.
    welcome: Mapping[str, object] | None = None
    # The text around the role that its holder hears before the welcome, if it had another seat.
    announcement: tuple[str, str] | None = None
    secret: str | None = None  # the resume secret, until it was sent to the holder
    greeted: int = 0  # size of its welcome, in bytes
    replica: Room = dataclasses.field(init=False)  # the seat's room, once it is in one

    @property
    def local(self) -> bool:
        """Whether this node's sessions hold it, or have lost it."""
        return self.state is HELD or self.state is LOST

    def become(self, state: SeatState) -> None:
        """Change the state, and drop the connection unless the seat is held.

        Raises ValueError for a change that MOVES does not allow: that is a bug.
        """
        if state not in MOVES[self.state]:
            raise ValueError(f"a seat that is {self.state} cannot be {state}")
        self.state = state
        if state is not HELD:
            self.connection = NOBODY


#: Copies of a packet that its sender's bytes pay for: in a mesh of eight, a broadcast to everybody
#: is charged once.
COPIES = 8


def weight(copies: int) -> int:
    """Return how many extra times a packet's bytes are charged for `copies` copies of it."""
    return max(0, copies - 1) // COPIES


class Room:
    """The replica of one room; `state` says who its members are, in joining order."""

    __slots__ = ("_lost", "here", "name", "seats", "state", "users_payload", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = RoomState()
        self.seats: dict[UserId, Seat] = {}  # by user
        self.here: dict[UserId, Seat] = {}  # held ones, so that a packet skips all others
        self._lost = 0
        self.weight = 0  # of a packet to all others, see weight()
        self.users_payload: str | None = None  # cached answer to a ping, until the members change

    def put(self, seat: Seat) -> None:
        """Add the seat of a user that has none."""
        seat.replica = self
        self.seats[seat.user] = seat
        if seat.state is HELD:
            self.here[seat.user] = seat
        self._changed()

    def remove(self, user: UserId) -> Seat:
        """Remove a user's seat, and return it."""
        self.here.pop(user, None)
        gone = self.seats.pop(user)
        self._lost -= gone.state is LOST
        self._changed()
        return gone

    def lose(self, seat: Seat) -> None:
        """Keep a seat whose connection is lost, but send nothing to it."""
        del self.here[seat.user]
        self._lost += 1
        self._changed()

    def follow(self, event: Event) -> bool:
        """Apply an event to the state; see RoomState.apply."""
        self.users_payload = None
        return self.state.apply(event)

    def _changed(self) -> None:
        self.weight = weight(len(self.seats) - self._lost - 1)

    @property
    def initiator(self) -> Seat:
        """The seat of the longest-present member."""
        return self.seats[next(iter(self.state.members))]

    def absent(self, users: Sequence[UserId]) -> list[UserId]:
        """Return those of `users` who are not members."""
        return [user for user in users if user not in self.seats]

    def users(self) -> str:
        """Return the user ids in joining order as a Payload: a JSON string of JSON."""
        if self.users_payload is None:
            self.users_payload = packets.json_string(list(self.state.members))
        return self.users_payload
