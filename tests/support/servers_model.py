"""The model of a server with tokens and limits, after protocol.md: what each client must hear."""

from __future__ import annotations

import json
from typing import Any

from fakes import Brief
from inprocess import Client

CAPACITY, MAX_ROOMS = 3, 2
BURST = 80  # packets and pings of a session; no allowance returns


class Session:
    """A client, and the model's view of it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.place: tuple[str, str] | None = None  # user, room
        self.bad = 0  # refused in a row
        self.packets = 0  # pings have their own rate
        self.code: int | None = None
        self.expected: list[Brief] = []

    def expect(self, event: str, user: str, room: str, payload: Any) -> None:
        """Predict a packet for this step."""
        self.expected.append((event, user, room, payload))

    def refused(self, code: str, user: str, room: str, *, bad: bool = False) -> None:
        """Predict an error; the tenth bad packet in a row is the last."""
        self.expect("error", *(self.place or (user, room)), code)
        self.bad += bad
        if self.bad == 10:
            self.code = 4500

    def spends(self, user: str, room: str) -> bool:
        """Return whether a packet passes the rate; predict the error if not."""
        self.packets += 1
        if self.packets == BURST + 1:
            self.refused("rate-limited", user, room)
        if self.packets > 2 * BURST:
            self.code = 4003
        return self.packets <= BURST


class Model:
    """The members of all rooms, after protocol.md."""

    def __init__(self) -> None:
        self.rooms: dict[str, list[Session]] = {}  # in joining order
        self.failures = 0  # refused tokens

    def judge(self, kind: str, room: str) -> str | None:
        """Return the error code that a token of this kind gets for a room."""
        if kind in ("good", "a list") or (kind == "prefix" and room != "other"):
            return None
        self.failures += kind != "none"
        return "token-expired" if kind == "expired" else "unauthorized"

    def connect(self, session: Session, user: str, room: str, kind: str, most: int | None) -> None:
        """Predict a connect with a token."""
        if not session.spends(user, room):
            return
        old = session.place
        here = old is not None and old[1] == room
        if here and old != (user, room):
            session.refused("wrong-user", user, room, bad=True)
            return
        if code := self.judge(kind, room):
            session.refused(code, user, room)
            return
        members = self.rooms.get(room)
        if here:
            session.expect("connect", user, room, self.role(session))
            session.bad = 0
            return
        twin = next((each for each in members or () if each.place == (user, room)), None)
        if twin is not None:
            twin.code = 4503
            self.leave(twin)
        elif self.is_full(room, most):
            session.refused("room-full", user, room)
            return
        session.bad = 0
        session.place = (user, room)
        joined = self.rooms.setdefault(room, [])
        joined.append(session)
        for member in joined:
            member.expect("connect", user, room, self.role(session))
        if old is not None:
            self._leave(session, *old)

    def is_full(self, room: str, most: int | None) -> bool:
        """Return whether a room has no place, or there may be no further room."""
        if room not in self.rooms:
            return len(self.rooms) >= MAX_ROOMS
        return len(self.rooms[room]) >= (most or CAPACITY)

    def leave(self, session: Session) -> None:
        """Take a session out of its room, if it is in one."""
        if (old := session.place) is not None:
            session.place = None
            self._leave(session, *old)

    def _leave(self, session: Session, user: str, room: str) -> None:
        members = self.rooms[room]
        promotes = members[0] is session
        members.remove(session)
        for member in members:
            member.expect("disconnect", user, room, "")
        if not members:
            del self.rooms[room]
        elif promotes and members[0].place:
            members[0].expect("connect", members[0].place[0], room, "true")

    def may(self, session: Session, user: str, room: str) -> bool:
        """Return whether a session may act as a user in a room; if not, predict the error."""
        if not session.spends(user, room):
            return False
        if session.place is None or session.place[1] != room:
            session.refused("not-in-room", user, room, bad=True)
        elif session.place[0] != user:
            session.refused("wrong-user", user, room, bad=True)
        else:
            session.bad = 0
            return True
        return False

    def role(self, session: Session) -> str:
        """Return the Payload of a member's role."""
        assert session.place is not None
        return "true" if self.rooms[session.place[1]][0] is session else "false"

    def ping(self, session: Session, user: str, room: str) -> None:
        """Predict the answer to a ping, which members alone get."""
        if session.place is None or session.place[1] != room:
            session.refused("unauthorized", user, room)
            return
        session.bad = 0
        names = [member.place[0] for member in self.rooms[room] if member.place]
        session.expect("ping", user, room, json.dumps(names, separators=(",", ":")))
