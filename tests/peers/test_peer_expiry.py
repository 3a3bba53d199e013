"""Expiry of a token: an error warns the member, whose seat lasts for the leeway unless renewed."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import ENGINES, World, begin, packet, run_on
from later_engine import LaterEngine
from tokens import NOW, SECRET, TTL, enter, show, token

from videre.auth import TokenAuth, secret_key

LEEWAY = 60  # of World, in seconds
AUTH = TokenAuth([secret_key(SECRET)])

EXPIRED = ("error", "a", "room", "token-expired")


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace that requires tokens, on each kind of engine."""
    return World(request.param, auth=AUTH)


def renewed(ttl: float = 1000.0, user: str = "a", room: str = "room") -> str:
    """Return a token that is valid for longer."""
    return token(user, room, exp=NOW + ttl)


def test_a_seat_outlives_its_token_by_the_leeway(world: World) -> None:
    """The member gets an error, then the close with 4502; only then do others hear a disconnect."""
    a, b = enter(world), enter(world, "b", exp=NOW + 10_000)
    a.texts()
    world.clock.advance(TTL - 0.01)
    assert a.texts() == []
    world.clock.advance(0.02)
    assert a.heard() == [EXPIRED] and a.code is None
    a.say(packet("broadcast", "a", "room", 1))
    assert b.heard() == [("broadcast", "a", "room", 1)]
    world.clock.advance(LEEWAY - 0.1)
    assert a.code is None
    world.clock.advance(0.1)
    assert a.connection.closes == [(4502, "Token expired")]
    a.end(4502, clean=True)
    assert b.heard() == [("disconnect", "a", "room", ""), ("connect", "b", "room", "true")]
    assert [timer.due for timer in world.clock.waiting] == [NOW + 10_000]


@pytest.mark.parametrize("late", [False, True], ids=["in time", "in the leeway"])
def test_a_fresh_token_keeps_the_seat(world: World, late: bool) -> None:
    """A member renews its token by a connect to its own room; only it hears an answer."""
    a, b = enter(world), enter(world, "b", exp=NOW + 10_000)
    a.texts()
    world.clock.advance(TTL + LEEWAY / 2 if late else TTL / 2)
    assert a.heard() == ([EXPIRED] if late else [])
    show(a, renewed())
    assert a.heard() == [("connect", "a", "room", "true")]
    assert b.texts() == []
    world.clock.advance(NOW + 999 - world.clock.now)
    assert a.texts() == [] and a.code is None
    world.clock.advance(1 + LEEWAY)
    assert a.heard() == [EXPIRED] and a.code == 4502


def test_a_shorter_token_shortens(world: World) -> None:
    """The last token shown counts, even if it expires earlier."""
    a = enter(world)
    show(a, token(exp=NOW + 5))
    a.texts()
    world.clock.advance(5)
    assert a.heard() == [EXPIRED]


@pytest.mark.parametrize("shown", [None, token(exp=NOW + 1), token("b"), "nonsense"])
def test_a_wrong_token_keeps_no_seat(world: World, shown: Any) -> None:
    """A wrong token in the leeway gets an error, and the session is closed all the same."""
    a = enter(world)
    world.clock.advance(TTL)
    a.texts()
    show(a, shown)
    assert a.error()["Code"] in ("unauthorized", "token-expired")
    world.clock.advance(LEEWAY)
    assert a.code == 4502


def test_a_move_brings_its_own_token(world: World) -> None:
    """The first room's token no longer matters after a move."""
    a = enter(world)
    show(a, renewed(room="other"), "a", "other")
    assert [heard[:3] for heard in a.heard()] == [("connect", "a", "other")]
    world.clock.advance(TTL + LEEWAY)
    assert a.texts() == [] and a.code is None


@pytest.mark.parametrize("told", [False, True], ids=["before", "after it was told"])
def test_a_session_without_a_seat_is_not_closed(world: World, told: bool) -> None:
    """A token's expiry does not close a session that has left its seat."""
    a = enter(world)
    if told:
        world.clock.advance(TTL)
        assert a.heard() == [EXPIRED]
    a.say(packet("disconnect", "a", "room"))
    world.clock.advance(TTL + LEEWAY)
    assert a.texts() == [] and a.code is None


def test_leave_and_rejoin_in_the_leeway(world: World) -> None:
    """A disconnect and a connect with a fresh token renew the seat like the connect alone."""
    a = enter(world)
    world.clock.advance(TTL)
    a.say(packet("disconnect", "a", "room"))
    show(a, renewed())
    world.clock.advance(LEEWAY)
    assert [heard[3] for heard in a.heard()] == ["token-expired", "true"]
    assert a.code is None


@pytest.mark.parametrize("told", [False, True])
def test_a_session_that_ends_leaves_no_timer(world: World, told: bool) -> None:
    """When a session has ended, nothing of it is kept."""
    a = enter(world)
    world.clock.advance(TTL if told else 1)
    a.end()
    assert world.clock.waiting == []
    world.clock.advance(TTL + LEEWAY)
    assert a.code is None


def test_only_a_shown_token_expires() -> None:
    """Where tokens are optional, a seat expires only if its member showed one."""
    lenient = World(auth=TokenAuth([secret_key(SECRET)], required=False))
    a, b = enter(lenient), lenient.member("b")
    lenient.clock.advance(TTL + LEEWAY)
    assert a.code == 4502 and b.code is None


def test_a_session_that_ends_while_it_is_seated() -> None:
    """On an engine that answers later it leaves neither a ghost nor a timer."""
    world = World(LaterEngine, auth=AUTH)
    a = world.client()
    steps = begin(a.peer.receive(packet("connect", "a", "room", {"Token": token()})))
    a.end()
    run_on(steps)
    assert len(world.rooms) == 0 and world.clock.waiting == []
