"""The state of a room follows from its events, and so does what a member receives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videre.engines.events import (
    Dropped,
    Event,
    Found,
    Joined,
    Left,
    Moved,
    Sent,
)
from videre.engines.state import RoomState

HALVES = ("{", "}")
SEATS = (("a", "1"), ("b", "2"), ("c", "3"))


def state_of(*members: tuple[str, str]) -> RoomState:
    """Return a room in which these users have joined in this order."""
    state = RoomState()
    for user, seat in members:
        assert state.apply(Joined(user, seat, HALVES))
    return state


@pytest.mark.parametrize(
    ("event", "counts", "members"),
    [
        (Joined("d", "4", HALVES), True, [*SEATS, ("d", "4")]),
        (Joined("a", "4", HALVES), True, [*SEATS[1:], ("a", "4")]),
        (Moved("a", "1", "4"), True, [("a", "4"), *SEATS[1:]]),
        (Moved("b", "2", "4"), True, [SEATS[0], ("b", "4"), SEATS[2]]),
        (Moved("a", "2", "4"), False, [*SEATS]),
        (Moved("d", "4", "5"), False, [*SEATS]),
        (Left("a", "1", "why", heir="b"), True, [*SEATS[1:]]),
        (Left("c", "3", "why"), True, [*SEATS[:2]]),
        (Left("a", "2", "why"), False, [*SEATS]),
        (Left("d", "4", "why"), False, [*SEATS]),
        (Sent("a", "1", "text"), True, [*SEATS]),
        (Sent("", "", "text", ("b",)), True, [*SEATS]),
        (Found([("c", "3"), ("d", "4"), ("a", "5")]), True, [("c", "3"), ("d", "4"), ("a", "5")]),
        (Found([]), True, []),
        (Dropped(), True, []),
    ],
    ids=str,
)
def test_the_state_after_an_event(
    event: Event, counts: bool, members: list[tuple[str, str]]
) -> None:
    """Each row is one case; an event about a seat that is gone changes nothing, and says so."""
    state = state_of(*SEATS)
    assert state.apply(event) is counts
    assert list(state.members.items()) == members
    assert state.initiator == (members[0][0] if members else None)


def test_a_state_does_not_share_its_event() -> None:
    """Later changes do not alter the event, which others receive as well."""
    event = Found([("a", "1")])
    state = RoomState()
    state.apply(event)
    state.apply(Joined("b", "2", HALVES))
    assert event == Found([("a", "1")])


@pytest.mark.parametrize(("user", "heir"), [("a", "b"), ("b", None), ("c", None), ("nobody", None)])
def test_who_is_promoted(user: str, heir: str | None) -> None:
    """The next member, when the first one leaves; otherwise nobody."""
    assert state_of(*SEATS).heir(user) == heir
    assert state_of(SEATS[0]).heir("a") is None
    assert RoomState().heir(user) is None


def test_who_holds_a_seat() -> None:
    """Only the user that has exactly this seat."""
    state = state_of(*SEATS)
    assert [state.holds(*place) for place in (("a", "1"), ("a", "2"), ("d", "4"))] == [
        *(True, False, False)
    ]


@pytest.mark.parametrize(
    ("event", "concerned", "packets"),
    [
        (Joined("d", "4", HALVES), "abc", 1),
        (Left("d", "4", "why"), "abc", 1),
        (Left("d", "4", "why", heir="a"), "abc", 2),
        (Sent("a", "1", "text"), "bc", 1),
        (Sent("", "", "text"), "abc", 1),
        (Sent("a", "1", "text", ("a", "c", "x")), "c", 1),
        (Sent("a", "1", "text", ()), "", 1),
        (Moved("a", "1", "4"), "", 0),
        (Found([("a", "1")]), "", 0),
        (Dropped(), "", 0),
    ],
    ids=str,
)
def test_packets_of_an_event(event: Event, concerned: str, packets: int) -> None:
    """They depend on whom it concerns; some members get two."""
    for user in "abc":
        assert event.concerns(user) is (user in concerned)
    assert event.packets == packets


USERS = st.sampled_from("abcd")
PLACES = st.sampled_from("1234")
EVENTS = st.one_of(
    st.builds(Joined, USERS, PLACES, st.just(HALVES)),
    st.builds(Moved, USERS, PLACES, PLACES),
    st.builds(Left, USERS, PLACES, st.just("why")),
    st.builds(Sent, USERS, PLACES, st.just("text")),
    st.builds(Found, st.lists(st.tuples(USERS, PLACES), unique_by=lambda place: place[0])),
    st.just(Dropped()),
)


@given(st.lists(EVENTS, max_size=20))
def test_one_initiator_and_one_heir(story: list[Event]) -> None:
    """After any events the first member is the initiator, and the named heir inherits."""
    state = RoomState()
    for event in story:
        before, heir = state.initiator, None
        if isinstance(event, Left) and state.holds(event.user, event.seat):
            heir = state.heir(event.user)
        stays = len(state.members) - (isinstance(event, Left) and state.apply(event))
        if isinstance(event, Left):
            assert len(state.members) == stays
            assert state.initiator == (heir or (before if stays else None))
        else:
            state.apply(event)
        assert (state.initiator is None) == (not state.members)
