"""Limits of lost seats: the address with most of them gives up its oldest; beside a model."""

from __future__ import annotations

from collections import defaultdict

import pytest
from counting import operations
from fakes import FakeClock, FakeLog, World, packet
from guests import back, guest
from hypothesis import given
from hypothesis import strategies as st

from videre.rooms.lost import LOG_INTERVAL, LostSeats
from videre.rooms.room import Seat

GRACE = 20.0


def seat(number: int) -> Seat:
    """Return a seat without a connection."""
    return Seat(f"s{number}", f"u{number}", "room", since=0.0)


def make(per_address: int | None = None, in_all: int | None = None) -> LostSeats:
    """Return an empty LostSeats with these limits."""
    lost = LostSeats(FakeClock(), FakeLog(), GRACE)
    lost.per_address, lost.in_all = per_address, in_all
    return lost


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, 0, 1, 2, 5])), max_size=60),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([None, 2, 6]),
)
def test_lost_seats_are_like_their_model(
    steps: list[tuple[str, int | None]], per_address: int | None, in_all: int | None
) -> None:
    """Seats of an address are in the order of their loss; the right address loses its oldest."""
    lost = make(per_address, in_all)
    model: dict[str, list[str]] = defaultdict(list)
    for number, (address, resumed) in enumerate(steps):
        if resumed is not None:  # the n-th seat that the address lost
            for name in model[address][resumed : resumed + 1]:
                model[address].remove(name)
                lost.forget(name)
            continue
        model[address].append(f"s{number}")
        given = [given.id for given in lost.add(seat(number), address)]
        if per_address is not None and len(model[address]) > per_address:
            assert given == [model[address].pop(0)]
        elif in_all is not None and sum(map(len, model.values())) > in_all:
            most = max(map(len, model.values()))
            (payer,) = (each for each, names in model.items() if given == names[:1])
            assert len(model[payer]) == most
            model[payer].pop(0)
        else:
            assert given == []
        assert len(lost) == sum(map(len, model.values()))
        assert {each: lost.of(each) for each in "abc"} == {e: len(model[e]) for e in "abc"}


def test_a_seat_given_up_no_longer_counts() -> None:
    """Each further loss gives up the next seat, not the same one again."""
    lost = make(per_address=1)
    given = [[each.id for each in lost.add(seat(number), "a")] for number in range(3)]
    assert given == [[], ["s0"], ["s1"]]
    assert len(lost) == lost.of("a") == 1


def test_no_memory_without_lost_seats() -> None:
    """Nothing is kept of an address whose seats are all forgotten, or of a seat never lost."""
    lost = make(5, 5)
    for number in range(100):
        assert list(lost.add(seat(number), f"address {number}")) == []
        lost.forget(f"s{number}")
        lost.forget("unknown")
    assert not lost._ids and not lost._seats and not [*lost._addresses.sizes()]


def test_unreported_seats_are_forgotten_after_the_grace() -> None:
    """If this node hears no more of a room, its lost seats stop counting."""
    clock = FakeClock()
    lost = LostSeats(clock, FakeLog(), GRACE)
    for number in range(10):
        list(lost.add(seat(number), "a"))
    clock.advance(GRACE + 1)
    for number in range(10, 20):
        list(lost.add(seat(number), "b"))
    assert (lost.of("a"), lost.of("b")) == (0, 10)


def test_the_limit_is_logged_once_a_minute() -> None:
    """The line has the number of lost seats."""
    clock, log = FakeClock(), FakeLog()
    lost = LostSeats(clock, log, 1000.0)
    lost.per_address = 2
    for number in range(10):
        list(lost.add(seat(number), "a"))
    assert [fields["seats"] for fields in log.of("too-many-lost-seats")] == [3]
    clock.advance(LOG_INTERVAL)
    list(lost.add(seat(10), "a"))
    assert len(log.of("too-many-lost-seats")) == 2


def test_a_surplus_has_a_constant_cost() -> None:
    """Other addresses and their seats are not examined."""
    costs = []
    for addresses in (10, 1000):
        lost = make(None, 2 * addresses)
        for number in range(2 * addresses):
            list(lost.add(seat(number), f"a{number % addresses}"))
        costs.append(operations(lambda lost=lost: list(lost.add(seat(-1), "a1"))))  # type: ignore[misc]
    assert costs[0] == costs[1]


@pytest.mark.parametrize("resumes", [False, True])
def test_an_ended_loss_no_longer_counts(resumes: bool) -> None:
    """A seat stops counting when it is resumed, or when its grace is over."""
    world = World()
    lost = world.rooms.lost
    lost.per_address = 2
    for number in range(6):
        client, secret = guest(world, f"u{number}", f"room{number}")
        client.end()
        assert len(lost) == 1
        if resumes:
            _, role, welcome, _ = back(world, f"u{number}", secret, f"room{number}", Received=0)
            assert (role, welcome["Resumed"]) == ("true", True)
        else:
            world.clock.advance(GRACE)
        assert len(lost) == 0
    assert not world.log.of("too-many-lost-seats")


def test_packets_skip_lost_seats() -> None:
    """A packet costs the same in a room with a thousand of them, to all and to unknown names."""
    costs = []
    for ghosts in (1, 1000):
        world = World()
        world.rooms.lost.per_address = None
        (a, _b) = world.members("a", "b")
        for number in range(ghosts):
            client, _ = guest(world, f"ghost{number}")
            client.end()
        texts = [
            packet("broadcast", "a", "room", 1),
            packet("broadcast", "a", "room", 2),
            packet("broadcast", "a", "room", 1, To=[f"nobody{number}" for number in range(64)]),
        ]
        for text in texts:
            a.say(text)
        costs.append([operations(lambda a=a, text=text: a.say(text)) for text in texts])  # type: ignore[misc]
    for few, many in zip(*costs, strict=True):
        assert many < 1.05 * few  # the instruction count of a packet varies slightly
