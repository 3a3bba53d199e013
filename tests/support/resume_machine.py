"""A state machine of losses, resumptions, expiries and duplicates, beside a model of section 3.

The model predicts every packet that each client hears after each step. What the clients believe
from these packets alone must be true.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any, ClassVar

from fakes import UNLIMITED, Brief, MakeEngine, World, brief, fake_ice, packet, run
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from resume_model import Seat, Session, Ticket

from videre.engines.history import UNNOTICED
from videre.engines.memory import MemoryEngine
from videre.settings import Duplicate

GRACE = 20.0
KEPT = UNNOTICED + GRACE  # seconds
NAMES = ["a", "b", "c", "__proto__"]
USERS = st.sampled_from(NAMES)
ROOMS = st.sampled_from(["room", "room", "room", "other"])
WHO = st.integers(0, 6)  # an index into the open sessions
AGO = st.sampled_from([0, 0, 0, 1, 1, 2, 5])  # an index into the lost connections


class ResumeMachine(RuleBasedStateMachine):
    """Clients that lose their connections. A subclass sets policy, engine and retention."""

    duplicate: ClassVar[Duplicate] = "replace"
    engine: ClassVar[MakeEngine] = MemoryEngine
    keeps: ClassVar[bool] = True  # whether a backlog may hold anything

    @initialize()
    def begin(self) -> None:
        """Open the namespace and the first sessions."""
        limits = dataclasses.replace(UNLIMITED, max_resume_bytes=None if self.keeps else 0)
        self.world = World(self.engine, duplicate=self.duplicate, limits=limits)
        self.outsider = self.world.client()
        self.rooms: dict[str, list[Seat]] = {}
        self.sessions: list[Session] = []
        self.tickets: list[Ticket] = []
        self.away: list[Seat] = []  # in the order of their losses, which is that of their ends
        self.now = self.world.clock.now
        self.marks = 0
        for user in NAMES:
            self.open()
            self.sessions[-1].client.say(packet("connect", user, "room", {"Welcome": user != "c"}))
            self.takes(self.sessions[-1], user, "room", None, None if user == "c" else {})

    # Steps.

    @precondition(lambda self: len(self.sessions) < 7)
    @rule()
    def open(self) -> None:
        """Open a session."""
        self.sessions.append(Session(self.world.client()))

    @rule(who=WHO, user=USERS, room=ROOMS, welcome=st.booleans())
    def connect(self, who: int, user: str, room: str, welcome: bool) -> None:
        """Connect without a secret: first, again, elsewhere, or under a taken name."""
        session = self.pick(who)
        session.client.say(packet("connect", user, room, {"Welcome": welcome}))
        if self.sits_here(session, user, room, welcome):
            return
        held = self.find(user, room)
        if held is not None and self.duplicate == "reject":
            self.refused(session, "user-taken", user, room)
            return
        self.takes(session, user, room, held, {} if welcome else None)

    @precondition(lambda self: self.tickets)
    @rule(who=WHO, new=st.booleans(), which=AGO, counts=st.booleans(), right=st.integers(0, 4))
    def resume(self, who: int, new: bool, which: int, counts: bool, right: int) -> None:
        """Show a secret: mostly the right one, or else a used or invalid one."""
        if new:
            self.open()
        session = self.sessions[-1] if new else self.pick(who)
        ticket = self.tickets[max(-1 - which, -len(self.tickets))]
        user, room = ticket.user, ticket.room
        secret = ticket.secret if right else "wrong"
        options: dict[str, Any] = {"Resume": secret}
        if counts:
            options["Received"] = ticket.received
        session.client.say(packet("connect", user, room, options))
        if self.sits_here(session, user, room, True):
            return
        held = self.find(user, room)
        if held is not None and not counts and self.duplicate == "reject":
            self.refused(session, "user-taken", user, room)
            return
        if held is None or not counts:
            self.takes(session, user, room, held, {"Resumed": False})
            return
        if held.secret is None or held.secret != secret:
            self.refused(session, "unauthorized", user, room)
            return
        start = ticket.received
        if start < held.dropped:
            self.takes(session, user, room, held, {"Resumed": False})
            return
        self.moves(session, held, held.log[start:])
        # Two clients share the secret: this one's story lacks what the other one got meanwhile.
        session.base, session.exact = ticket.story, ticket.exact

    @rule(who=WHO, cut=st.integers(0, 4))
    def lose(self, who: int, cut: int) -> None:
        """Lose a connection, and perhaps the last packets with it."""
        session = self.member(who)
        seat = session.seat
        self.sessions.remove(session)
        if seat is None or not seat.asked:
            session.client.end()
            if seat is not None:
                self.leaves(seat)
            return
        cut = min(cut, session.received)
        self.tickets.append(session.ticket(cut))
        session.client.end()
        seat.session = None
        seat.due = self.now + GRACE
        self.away.append(seat)

    @rule(who=WHO)
    def copy(self, who: int) -> None:
        """Duplicate a tab: two clients share the secret of a live connection."""
        session = self.member(who)
        if session.seat is not None and session.seat.asked:
            self.tickets.append(session.ticket())

    @rule(who=WHO, by=st.sampled_from(["close", "packet", "kick"]))
    def leave(self, who: int, by: str) -> None:
        """Leave for good, or be removed; the secret then becomes invalid."""
        session = self.member(who)
        seat = session.seat
        if seat is None:
            return
        if seat.asked:
            self.tickets.append(session.ticket())
        if by == "kick":
            run(self.world.rooms.kick(seat.room, seat.user))
            session.code = 4504
        elif by == "packet":
            session.client.say(packet("disconnect", seat.user, seat.room))
        else:
            session.client.end(clean=True)
            self.sessions.remove(session)
        self.leaves(seat)

    @rule(who=WHO, to=st.none() | st.lists(st.sampled_from([*NAMES, "x"]), min_size=1, max_size=3))
    def broadcast(self, who: int, to: list[str] | None) -> None:
        """Broadcast to all, or to some."""
        session = self.member(who)
        if (seat := session.seat) is None:
            return
        self.marks += 1
        seat.last_id = self.marks
        head: dict[str, Any] = {"Id": self.marks} if to is None else {"Id": self.marks, "To": to}
        session.client.say(packet("broadcast", seat.user, seat.room, self.marks, **head))
        for member in self.rooms[seat.room]:
            if member is not seat and (to is None or member.user in to):
                self.deliver(member, ("broadcast", seat.user, seat.room, self.marks))
        self.forget(self.rooms[seat.room])
        if any(self.find(user, seat.room) is None for user in to or ()):
            self.refused(session, "no-such-user", seat.user, seat.room)

    @rule(who=WHO, room=ROOMS)
    def ping(self, who: int, room: str) -> None:
        """Ping: the answer does not count."""
        self.pings(self.pick(who), room)

    @rule(seconds=st.sampled_from([0.0, 1.0, 7.0, 13.0, GRACE, 50.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass: graces end, in order."""
        self.world.clock.advance(seconds)
        end = self.now + seconds
        for seat in [seat for seat in self.away if seat.due <= end]:
            self.now = seat.due
            self.leaves(seat)
        self.now = end

    # The model.

    def pick(self, who: int) -> Session:
        """Return an open session, a new one if there is none."""
        if not self.sessions:
            self.open()
        return self.sessions[who % len(self.sessions)]

    def member(self, who: int) -> Session:
        """Return a session with a seat, or any if there is none."""
        seated = [session for session in self.sessions if session.seat is not None]
        return seated[who % len(seated)] if seated else self.pick(who)

    def find(self, user: str, room: str) -> Seat | None:
        """Return a user's seat in a room."""
        return next((seat for seat in self.rooms.get(room, ()) if seat.user == user), None)

    def names(self, room: str) -> str:
        """Return the answer to a ping for a room."""
        return json.dumps([seat.user for seat in self.rooms.get(room, ())], separators=(",", ":"))

    def pings(self, session: Session, room: str) -> None:
        """Ping a room."""
        session.client.say(packet("ping", "me", room))
        session.expected.append(("ping", "me", room, self.names(room)))

    def deliver(self, seat: Seat, heard: Brief) -> None:
        """Send a counted packet to a member, seated or in grace."""
        seat.history.append(heard)
        seat.log.append(heard)
        seat.times.append(self.now)
        if seat.session is not None:
            seat.session.expected.append(heard)

    def forget(self, members: list[Seat]) -> None:
        """Drop the entries that are too old or too many when a room hears something."""
        if not any(seat.asked for seat in members):
            return  # no member could resume, so nothing is recorded
        if not self.keeps:
            for seat in members:
                seat.dropped = len(seat.log)
        for seat in [seat for room in self.rooms.values() for seat in room]:
            while seat.dropped < len(seat.log) and seat.times[seat.dropped] < self.now - KEPT:
                seat.dropped += 1

    def greet(self, seat: Seat, more: dict[str, Any]) -> None:
        """Send a welcome, which restarts the member's count."""
        members = self.rooms[seat.room]
        users = [member.user for member in members]
        welcome = {"Initiator": users[0], "Users": users, "Grace": GRACE, **fake_ice(seat.user)}
        assert seat.session is not None
        seat.session.expected.append(("welcome", seat.user, seat.room, {**welcome, **more}))
        seat.log, seat.times, seat.dropped, seat.asked = [], [], 0, True

    def role(self, seat: Seat) -> str:
        """Return the role of a member as on the wire."""
        return "true" if self.rooms[seat.room][0] is seat else "false"

    def sits_here(self, session: Session, user: str, room: str, welcome: bool) -> bool:
        """Answer a connect to the sender's own room; return whether it was one."""
        seat = session.seat
        if seat is None or seat.room != room:
            return False
        if seat.user != user:
            self.refused(session, "wrong-user", user, room)
            self.pings(session, room)  # a valid packet: ten bad ones in a row are tested elsewhere
            return True
        session.expected.append(("connect", user, room, self.role(seat)))
        if welcome or seat.asked:
            session.base = list(session.story)
            if not seat.asked:
                session.base, session.exact = [], True
                seat.history.clear()
            self.greet(seat, {})
        return True

    def takes(
        self,
        session: Session,
        user: str,
        room: str,
        held: Seat | None,
        welcome: dict[str, Any] | None,
    ) -> None:
        """Give a session a new seat, which replaces one held there; predict the packets."""
        if held is not None:
            holder = held.session
            self.leaves(held)
            if holder is not None:
                holder.code = 4503
        before = session.seat
        session.seat = seat = Seat(user, room, welcome is not None, session)
        self.rooms.setdefault(room, []).append(seat)
        for member in self.rooms[room]:
            self.deliver(member, ("connect", user, room, self.role(seat)))
        self.forget(self.rooms[room][:-1])
        session.base, session.exact = [], True
        seat.history.clear()
        if welcome is not None:
            self.greet(seat, welcome)
        if before is not None:
            self.leaves(before)

    def moves(self, session: Session, seat: Seat, missed: list[Brief]) -> None:
        """Give a session the seat of a lost or abandoned connection."""
        if seat.session is not None:
            seat.session.code, seat.session.seat = 4503, None
        else:
            self.away.remove(seat)
        before, session.seat, seat.session = session.seat, seat, session
        session.expected.append(("connect", seat.user, seat.room, self.role(seat)))
        history = list(seat.history)
        self.greet(seat, {"Resumed": True, "LastId": seat.last_id})
        for heard in missed:
            self.deliver(seat, heard)
        seat.history = history
        if before is not None:
            self.leaves(before)

    def leaves(self, seat: Seat) -> None:
        """Remove a seat: the others hear it, and the new initiator."""
        members = self.rooms[seat.room]
        promotes = members[0] is seat
        members.remove(seat)
        if seat.session is None:
            self.away.remove(seat)
        elif seat.session.seat is seat:
            seat.session.seat = None
        if not members:
            del self.rooms[seat.room]
        for member in members:
            self.deliver(member, ("disconnect", seat.user, seat.room, ""))
        self.forget(members)
        for member in members if promotes else ():
            heir = members[0]
            if member is heir:
                self.deliver(member, ("connect", heir.user, heir.room, "true"))
            elif member.asked:
                self.deliver(member, ("role", heir.user, heir.room, "true"))
        if promotes:
            self.forget(members)

    def refused(self, session: Session, code: str, user: str, room: str) -> None:
        """Predict an error for a session."""
        if session.seat is not None:
            user, room = session.seat.user, session.seat.room
        session.expected.append(("error", user, room, code))

    # Invariants after each step.

    @invariant()
    def all_is_well(self) -> None:
        """Check the packets first: the beliefs come from them."""
        for session in [*self.sessions]:
            self.it_heard_what_the_model_says(session)
        for room, members in self.rooms.items():
            for seat in members:
                if seat.session is not None:
                    self.its_view_is_right(seat.session, seat, members)
            self.outsider.say(packet("ping", "outsider", room))
            assert self.outsider.heard() == [("ping", "outsider", room, self.names(room))]
        assert len(self.world.rooms) == len(self.rooms)
        assert len(self.world.clock.waiting) == len(self.away)

    def it_heard_what_the_model_says(self, session: Session) -> None:
        """The packets are exactly those predicted; closed sessions have their code."""
        texts = session.client.texts()
        heard: list[tuple[str, str, str, Any]] = []
        for text in texts:
            each = brief(text)
            if each[0] == "welcome":
                payload = json.loads(each[3])
                assert session.seat is not None
                session.seat.secret = payload.pop("Resume")
                each = (*each[:3], payload)
            heard.append(each)
        assert heard == session.expected
        assert session.client.code == session.code
        session.expected.clear()
        for text in texts:
            session.hear(text, session.seat.user if session.seat is not None else "")
        if session.code is not None:  # as a transport does, when the step is over
            session.client.end(clean=True)
            self.sessions.remove(session)

    def its_view_is_right(self, session: Session, seat: Seat, members: list[Seat]) -> None:
        """One initiator, the same for all; the true members; and each packet exactly once."""
        assert session.role == self.role(seat)
        if not seat.asked:
            return
        assert session.initiator == members[0].user
        assert session.users == {member.user for member in members}
        assert session.secret == seat.secret
        if session.exact:
            assert session.story == seat.history
        marks = [payload for event, *_, payload in session.story if event == "broadcast"]
        assert marks == sorted(marks) and len(marks) == len(set(marks))
