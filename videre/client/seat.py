"""A client's seat: what it knows of its room, and what the server needs to know to give it back."""

from __future__ import annotations

from typing import Any

from videre.client import wire
from videre.client.again import Seen
from videre.client.events import Event, Joined, Left, Message, Role
from videre.client.wire import Packet


class Seat:
    """The seat of `user`, kept up to date by all packets that come for it."""

    def __init__(self, user: str) -> None:
        self.user = user
        self.users: list[str] = []
        self.initiator: str | None = None
        self.ice_servers: list[dict[str, Any]] = []
        self.ice_ttl: float | None = None  # seconds for which they are good
        self.secret: str | None = None
        self.received = 0  # packets that the server counts too, since the welcome
        # After a resume, the id of the last broadcast that the server has got; None: it cannot say.
        self.last: int | None = None
        self.limits: dict[str, Any] | None = None  # as the server says; None: it does not
        self._seen = Seen()

    def asks(self) -> dict[str, Any]:
        """Return what a connect packet asks for, so as to get this seat back."""
        if self.secret is None:
            return {"Welcome": True}
        return {"Welcome": True, "Resume": self.secret, "Received": self.received}

    def welcome(self, told: dict[str, Any]) -> bool:
        """Take a seat as a welcome describes it; tell whether it is the one that was lost."""
        resumed = told.get("Resumed") is True
        if not resumed:
            # Of a kept seat all is known, and the packets that come next tell the rest: the
            # welcome is ahead of them.
            self.users = list(told["Users"])
            self.initiator = told["Initiator"]
            self._seen.forget()
        self.secret = told["Resume"]
        self.received = 0
        last = told.get("LastId", ...)
        self.last = 0 if last is None else last if isinstance(last, int) else None
        self.offered(told)
        limits = told.get("Limits")
        self.limits = limits if isinstance(limits, dict) else None
        return resumed

    def offered(self, told: dict[str, Any]) -> None:
        """Take the ICE servers of a welcome, or of the answer to `ice`."""
        self.ice_servers = list(told["IceServers"] or ())
        self.ice_ttl = told.get("IceTtl")

    def unwelcomed(self, packet: Packet) -> None:
        """Take a seat as one's own connect packet tells, from a server that has no welcome."""
        self.users = [self.user]
        self.initiator = self.user if packet.value() else None

    def apply(self, packet: Packet) -> Event | None:
        """Take in a packet, and return what the application is to know of it."""
        if packet.event in (wire.CONNECT, wire.DISCONNECT, wire.BROADCAST, wire.ROLE):
            self.received += 1
        user = packet.user
        match packet.event:
            case wire.BROADCAST:
                if self._seen.before(packet):
                    return None
                return Message(user, packet.payload, packet.body)
            case wire.CONNECT if user == self.user:
                return self._promote(user) if packet.value() else None
            case wire.CONNECT:
                if user not in self.users:
                    self.users.append(user)
                return Joined(user, packet.body["Header"])
            case wire.DISCONNECT:
                self._seen.forget(user)
                if user in self.users:
                    self.users.remove(user)
                if self.initiator == user:
                    self.initiator = None  # the next one is told
                return Left(user)
            case wire.ROLE:
                return self._promote(user)
        return None

    def _promote(self, user: str) -> Role | None:
        known, self.initiator = self.initiator, user
        return None if known == user else Role(user)
