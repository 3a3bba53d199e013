"""Resuming gone or taken seats, gaps, and joins under a taken name without its secret."""

from __future__ import annotations

import pytest
from fakes import ENGINES, World, packet
from guests import answer, ask, back, guest, say, users

from videre.settings import Duplicate, Limits

GRACE = 20.0
DUPLICATES: list[Duplicate] = ["replace", "reject"]


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


@pytest.fixture(params=DUPLICATES)
def either(request: pytest.FixtureRequest) -> World:
    """Give a namespace with each policy for duplicates."""
    return World(duplicate=request.param)


# The seat is gone.


def test_resuming_after_the_grace_is_a_fresh_join(world: World) -> None:
    """The welcome says so, and its new secret is valid."""
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    a.end()
    world.clock.advance(GRACE)
    b.texts()
    a, role, welcome, missed = back(world, "a", secret)
    assert (role, welcome["Resumed"], missed) == ("false", False, [])
    assert b.heard() == [("connect", "a", "room", "false")]
    a.end()
    _, role, again, _ = back(world, "a", welcome["Resume"])
    assert (role, again["Resumed"]) == ("false", True)


def test_resuming_in_an_empty_room_is_a_fresh_join(world: World) -> None:
    """This is what happens after a restart of the server."""
    _, role, welcome, missed = back(world, "a", "of another life")
    assert (role, welcome["Resumed"], welcome["Users"], missed) == ("true", False, ["a"], [])


@pytest.mark.parametrize("duplicate", DUPLICATES)
def test_a_gap_is_reported(duplicate: Duplicate) -> None:
    """Under both policies the client is told of the gap, and others see a leave and a join."""
    small = World(
        duplicate=duplicate,
        limits=Limits(packets_per_second=None, join_timeout=None, max_resume_bytes=200),
    )
    a, secret = guest(small, "a")
    b, c = small.members("b", "c")
    a.end()
    for number in range(9):
        say(b, "b", number)
    c.texts()
    a, role, welcome, missed = back(small, "a", secret)
    assert (role, welcome["Resumed"], missed) == ("false", False, [])
    assert (welcome["Initiator"], welcome["Users"]) == ("b", ["b", "c", "a"])
    gone = ("disconnect", "a", "room", "")
    assert c.heard() == [gone, ("connect", "a", "room", "false")]
    assert b.heard() == [gone, ("connect", "b", "room", "true"), ("connect", "a", "room", "false")]
    assert small.clock.waiting == []  # the old seat's grace is over


def test_a_gap_in_a_full_room_takes_no_extra_place() -> None:
    """The client joins afresh in the place of its own old seat."""
    limits = Limits(room_capacity=2, max_resume_bytes=0, packets_per_second=None, join_timeout=None)
    world = World(limits=limits)
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    a.end()
    say(b, "b", 1)
    assert back(world, "a", secret)[2]["Resumed"] is False


@pytest.mark.parametrize("received", [0, 1])
def test_a_slow_reader_resumes(world: World, received: int) -> None:
    """Only the client knows which packets it received before it was closed."""
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    say(b, "b", 1)
    a.end(4002)
    say(b, "b", 2)
    _, role, welcome, missed = back(world, "a", secret, Received=received)
    assert (role, welcome["Resumed"]) == ("true", True)
    every = [
        ("connect", "b", "room", "false"),
        ("broadcast", "b", "room", 1),
        ("broadcast", "b", "room", 2),
    ]
    assert missed == every[received:]


# The same user without the secret.


def test_a_seat_in_grace_is_replaced(world: World) -> None:
    """A newcomer under its name causes a leave and a join; the old secret becomes invalid."""
    (b,) = world.members("b")
    a, secret = guest(world, "a")
    a.end()
    b.texts()
    newer, new_secret = guest(world, "a")
    assert b.heard() == [("disconnect", "a", "room", ""), ("connect", "a", "room", "false")]
    assert world.clock.waiting == []
    thief = world.client()
    ask(thief, "a", Resume=secret)
    assert thief.error()["Code"] == "unauthorized"
    newer.end()
    assert back(world, "a", new_secret)[2]["Resumed"] is True


def test_a_seat_in_grace_is_kept_where_replacing_is_refused() -> None:
    """The newcomer gets `user-taken` until the grace is over."""
    world = World(duplicate="reject")
    a, secret = guest(world, "a")
    a.end()
    newer = world.client()
    newer.connect("a", "room")
    assert newer.heard() == [("error", "a", "room", "user-taken")]
    a, role, *_ = back(world, "a", secret)
    assert role == "true"
    a.end()
    world.clock.advance(GRACE)
    newer.connect("a", "room")
    assert newer.heard() == [("connect", "a", "room", "true")]


def test_a_replaced_session_closes_with_its_code(world: World) -> None:
    """It closes with 4503, and its secret, if it had one, is no longer valid."""
    a, secret = guest(world, "a")
    world.client().connect("a", "room")
    assert a.connection.closes == [(4503, "Replaced by a newer connection")]
    a.end(4503, clean=True)
    thief = world.client()
    ask(thief, "a", Resume=secret)
    assert thief.error()["Code"] == "unauthorized"


def test_a_living_connection_loses_its_seat_to_its_secret(either: World) -> None:
    """Under both policies the old session closes with 4503, the seat moves, others hear nothing."""
    a, secret = guest(either, "a")
    (b,) = either.members("b")
    a.texts()
    again, role, welcome, missed = back(either, "a", secret)
    assert (role, welcome["Resumed"], missed, b.heard()) == ("true", True, [], [])
    assert a.code == 4503
    a.end(4503, clean=True)
    say(b, "b", 1)
    assert b.heard() == [] and again.heard() == [("broadcast", "b", "room", 1)]


def test_a_session_whose_seat_moved_is_an_outsider(world: World) -> None:
    """Its later packets are treated as from outside the room."""
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    back(world, "a", secret)
    say(a, "a", 1)
    a.say(packet("disconnect", "a", "room"))
    a.end()
    assert b.heard() == [] and users(world) == '["a","b"]'


def test_a_living_connection_takes_its_count_along(world: World) -> None:
    """Packets that had not arrived, by the client's count, are sent again."""
    _, secret = guest(world, "a")
    (b,) = world.members("b")
    say(b, "b", 1)
    say(b, "b", 2)
    _, _, welcome, missed = back(world, "a", secret, Received=2)
    assert missed == [("broadcast", "b", "room", 2)]
    _, _, _, missed = back(world, "a", welcome["Resume"], Received=0)
    assert missed == [("broadcast", "b", "room", 2)]


def test_a_seat_without_a_secret_cannot_be_resumed(either: World) -> None:
    """Nobody replaces a seat without a secret by claiming to resume it."""
    (a,) = either.members("a")
    for secret in ("secret-1", "None", "x"):
        thief = either.client()
        ask(thief, "a", Resume=secret)
        assert thief.heard() == [("error", "a", "room", "unauthorized")]
    assert (a.texts(), a.code) == ([], None)


def test_a_refused_resumption_costs_nothing(world: World) -> None:
    """The session stays connected and in its room, and may join normally."""
    a, _ = guest(world, "a")
    a.end()
    (thief,) = world.members("t", room="other")
    ask(thief, "a", Resume="wrong", Id=1)
    error = thief.error()
    assert (error["Code"], error["Retry"]) == ("unauthorized", False)
    say(thief, "t", 1, "other")
    assert (thief.heard(), thief.code, users(world)) == ([], None, '["a"]')


def test_wrong_secrets_are_delayed_like_wrong_tokens(world: World) -> None:
    """After ten in a minute even a valid secret waits; no session is closed."""
    a, secret = guest(world, "a")
    a.end()
    guesser = world.client("192.0.2.66")
    for _ in range(11):
        ask(guesser, "a", Resume="wrong")
        assert guesser.error()["Code"] == "unauthorized"
    assert (world.clock.slept, guesser.code) == ([0.5], None)
    ask(guesser, "a", Resume=secret)
    assert answer(guesser)[1]["Resumed"] is True
    assert world.clock.slept == [0.5, 1.0]
    back(world, "b", "nobody's")  # from another address, and no failure
    assert world.clock.slept == [0.5, 1.0]
