"""A state machine that lets many peers come and go, beside a model of protocol.md's section 2.

The model predicts every packet that each client hears after each step. Each client also has a
Witness that believes only these packets, like the real client; the witnesses' beliefs must agree.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, ClassVar

from fakes import Brief, FakeClient, World, packet
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from videre.engines import Engine
from videre.engines.memory import MemoryEngine
from videre.settings import Duplicate

USERS = st.sampled_from(["a", "b", "c", "__proto__"])
ROOMS = ["room", "other", "constructor"]
IN_ROOMS = st.sampled_from(ROOMS)
WHO = st.integers(0, 7)  # an index into the open sessions

BAD = {
    "malformed-packet": "nonsense",
    "invalid-packet": json.dumps({"Header": {"Event": "ping"}, "Payload": 1}),
}

Place = tuple[str, str]  # user, room


class Witness:
    """A client's beliefs, from the packets it got."""

    def __init__(self) -> None:
        self.asked: Place | None = None  # from its last connect
        self.place: Place | None = None
        self.role = ""
        self.story: list[tuple[str, str]] = []  # joins and leaves since its own

    def hear(self, heard: Brief) -> None:
        """Process a packet."""
        event, user, room, payload = heard
        if event == "error":
            self.asked = None
        if event in ("error", "ping", "broadcast"):
            return
        if event == "connect" and (user, room) in (self.place, self.asked):
            if self.place != (user, room):
                self.place, self.story = (user, room), [("connect", user)]
            self.role = payload
            return
        assert self.place is not None and self.place[1] == room, "of a room it is not in"
        assert self.place[0] != user, "its own disconnect"
        self.story.append((event, user))


class Session:
    """A client, the model's view of it, and its witness."""

    def __init__(self, client: FakeClient) -> None:
        self.client = client
        self.witness = Witness()
        self.place: Place | None = None
        self.bad = 0
        self.code: int | None = None  # the code of its close
        self.expected: list[Brief] = []

    def expect(self, event: str, user: str, room: str, payload: Any) -> None:
        """Predict a packet for this step."""
        self.expected.append((event, user, room, payload))


class RoomsMachine(RuleBasedStateMachine):
    """Peers in rooms. A subclass sets the policy and the engine."""

    duplicate: ClassVar[Duplicate] = "replace"
    engine: ClassVar[type[Engine]] = MemoryEngine

    @initialize()
    def begin(self) -> None:
        """Open the namespace and the first sessions."""
        self.world = World(self.engine, duplicate=self.duplicate)
        self.outsider = self.world.client()
        self.rooms: dict[str, list[Session]] = {}  # the model: members in joining order
        self.sessions: list[Session] = []
        self.ended: list[Session] = []  # in this step
        for _ in range(3):
            self.open()

    # Steps.

    @precondition(lambda self: len(self.sessions) < 8)
    @rule()
    def open(self) -> None:
        """Open a session."""
        self.sessions.append(Session(self.world.client()))

    @rule(who=WHO, user=USERS, room=IN_ROOMS)
    def connect(self, who: int, user: str, room: str) -> None:
        """Connect: first, again, elsewhere, or under a taken name."""
        if (session := self.pick(who)) is None:
            return
        session.witness.asked = (user, room)
        self.say(session, "connect", user, room)
        old = session.place
        if old is not None and old[1] == room:
            if old[0] == user:
                session.expect("connect", user, room, self.role(session))
                session.bad = 0
            else:
                self.refused(session, "wrong-user", user, room)
            return
        holder = next((m for m in self.rooms.get(room, ()) if m.place == (user, room)), None)
        if holder is not None and self.duplicate == "reject":
            self.refused(session, "user-taken", user, room, bad=False)
            return
        if holder is not None:
            self.leaves(holder)
            holder.code = 4503
        self.joins(session, user, room)
        if old is not None:
            self.leaves(session, old)
        session.bad = 0

    @rule(who=WHO, own=st.booleans(), user=USERS, room=IN_ROOMS, mark=st.integers(0, 9))
    def broadcast(self, who: int, own: bool, user: str, room: str, mark: int) -> None:
        """Broadcast under any name, in any room, allowed or not."""
        if (session := self.pick(who)) is None:
            return
        user, room = session.place if own and session.place else (user, room)
        self.say(session, "broadcast", user, room, mark)
        if self.may(session, user, room):
            for member in self.rooms[room]:
                if member is not session:
                    member.expect("broadcast", user, room, mark)

    @rule(who=WHO, own=st.booleans(), user=USERS, room=IN_ROOMS)
    def disconnect(self, who: int, own: bool, user: str, room: str) -> None:
        """Send a disconnect packet, for the own seat or another."""
        if (session := self.pick(who)) is None:
            return
        user, room = session.place if own and session.place else (user, room)
        if session.witness.place == (user, room):
            session.witness.place = session.witness.asked = None
        self.say(session, "disconnect", user, room)
        if self.may(session, user, room):
            self.leaves(session)

    @rule(who=WHO, own=st.booleans(), user=USERS, room=IN_ROOMS)
    def ping(self, who: int, own: bool, user: str, room: str) -> None:
        """Ping the own room with the same packet as before, or any room."""
        if (session := self.pick(who)) is None:
            return
        user, room = session.place if own and session.place else (user, room)
        self.say(session, "ping", user, room)
        session.expect("ping", user, room, self.users(room))
        session.bad = 0

    @rule(who=WHO, code=st.sampled_from(sorted(BAD)), times=st.integers(1, 10))
    def bad(self, who: int, code: str, times: int) -> None:
        """Send bad packets until the session is closed for them."""
        if (session := self.pick(who)) is None:
            return
        for _ in range(times):
            if session.code is None:
                session.client.say(BAD[code])
                self.refused(session, code, "", "")

    @rule(who=WHO, clean=st.booleans())
    def close(self, who: int, clean: bool) -> None:
        """Close or lose a connection."""
        if (session := self.pick(who)) is None:
            return
        self.sessions.remove(session)
        session.client.end(clean=clean)
        if session.place is not None:
            self.leaves(session)
        self.ended.append(session)

    # The model.

    def pick(self, who: int) -> Session | None:
        """Return one of the open sessions."""
        return self.sessions[who % len(self.sessions)] if self.sessions else None

    def say(self, session: Session, event: str, user: str, room: str, payload: Any = "{}") -> None:
        """Send a packet."""
        session.client.say(packet(event, user, room, payload))

    def role(self, session: Session) -> str:
        """Return the role of a member as on the wire."""
        assert session.place is not None
        return "true" if self.rooms[session.place[1]][0] is session else "false"

    def users(self, room: str) -> str:
        """Return the answer to a ping for a room."""
        names = [member.place[0] for member in self.rooms.get(room, ()) if member.place]
        return json.dumps(names, separators=(",", ":"))

    def joins(self, session: Session, user: str, room: str) -> None:
        """Add a session to a room: every member hears it."""
        members = self.rooms.setdefault(room, [])
        members.append(session)
        session.place = (user, room)
        for member in members:
            member.expect("connect", user, room, self.role(session))

    def leaves(self, session: Session, old: Place | None = None) -> None:
        """Remove a session from its room (`old`: it has a new seat already): others hear it."""
        user, room = old or session.place  # type: ignore[misc]
        members = self.rooms[room]
        promotes = members[0] is session
        members.remove(session)
        if old is None:
            session.place = None
        for member in members:
            member.expect("disconnect", user, room, "")
        if not members:
            del self.rooms[room]
        elif promotes:
            members[0].expect("connect", members[0].place[0], room, "true")  # type: ignore[index]

    def may(self, session: Session, user: str, room: str) -> bool:
        """Return whether a session may act as a user in a room; if not, predict the error."""
        if session.place is None or session.place[1] != room:
            self.refused(session, "not-in-room", user, room)
        elif session.place[0] != user:
            self.refused(session, "wrong-user", user, room)
        else:
            session.bad = 0
            return True
        return False

    def refused(
        self, session: Session, code: str, user: str, room: str, *, bad: bool = True
    ) -> None:
        """Predict an error for a session; the tenth in a row is the last."""
        user, room = session.place or (user, room)
        session.expect("error", user, room, code)
        session.bad += bad
        if session.bad == 10:
            session.code = 4500
            if session.place is not None:
                self.leaves(session)

    # Invariants after each step.

    @invariant()
    def all_is_well(self) -> None:
        """Check the packets first: the beliefs come from them."""
        self.everybody_heard_what_the_model_says()
        self.the_members_agree()
        self.a_ping_equals_the_model()
        self.empty_rooms_are_gone()
        self.the_census_is_a_walk()

    def everybody_heard_what_the_model_says(self) -> None:
        """Each client heard exactly the predicted packets; closed ones have their code."""
        for session in [*self.sessions]:
            if session.client.code is not None:  # as a transport does, when the step is over
                session.client.end()
                self.sessions.remove(session)
                self.ended.append(session)
        for session in [*self.sessions, *self.ended]:
            heard = session.client.heard()
            assert heard == session.expected
            assert session.client.code == session.code
            for each in heard:
                session.witness.hear(each)
            session.expected.clear()
        self.ended.clear()

    def the_members_agree(self) -> None:
        """One of them believes to be the initiator; all have seen the same since each joined."""
        for room, members in self.rooms.items():
            witnesses = [member.witness for member in members]
            assert [w.place for w in witnesses] == [member.place for member in members]
            assert [w.role for w in witnesses] == ["true"] + ["false"] * (len(members) - 1), room
            longest = witnesses[0].story
            for witness in witnesses:
                assert witness.story == longest[len(longest) - len(witness.story) :]

    def a_ping_equals_the_model(self) -> None:
        """An outsider's ping lists each room's members in joining order."""
        for room in ROOMS:
            self.outsider.say(packet("ping", "outsider", room))
            assert self.outsider.heard() == [("ping", "outsider", room, self.users(room))]

    def empty_rooms_are_gone(self) -> None:
        """Nothing is kept of a room without members, or of a refused join."""
        assert len(self.world.rooms) == len(self.rooms)
        memory: Any = getattr(self.world.engine, "_memory", self.world.engine)
        assert set(memory._rooms) == set(self.rooms)
        assert self.world.rooms._replica.joining == {}

    def the_census_is_a_walk(self) -> None:
        """Counters updated with each change equal a walk through all rooms."""
        census, replica = self.world.rooms.census, self.world.rooms._replica
        walked = {room.name: len(room.seats) for room in replica.rooms.values()}
        assert dict(census.largest(len(walked) + 1)) == walked
        assert dict(census.sizes()) == Counter(walked.values())
        assert census.members == sum(walked.values())
