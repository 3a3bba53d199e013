"""A client's seat: its view of the room, and what it needs to resume the seat."""

from __future__ import annotations

from typing import Any

from videre.client import wire
from videre.client.again import Seen
from videre.client.events import Event, Joined, Left, Message, Role
from videre.client.wire import Packet


class Seat:
    """The seat of `user`, updated by each packet received."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.users: dict[str, None] = {}  # in joining order
        self.initiator: str | None = None
        self.ice_servers: list[dict[str, Any]] = []
        self.ice_ttl: float | None = None  # seconds for which they are valid
        self.secret: str | None = None
        self.received = 0  # packets since the welcome, of the kinds that the server counts
        # After a resume: the id of the last broadcast the server got; None if it does not know.
        self.last: int | None = None
        self.limits: dict[str, Any] | None = None  # from the server; None if it states none
        self.seen = Seen()

    def asks(self) -> dict[str, Any]:
        """Return the Payload of a connect packet, which asks for a welcome and for this seat."""
        if self.secret is None:
            return {"Welcome": True}
        return {"Welcome": True, "Resume": self.secret, "Received": self.received}

    def welcome(self, told: dict[str, Any]) -> bool:
        """Apply a welcome; return True if the server resumed the lost seat."""
        resumed = told.get("Resumed") is True
        if not resumed:
            # Keep the view of a resumed seat. The welcome is ahead of the missed packets that
            # follow it, and they bring the view up to date.
            self.users = dict.fromkeys(told["Users"])
            self.initiator = told["Initiator"]
        self.secret = told["Resume"]
        self.received = 0
        last = told.get("LastId", ...)
        self.last = 0 if last is None else last if isinstance(last, int) else None
        self.offered(told)
        limits = told.get("Limits")
        self.limits = limits if isinstance(limits, dict) else None
        return resumed

    def offered(self, told: dict[str, Any]) -> None:
        """Store the ICE servers of a welcome, or of the answer to `ice`."""
        self.ice_servers = list(told["IceServers"] or ())
        self.ice_ttl = told.get("IceTtl")

    def unwelcomed(self, packet: Packet) -> None:
        """Apply one's own connect packet, from a server that sends no welcome."""
        self.seen.forget()  # others may have left, and count anew
        self.users = {self.user: None}
        self.initiator = self.user if packet.value() else None

    def apply(self, packet: Packet) -> Event | None:
        """Apply a packet; return the event for the application, if any."""
        if packet.event in (wire.CONNECT, wire.DISCONNECT, wire.BROADCAST, wire.ROLE):
            self.received += 1
        user = packet.user
        match packet.event:
            case wire.BROADCAST:
                if self.seen.before(packet):
                    return None
                return Message(user, packet.payload, packet.body)
            case wire.CONNECT if user == self.user:
                return self._promote(user) if packet.value() else None
            case wire.CONNECT:
                self.users.setdefault(user)
                return Joined(user, packet.body["Header"])
            case wire.DISCONNECT:
                self.seen.forget(user)
                self.users.pop(user, None)
                if self.initiator == user:
                    self.initiator = None  # a packet names the next one
                return Left(user)
            case wire.ROLE:
                return self._promote(user)
        return None

    def _promote(self, user: str) -> Role | None:
        known, self.initiator = self.initiator, user
        return None if known == user else Role(user)
