"""One room as a node with members in it sees it: the seats, in joining order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from videre import packets
from videre.interfaces import Connection


def digest(secret: str) -> str:
    """Hash a resume secret; the engine stores only the digest."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


#: Copies of a packet that its sender's bytes pay for: in a mesh of eight, a broadcast to everybody
#: is charged once.
COPIES = 8


def weight(copies: int) -> int:
    """Return how many extra times a packet's bytes are charged for `copies` copies of it."""
    return max(0, copies - 1) // COPIES


class Seat:
    """One user's place in one room, held by the session behind `connection`."""

    __slots__ = (
        "connection",
        "count",
        "greeted",
        "id",
        "last_id",
        "local",
        "replica",
        "room",
        "secret",
        "since",
        "ticket",
        "user",
        "welcome",
    )

    def __init__(
        self,
        seat_id: str,
        user: str,
        room: str,
        connection: Connection | None,
        since: float,
        *,
        welcome: Mapping[str, object] | None = None,
    ) -> None:
        self.id = seat_id
        self.user = user
        self.room = room
        self.connection = connection  # None: on another node, lost, or given up
        self.local = connection is not None  # whether it was taken on this node
        self.since = since  # on the clock of Rooms, in seconds
        # Extra keys of the welcome, from how the seat was taken; None: no welcome was asked for.
        self.welcome = welcome
        self.secret: str | None = None  # the resume secret, until it was sent to the holder
        self.ticket: str | None = None  # the secret's digest, while it is valid
        self.last_id = "null"  # id of the holder's last broadcast, as JSON
        self.count = 0  # packets that the room has sent to the holder since its welcome
        self.greeted = 0  # size of its welcome, in bytes
        self.replica = NOWHERE  # the seat's room, once it is in one

    def seen(self) -> int | None:
        """Return how many packets of the room may have arrived; None: unknown."""
        undelivered = None if self.connection is None else self.connection.undelivered()
        if undelivered is None:
            return None
        return max(0, self.count - sum(map(packets.is_of_room, undelivered)))


class Room:
    """The replica of one room: its members in joining order; the first of them is the initiator."""

    __slots__ = ("_here", "_lost", "members", "name", "users_payload", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, Seat] = {}
        # Members with a connection here, so that a packet skips all other seats.
        self._here: dict[str, Seat] = {}
        self._lost: set[str] = set()
        self.weight = 0  # of a packet to all others, see weight()
        self.users_payload: str | None = None  # cached answer to a ping, until the members change

    def seat(self, seat: Seat) -> None:
        """Add a user's seat, last in joining order; if the user is a member, replace its seat."""
        seat.replica = self
        if seat.user not in self.members:
            self.users_payload = None
        self.members[seat.user] = seat
        self._lost.discard(seat.user)
        if seat.connection is None:
            self._here.pop(seat.user, None)
        else:
            self._here[seat.user] = seat
        self._changed()

    def lose(self, seat: Seat) -> None:
        """Keep a seat whose connection is lost, but send nothing to it."""
        if self.members.get(seat.user) is seat:
            self._here.pop(seat.user, None)
            self._lost.add(seat.user)
            self._changed()

    def unseat(self, user: str) -> Seat:
        """Remove a user's seat and return it."""
        self._here.pop(user, None)
        self._lost.discard(user)
        gone = self.members.pop(user)
        self.users_payload = None
        self._changed()
        return gone

    def arrange(self, users: Sequence[str]) -> None:
        """Set the joining order of the members."""
        self.members = {user: self.members[user] for user in users}
        self.users_payload = None

    def _changed(self) -> None:
        self.weight = weight(len(self.members) - len(self._lost) - 1)

    @property
    def here(self) -> Iterable[Seat]:
        """The seats with a connection to this node."""
        return self._here.values()

    @property
    def initiator(self) -> Seat:
        """The seat of the longest-present member."""
        return next(iter(self.members.values()))

    def absent(self, users: Sequence[str]) -> list[str]:
        """Return those of `users` who are not members."""
        return [user for user in users if user not in self.members]

    def users(self) -> str:
        """Return the user ids in joining order as a Payload: a JSON string of JSON."""
        if self.users_payload is None:
            self.users_payload = packets.json_string(list(self.members))
        return self.users_payload

    # These return the number of copies sent. Members on other nodes, and lost ones, do not count.

    def send(self, text: str) -> int:
        """Send to every member."""
        copies = 0
        for seat in self._here.values():
            connection = seat.connection
            if connection is not None:
                seat.count += 1
                connection.send(text)
                copies += 1
        return copies

    def forward(self, text: str, sender: str) -> int:
        """Send to every member except the one in seat `sender`."""
        copies = 0
        for seat in self._here.values():
            connection = seat.connection
            if connection is not None and seat.id != sender:
                seat.count += 1
                connection.send(text)
                copies += 1
        return copies

    def forward_to(self, users: Sequence[str], text: str, sender: str) -> int:
        """Send to those of `users` who are here, except the one in seat `sender`."""
        copies = 0
        for user in users:
            seat = self._here.get(user)
            if seat is not None and seat.connection is not None and seat.id != sender:
                seat.count += 1
                seat.connection.send(text)
                copies += 1
        return copies


#: Placeholder room of a seat that is not in a room yet.
NOWHERE = Room("")
