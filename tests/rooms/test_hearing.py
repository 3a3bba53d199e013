"""A member receives the same for an event whether it is live or resumes."""

from __future__ import annotations

import itertools

import pytest
from fakes import FakeClock, FakeConnection, FakeLog, brief, run
from hypothesis import given
from hypothesis import strategies as st

from videre.engines.events import Dropped, Event, Found, Joined, Left, Moved, Sent
from videre.engines.memory import MemoryEngine
from videre.rooms import Rooms
from videre.rooms.hearing import packets_for, promotion_for
from videre.rooms.room import Seat

HALVES = ('{"Header":{"Event":"connect","UserId":"x","RoomId":"room"},"Payload":', "}")
TEXT = '{"Header":{"Event":"broadcast","UserId":"x","RoomId":"room"},"Payload":1}'


def room_of(*users: str, welcome: str = "") -> tuple[Rooms, dict[str, Seat]]:
    """Return a room in which these users have joined; those in `welcome` asked for one."""
    numbers = itertools.count()
    rooms = Rooms(
        MemoryEngine(clock=FakeClock(), later=FakeClock().later),
        clock=FakeClock(),
        log=FakeLog(),
        spawn=run,
        secret=lambda: f"secret-{next(numbers)}",
        grace=20.0,
    )
    run(rooms.start())
    seats = {}
    for user in users:
        greeting: dict[str, object] | None = {} if user in welcome else None
        joining = rooms.join(user, "room", FakeConnection(), HALVES, welcome=greeting)
        seats[user] = run(joining)
        for seat in seats.values():
            seat.connection.take()
    return rooms, seats


@pytest.mark.parametrize(
    ("event", "heard"),
    [
        (Joined("x", "9", HALVES), [("connect", "x", "room", "false")]),
        (Left("x", "9", "why"), [("disconnect", "x", "room", "")]),
        (
            Left("x", "9", "why", heir="a"),
            [("disconnect", "x", "room", ""), ("connect", "a", "room", "true")],
        ),
        (
            Left("x", "9", "why", heir="b"),
            [("disconnect", "x", "room", ""), ("role", "b", "room", "true")],
        ),
        (Sent("x", "9", TEXT), [("broadcast", "x", "room", 1)]),
        (Sent("x", "9", TEXT, ("b", "a")), [("broadcast", "x", "room", 1)]),
        (Sent("x", "9", TEXT, ("b",)), []),
        (Sent("a", "0", TEXT), []),
        (Sent("a", "0", TEXT, ("a",)), []),
        (Moved("x", "9", "10"), []),
        (Found([("x", "9")]), []),
        (Dropped(), []),
    ],
    ids=str,
)
def test_packets_of_each_event(event: Event, heard: list[tuple[str, ...]]) -> None:
    """The member has asked for a welcome."""
    _, seats = room_of("a", "b", welcome="a")
    told = packets_for(event, seats["a"])
    assert [brief(text) for _, text in told] == heard
    assert [kind for kind, _ in told] == [each[0] for each in heard]
    assert len(told) == event.concerns("a") * event.packets


def test_without_a_welcome_no_roles_are_heard() -> None:
    """Such a member hears its own role and each leave."""
    _, seats = room_of("a", "b")
    assert promotion_for("b", seats["a"]) == ()
    assert [kind for kind, _ in promotion_for("a", seats["a"])] == ["connect"]
    assert len(packets_for(Left("x", "9", "why", heir="b"), seats["a"])) == 1


def test_the_first_member_hears_its_role() -> None:
    """Its own connect says "true", a later member's says "false"."""
    _, seats = room_of("a", "b")
    for user, role in (("a", "true"), ("b", "false")):
        ((_, text),) = packets_for(Joined(user, seats[user].id, HALVES), seats[user])
        assert brief(text)[3] == role


def test_all_members_get_one_text() -> None:
    """All get the same object, so that a transport frames it once."""
    _, seats = room_of("a", "b", "c", welcome="abc")
    for event in (Joined("x", "9", HALVES), Left("x", "9", "why", heir="a")):
        told = [packets_for(event, seats[user]) for user in "bc"]
        assert all(one[1] is other[1] for one, other in zip(*told, strict=True))


def test_a_state_announces_its_members_in_one_text() -> None:
    """All members get the same object, and an initiator that is not first loses its role."""
    rooms, seats = room_of("a", "b", "c", welcome="bc")
    places = [("x", "9"), *((user, seat.id) for user, seat in seats.items())]
    rooms._replica.hear("room", Found(places))
    a, b, c = (seat.connection.take() for seat in seats.values())  # type: ignore[attr-defined]
    assert a[1] is b[0] is c[0] and b[1] is c[1]
    assert [brief(text) for text in a] == [
        ("connect", "a", "room", "false"),
        ("connect", "x", "room", "false"),
    ]
    assert brief(b[1]) == ("role", "x", "room", "true")


EVENTS = st.one_of(
    st.builds(Joined, st.just("x"), st.just("9"), st.just(HALVES)),
    st.builds(Left, st.just("a"), st.just("0"), st.just("why"), heir=st.just("b")),
    st.builds(Left, st.just("c"), st.just("2"), st.just("why")),
    st.builds(
        Sent,
        st.sampled_from(["a", "b", "c", ""]),
        st.just("s"),
        st.just(TEXT),
        st.none() | st.lists(st.sampled_from("abcx"), unique=True),
    ),
)


@given(EVENTS, st.sets(st.sampled_from("abc")))
def test_live_and_missed_packets_are_equal(event: Event, welcome: set[str]) -> None:
    """Each member gets live the packets that it would get on resuming."""
    rooms, seats = room_of("a", "b", "c", welcome="".join(welcome))
    told = {user: [text for _, text in packets_for(event, seat)] for user, seat in seats.items()}
    wires = {user: seat.connection for user, seat in seats.items()}
    rooms._replica.hear("room", event)
    gone = event.user if isinstance(event, Left) else ""
    for user in seats:
        heard = wires[user].take()  # type: ignore[attr-defined]
        assert heard == ([] if user == gone else told[user])
