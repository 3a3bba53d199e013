"""The history of a room: who was told of what, and what of it a member has missed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import CALM

from videre.engines import Told
from videre.engines.history import History


def make(max_bytes: int | None = None, *users: str) -> History:
    """Return a history with a ticket for each of these, "a" alone unless others are named."""
    history = History(max_bytes)
    for user in users or ("a",):
        history.issue(user, f"digest of {user}")
    return history


def sent(text: str, user: str = "b", to: Any = None) -> Told:
    """Return what is told of a packet."""
    return Told("sent", user, (text,), to)


def texts(missed: list[Told] | None) -> list[str] | None:
    """Return the texts of what was missed."""
    return None if missed is None else ["".join(told.texts) for told in missed]


@pytest.mark.parametrize(
    ("told", "concerned"),
    [
        (sent("text"), "ac"),
        (sent("text", ""), "abc"),
        (sent("text", "b", ("a", "b", "x")), "a"),
        (sent("text", "b", ()), ""),
        (Told("joined", "c", ("{", "}")), "ab"),
        (Told("left", "x"), "abc"),
        (Told("promoted", "a"), "abc"),
    ],
    ids=str,
)
def test_whom_it_concerns(told: Told, concerned: str) -> None:
    """Packets all but the sender, or those who are named; joins the others; promotions all."""
    history = make(None, "a", "b", "c")
    history.record(told, 0)
    counts = {user: ticket.count for user, ticket in history.tickets.items()}
    assert counts == {user: int(user in concerned) for user in "abc"}
    for user in "abc":
        assert history.missed(user, 0) == ([told] if user in concerned else [])


def test_what_is_missed_by_count() -> None:
    """All after what has been got; more than there was is nothing; without a count all was got."""
    history = make()
    for text in "xyz":
        history.record(sent(text), 0)
    answers = [texts(history.missed("a", received)) for received in (0, 1, 3, 9, None)]
    assert answers == [["x", "y", "z"], ["y", "z"], [], [], []]


def test_what_is_missed_by_loss() -> None:
    """After what may have arrived when the connection was lost, if that is known."""
    history = make()
    for text in "xyz":
        history.record(sent(text), 0)
    ticket = history.tickets["a"]
    ticket.lost, ticket.seen = True, 1
    assert texts(history.missed("a", None)) == ["y", "z"]
    assert texts(history.missed("a", 2)) == ["z"]
    ticket.seen = None
    assert (history.missed("a", None), texts(history.missed("a", 2))) == (None, ["z"])


def test_a_new_ticket_counts_anew() -> None:
    """What was told before it is not the holder's to ask for."""
    history = make()
    history.record(sent("x"), 0)
    history.issue("a", "another")
    history.record(sent("y"), 0)
    assert texts(history.missed("a", 0)) == ["y"]


@pytest.mark.parametrize("text", ["xxxx", "\u00e9\u00e9", "\u20acx", "\U0001f600"])
def test_so_many_bytes_are_kept(text: str) -> None:
    """Of UTF-8, of all texts: each of these has four. One more, and the oldest is forgotten."""
    history = make(8)
    history.record(sent(text), 0)
    history.record(Told("joined", "c", (text[:1], text[1:])), 0)
    history.record(Told("left", "c"), 0)
    assert len(history.missed("a", 0) or ()) == 3
    history.record(sent("x"), 0)
    assert history.missed("a", 0) is None
    assert len(history.missed("a", 1) or ()) == 3


def test_what_is_too_large_is_a_gap() -> None:
    """Not a failure; what comes after it is kept again."""
    history = make(5)
    for text in ("a", "x" * 6, "b"):
        history.record(sent(text), 0)
    assert [texts(history.missed("a", number)) for number in (0, 1, 2, 3)] == [
        None,
        None,
        ["b"],
        [],
    ]


def test_what_is_old_is_forgotten() -> None:
    """Before a time, not at it; and its bytes are given back."""
    history = make(2)
    history.record(sent("x"), 1)
    history.record(sent("y"), 2)
    history.forget(1)
    assert texts(history.missed("a", 0)) == ["x", "y"]
    history.forget(2)
    assert (history.missed("a", 0), texts(history.missed("a", 1))) == (None, ["y"])
    history.record(sent("z"), 3)
    assert texts(history.missed("a", 1)) == ["y", "z"]
    history.forget(9)
    history.forget(9)
    assert (history.missed("a", 2), texts(history.missed("a", 3))) == (None, [])


TOLD = st.one_of(
    st.builds(
        Told,
        st.just("sent"),
        st.sampled_from(["a", "b", ""]),
        st.tuples(st.sampled_from(["", "x", "\u00e9\u00e9", "x" * 7])),
        st.none() | st.lists(st.sampled_from("abc"), unique=True).map(tuple),
    ),
    st.builds(Told, st.just("joined"), st.sampled_from("bc"), st.just(("{", "}"))),
    st.builds(Told, st.sampled_from(["left", "promoted"]), st.sampled_from("bc")),
)


@CALM
@given(
    story=st.lists(st.tuples(TOLD, st.sampled_from([0, 1, 50])), max_size=20),
    max_bytes=st.sampled_from([0, 10, 40, None]),
    seen=st.none() | st.integers(0, 20),
)
def test_what_is_missed_is_exactly_the_rest(
    story: list[tuple[Told, int]], max_bytes: int | None, seen: int | None
) -> None:
    """Whatever is told, forgotten and received: the rest, in order; or None, where it is not kept.

    What is kept is the longest end of the story that fits, and is not too old.
    """
    history = make(max_bytes, "a", "b")
    now, kept = 0, 0
    for number, (told, seconds) in enumerate(story):
        now += seconds
        history.record(told, now)
        history.forget(now - 60)
        times = [sum(seconds for _, seconds in story[: at + 1]) for at in range(number + 1)]
        sizes = [sum(len(text.encode()) for text in told.texts) for told, _ in story[: number + 1]]
        while kept <= number and (
            times[kept] < now - 60 or (max_bytes is not None and sum(sizes[kept:]) > max_bytes)
        ):
            kept += 1
    for user in "ab":
        places = [at for at, (told, _) in enumerate(story) if told.concerns(user)]
        for received in range(len(places) + 1):
            rest = places[received:]
            expected = [story[at][0] for at in rest] if not rest or rest[0] >= kept else None
            assert history.missed(user, received) == expected
        ticket = history.tickets[user]
        assert ticket.count == len(places)
        ticket.lost, ticket.seen = True, None if seen is None else min(seen, len(places))
        if seen is None:
            assert history.missed(user, None) is None
        else:
            assert history.missed(user, None) == history.missed(user, min(seen, len(places)))
