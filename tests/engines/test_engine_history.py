"""The history of a room: what each member was sent, and which part of it a member missed."""

from __future__ import annotations

import tracemalloc
from functools import partial
from typing import Any

import pytest
from counting import operations
from fakes import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from videre.engines import Missed, choice
from videre.engines.events import Joined, Left, Sent
from videre.engines.history import History, _packed, _size
from videre.engines.redis import RedisEngine
from videre.settings import Retention


def make(max_bytes: int | None = None, *users: str) -> History:
    """Return a history with a ticket for each user, "a" by default."""
    history = History(max_bytes)
    for user in users or ("a",):
        history.issue(user, f"digest of {user}")
    return history


Event = Joined | Left | Sent


def entry_bytes(event: Event) -> int:
    """Return the bytes of memory that one event takes in a history."""
    return _size(_packed(event, 0.0))


def sent(text: str, user: str = "b", to: Any = None) -> Sent:
    """Return a packet, as a history keeps it."""
    return Sent(user, "", text, to)


def joined(user: str) -> Joined:
    """Return a join, as a history keeps it."""
    return Joined(user, "", ("{", "}"))


def left(user: str, heir: str | None = None) -> Left:
    """Return a leave, as a history keeps it."""
    return Left(user, "", "", heir=heir)


def texts(missed: Missed | None) -> list[str] | None:
    """Return the texts of the missed packets."""
    return None if missed is None else [event.text for event in missed.events]  # type: ignore


@pytest.mark.parametrize(
    ("event", "counts"),
    [
        (sent("text"), {"a": 1, "b": 0, "c": 1}),
        (sent("text", ""), {"a": 1, "b": 1, "c": 1}),
        (sent("text", "b", ("a", "b", "x")), {"a": 1, "b": 0, "c": 0}),
        (sent("text", "b", ()), {"a": 0, "b": 0, "c": 0}),
        (joined("x"), {"a": 1, "b": 1, "c": 1}),
        (left("x"), {"a": 1, "b": 1, "c": 1}),
        (left("x", "a"), {"a": 2, "b": 2, "c": 2}),
    ],
    ids=str,
)
def test_whom_an_event_concerns(event: Event, counts: dict[str, int]) -> None:
    """Packets go to all but the sender, or to those named; joins, leaves and new roles to all."""
    history = make(None, "a", "b", "c")
    history.record(event, 0)
    for user, count in counts.items():
        assert event.concerns(user) * event.packets == count
        assert history.missed(user, 0) == Missed(count, [event] * (count > 0))


def test_missed_events_by_count() -> None:
    """All events after the count are missed; a count beyond the last misses none."""
    history = make()
    for text in "xyz":
        history.record(sent(text), 0)
    answers = [texts(history.missed("a", received)) for received in (0, 1, 3, 9)]
    assert answers == [["x", "y", "z"], ["y", "z"], [], []]


def test_initiators_that_left_in_turn_are_all_missed() -> None:
    """Each leave brings two packets: the disconnect, and the new role."""
    history = make()
    leaves = [left(f"u{number}", f"u{number + 1}") for number in range(5)]
    for event in leaves:
        history.record(event, 0)
    assert history.missed("a", 0) == Missed(10, [*leaves])


def test_a_new_ticket_starts_a_new_count() -> None:
    """Its holder cannot ask for events before the ticket."""
    history = make()
    history.record(sent("x"), 0)
    history.issue("a", "another")
    history.record(sent("y"), 0)
    assert texts(history.missed("a", 0)) == ["y"]
    history.issue("a", "a third", 1)  # whose holder gets the last packet again
    assert texts(history.missed("a", 0)) == ["y"]
    assert texts(history.missed("a", 1)) == []


@pytest.mark.parametrize("text", ["xxxx", "\u00e9\u00e9", "\u20acx", "\U0001f600"])
def test_the_history_is_bounded_in_bytes(text: str) -> None:
    """Texts count as UTF-8, here four bytes an entry; the oldest entry is dropped first."""
    several: list[Event] = [sent(text), Joined("c", "", (text[:1], text[1:])), left("c")]
    assert entry_bytes(several[0]) == entry_bytes(sent("xxxx"))
    history = make(sum(map(entry_bytes, several)))
    for event in several:
        history.record(event, 0)
    assert history.missed("a", 0) == Missed(3, [*several])
    history.record(sent(""), 0)
    assert history.missed("a", 0) is None
    assert history.missed("a", 1) == Missed(3, [*several[1:], sent("")])


def test_an_entry_that_is_too_large_is_a_gap() -> None:
    """It is no failure, and later entries are kept."""
    history = make(entry_bytes(sent("a")))
    for text in ("a", "x" * 6, "b"):
        history.record(sent(text), 0)
    assert [texts(history.missed("a", number)) for number in (0, 1, 2, 3)] == [
        None,
        None,
        ["b"],
        [],
    ]


def test_old_entries_are_forgotten() -> None:
    """Entries before a time go, those at it stay, and the bytes are released."""
    history = make(2 * entry_bytes(sent("x")))
    history.record(sent("x"), 1)
    history.record(sent("y"), 2)
    assert history.forget(1)
    assert texts(history.missed("a", 0)) == ["x", "y"]
    assert history.forget(2)
    assert (history.missed("a", 0), texts(history.missed("a", 1))) == (None, ["y"])
    history.record(sent("z"), 3)
    assert texts(history.missed("a", 1)) == ["y", "z"]
    assert history.forget(9) and history.forget(9)
    assert (history.missed("a", 2), texts(history.missed("a", 3))) == (None, [])


def test_old_entries_are_forgotten_in_slices() -> None:
    """Each call drops a bounded number, and says whether it is done."""
    history = make()
    for text in "xyz":
        history.record(sent(text), 1)
    history.record(sent("new"), 5)
    assert not history.forget(3, 2)
    assert texts(history.missed("a", 2)) == ["z", "new"]
    assert history.forget(3, 2)
    assert texts(history.missed("a", 3)) == ["new"]
    assert history.missed("a", 2) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("x" * 75, 4000),
        ("x" * 65_000, 10),
        ("x" * 65_000 + "\U0001f600", 10),
        ("\u8996" * 500, 400),
    ],
    ids=["small", "large", "emoji", "cjk"],
)
@pytest.mark.parametrize("to", [None, ["somebody"] * 64])
def test_the_counted_bytes_are_the_memory_used(text: str, count: int, to: list[str] | None) -> None:
    """For packets of every kind, memory exceeds the limit by 10 % at the most."""
    limit = 256 * 1024
    tracemalloc.start()
    try:
        history = make(limit)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(count):
            history.record(sent(f"{number:06d}{text}", "b", to), float(number))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.7 * limit < held < 1.1 * limit


@pytest.mark.parametrize("tickets", [1, 1000])
def test_a_packet_costs_the_same_for_any_number_of_tickets(tickets: int) -> None:
    """This holds for a packet to all, and for one to 64 names that nobody has."""
    few, many = make(None, "a"), make(None, *(f"u{number}" for number in range(tickets)))
    packets = [sent("x"), sent("x", to=[f"nobody{number}" for number in range(64)])]
    for event in packets:
        costs = [operations(partial(made.record, event, 0)) for made in (few, many)]
        assert costs[0] == costs[1]


EVENTS = st.one_of(
    st.builds(
        sent,
        st.sampled_from(["", "x", "\u00e9\u00e9", "x" * 7]),
        st.sampled_from(["a", "b", ""]),
        st.none() | st.lists(st.sampled_from("abc"), unique=True).map(tuple),
    ),
    st.builds(joined, st.sampled_from("bc")),
    st.builds(left, st.sampled_from("bc"), st.sampled_from([None, "a", "b"])),
)


@given(
    story=st.lists(st.tuples(EVENTS, st.sampled_from([0, 1, 50])), max_size=20),
    max_bytes=st.sampled_from([0, 60, 130, 400, None]),
)
def test_the_missed_part_is_exactly_the_rest(
    story: list[tuple[Event, int]], max_bytes: int | None
) -> None:
    """After any steps it is the rest in order, or None if part of that is no longer kept.

    The history keeps the longest end of the events that fits and is not too old.
    """
    history = make(max_bytes, "a", "b")
    now, kept = 0, 0
    for number, (event, seconds) in enumerate(story):
        now += seconds
        history.record(event, now)
        history.forget(now - 60)
        times = [sum(seconds for _, seconds in story[: at + 1]) for at in range(number + 1)]
        sizes = [entry_bytes(event) for event, _ in story[: number + 1]]
        while kept <= number and (
            times[kept] < now - 60 or (max_bytes is not None and sum(sizes[kept:]) > max_bytes)
        ):
            kept += 1
    for user in "ab":
        packets = [
            at
            for at, (event, _) in enumerate(story)
            for _ in range(event.concerns(user) * event.packets)
        ]
        for received in range(len(packets) + 2):
            rest = packets[received:]
            expected = None
            if not rest or rest[0] >= kept:
                expected = Missed(len(rest), [story[at][0] for at in dict.fromkeys(rest)])
            assert history.missed(user, received) == expected


async def test_a_store_keeps_packets_for_as_long() -> None:
    """In milliseconds: the grace, and the time in which a loss goes unnoticed."""
    retention = Retention(grace=20.0, max_bytes=7)
    engine = choice.make("redis://127.0.0.1", "room", retention, 10.0, FakeClock().later)
    assert isinstance(engine, RedisEngine)
    store: Any = engine._node.store
    assert store._keep == ("60000", "7")
