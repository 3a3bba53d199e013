"""One room as its members' node sees it: who sits where, in joining order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from videre import packets
from videre.connection import Connection


class Seat:
    """One user's place in one room, held by the session behind `connection`."""

    __slots__ = (
        "connection",
        "count",
        "id",
        "last",
        "local",
        "room",
        "secret",
        "since",
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
        self.since = since  # by the clock of Rooms, in seconds
        # What the welcome says of how the seat was taken; None: the holder asked for none.
        self.welcome = welcome
        self.secret: str | None = (
            None  # with which it can be resumed, until the holder has been told
        )
        self.last = "null"  # what the holder's last broadcast was called, as JSON
        self.count = 0  # packets that the room has sent to it, since its welcome


class Room:
    """The replica of one room: its members in joining order; the first of them is the initiator."""

    __slots__ = ("members", "name", "users_payload")

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, Seat] = {}
        self.users_payload: str | None = None  # the answer to a ping, until the members change

    @property
    def initiator(self) -> Seat:
        """Who has been here longest."""
        return next(iter(self.members.values()))

    def users(self) -> str:
        """Return the user ids in joining order as a Payload: a JSON string of JSON."""
        if self.users_payload is None:
            self.users_payload = packets.json_string(list(self.members))
        return self.users_payload

    def send(self, text: str) -> None:
        """Send to every member."""
        for seat in self.members.values():
            if seat.connection is not None:
                seat.count += 1
                seat.connection.send(text)

    def forward(self, text: str, sender: str) -> None:
        """Send to every member but the one whose seat `sender` is."""
        for seat in self.members.values():
            if seat.connection is not None and seat.id != sender:
                seat.count += 1
                seat.connection.send(text)

    def forward_to(self, users: Sequence[str], text: str, sender: str) -> None:
        """Send to those of `users` who are here, but not to the one whose seat `sender` is."""
        for user in users:
            seat = self.members.get(user)
            if seat is not None and seat.connection is not None and seat.id != sender:
                seat.count += 1
                seat.connection.send(text)
