"""The histories of all rooms: their sum is right and bounded, and the largest pay."""

from __future__ import annotations

from functools import partial

import pytest
from counting import Unwalkable, operations
from engine_contract import HALVES, Recorder
from fakes import FakeClock, memory_engine, run
from growth import check
from hypothesis import given
from hypothesis import strategies as st

from videre.engines import Gap, Missed
from videre.engines.events import Sent
from videre.engines.histories import Histories
from videre.settings import JoinPolicy, Retention

BOUND = "videre.engines.histories.MAX_HISTORIES"


def made(max_bytes: int | None = None, clock: FakeClock | None = None) -> Histories:
    """Return histories without an entry."""
    return Histories(clock or FakeClock(), Retention(max_bytes=max_bytes))


def say(histories: Histories, room: str, size: int, times: int = 1) -> None:
    """Record packets of `size` characters in a room in which a member may resume."""
    if room not in histories.rooms:
        histories.issue(room, "a", "ticket")
    for _ in range(times):
        histories.record(room, Sent("b", "seat", "x" * size))


def sizes(histories: Histories) -> dict[str, int]:
    """Return the bytes of each history."""
    return {str(room): history.bytes for room, history in histories.rooms.items()}


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["say", "say", "leave", "wait"]),
        st.sampled_from([0, 10, 300, 900]),
    ),
    max_size=40,
)


@given(STEPS, st.sampled_from([0, 500, 2000, None]))
def test_the_sum(steps: list[tuple[str, str, int]], max_bytes: int | None) -> None:
    """It is what the histories have, whatever was recorded, dropped or forgotten, and is bounded.

    When the last tickets have gone, nothing is counted.
    """
    clock = FakeClock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BOUND, 3000)
        histories = made(max_bytes, clock)
    for room, step, number in steps:
        if step == "say":
            say(histories, room, number)
        elif step == "leave":
            histories.withdraw(room, "a")
        else:
            clock.advance(number / 10)
        held = sizes(histories)
        assert histories.bytes == sum(held.values()) <= 3000
        assert {room: size for size, rooms in histories._sizes.items() for room in rooms} == {
            room: size.bit_length() for room, size in held.items() if size
        }
    for room in "abcd":
        histories.withdraw(room, "a")
    assert not (histories.rooms or histories.bytes or histories._sizes or histories._told)


def test_the_largest_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound they lose their oldest entries, whoever records; the others lose nothing."""
    monkeypatch.setattr(BOUND, 100_000)
    histories = made()
    for number in range(20):
        say(histories, f"small{number}", 1000)
    say(histories, "large", 1000, 60)
    before = sizes(histories)
    for number in range(20):
        say(histories, f"new{number}", 1000, 2)
    after = sizes(histories)
    assert 98_000 < histories.bytes <= 100_000
    assert after.pop("large") < before.pop("large")
    assert before.items() <= after.items() and len({*after.values()}) == 2


def test_no_small_history_pays_for_many_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each payer had at least half of the bytes of the largest."""
    monkeypatch.setattr(BOUND, 100_000)
    histories = made(max_bytes=16_000)
    say(histories, "small", 1000, 3)
    kept = sizes(histories)["small"]
    for number in range(100):
        say(histories, f"large{number % 9}", 1000, 5)
    held = sizes(histories)
    assert held.pop("small") == kept
    assert 98_000 < histories.bytes <= 100_000
    assert min(held.values()) > 16_000 / 4


def test_a_history_may_have_what_its_limit_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """If MaxResumeBytes is more than the bound, it is the bound."""
    monkeypatch.setattr(BOUND, 1000)
    histories = made(max_bytes=5000)
    say(histories, "room", 1000, 9)
    assert 3000 < histories.bytes <= 5000


def test_a_member_whose_packets_were_dropped_finds_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if its room had exceeded MaxResumeBytes; a member of a smaller room misses nothing."""
    monkeypatch.setattr(BOUND, 50_000)
    engine = memory_engine(FakeClock(), retention=Retention(max_bytes=None))
    run(engine.start(Recorder()))
    for room, packets in (("small", 2), ("large", 90)):
        for user, ticket in (("a", "ticket"), ("b", None)):
            run(engine.join(room, user, f"{user} in {room}", HALVES, JoinPolicy(), ticket))
        engine.lose(room, "a", f"a in {room}")
        for _ in range(packets):
            engine.publish(room, f"b in {room}", "x" * 1000)
    assert isinstance(run(engine.resume("large", "a", "new", "ticket", "another", 1)), Gap)
    missed = run(engine.resume("small", "a", "new", "ticket", "another", 1))
    assert isinstance(missed, Missed) and missed.count == 2


def filled(rooms: int, *, full: bool = False) -> Histories:
    """Return histories with an entry in each of many rooms, and 100 in one."""
    histories = made()
    say(histories, "large", 10_000, 100)
    for number in range(rooms):
        say(histories, f"room{number}", 10)
    if full:
        histories._most = histories.bytes
    histories.rooms = Unwalkable(histories.rooms)
    return histories


@pytest.mark.parametrize("full", [False, True], ids=["below", "at the bound"])
def test_a_packet_costs_the_same_for_any_number(*, full: bool) -> None:
    """No packet looks through the rooms, even if one of them must pay for it."""
    few, many = (filled(rooms, full=full) for rooms in (2, 1000))
    costs = [operations(partial(say, each, "room0", 10)) for each in (few, many)]
    assert costs[0] == costs[1]


def test_the_cost_of_dropping() -> None:
    """It is in proportion to what is dropped, even if each of many rooms must give an entry."""

    def above(rooms: int) -> Histories:
        histories = filled(rooms)
        histories._most = 0
        return histories

    check(above, Histories._shorten, largest=16384, weigh=lambda histories: len(histories.rooms))
