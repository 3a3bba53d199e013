"""Resuming while the engine is busy: a client that is told it has a seat has one."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from fakes import FakeClient, World, begin, packet, run, run_on
from guests import answer, ask, back, guest, say, users
from later_engine import LaterEngine

from videre.reasons import LOST, End, LeaveReason

GRACE = 20.0

Down = Literal["at once", "later"]
either_way = pytest.mark.parametrize("down", ["at once", "later"])


@pytest.fixture
def world() -> World:
    """Give a namespace on an engine that answers later."""
    return World(LaterEngine)


@pytest.fixture
def engine(world: World) -> Any:
    """Give that engine."""
    return world.engine


def sits(client: FakeClient, user: str, other: FakeClient, name: str) -> bool:
    """Return whether a client and another one hear each other."""
    client.texts(), other.texts()
    say(client, user, 1)
    say(other, name, 2)
    return [each[3] for each in (*client.heard(), *other.heard())] == [2, 1]


def test_an_unfinished_disconnect(world: World) -> None:
    """It was the lost connection's, so a client that resumes before it is done keeps its seat."""
    (b,) = world.members("b")
    a, secret = guest(world, "a")
    leaving = begin(a.peer.receive(packet("disconnect", "a", "room")))
    again, _, welcome, _ = back(world, "a", secret)
    run_on(leaving)
    assert (users(world), welcome["Resumed"]) == ('["b","a"]', True)
    assert sits(again, "a", b, "b")


def test_a_loss_during_a_disconnect(world: World) -> None:
    """The seat is left when the engine is done, without a grace period."""
    (b,) = world.members("b")
    a, _ = guest(world, "a")
    b.texts()
    leaving = begin(a.peer.receive(packet("disconnect", "a", "room")))
    a.end()
    run_on(leaving)
    assert b.heard() == [("disconnect", "a", "room", "")]
    assert world.clock.waiting == []


def test_an_unfinished_replacement(world: World) -> None:
    """A client that resumes has its seat until it is replaced, and is then told why."""
    a, secret = guest(world, "a")
    newer = world.client()
    joining = begin(newer.peer.receive(packet("connect", "a", "room")))
    again, _, welcome, _ = back(world, "a", secret)
    assert welcome["Resumed"] is True and a.code == 4503
    run_on(joining)
    assert (again.code, newer.code) == (4503, None)


def test_an_unfinished_kick(world: World) -> None:
    """A kick removes the user, whatever connection it has by then."""
    _, secret = guest(world, "a")
    (b,) = world.members("b")
    kicking = begin(world.rooms.kick("room", "a", "why"))
    again, *_ = back(world, "a", secret)
    run_on(kicking)
    assert again.connection.closes == [(4504, "why")]
    assert b.heard() == [("disconnect", "a", "room", ""), ("connect", "b", "room", "true")]


def test_a_connection_lost_before_its_connect_is_done(world: World) -> None:
    """It never got a secret, so no seat is kept for it."""
    a = world.client()
    connecting = begin(a.peer.receive(packet("connect", "a", "room", {"Welcome": True})))
    ending = a.peer.closed(LOST)
    run_on(connecting)
    run(ending)
    assert (users(world), world.clock.waiting) == ("[]", [])


def test_a_connection_lost_while_it_moves(world: World) -> None:
    """Its old seat is kept for the grace; the seat not yet granted is not."""
    a, secret = guest(world, "a")
    moving = begin(a.peer.receive(packet("connect", "a", "other", {"Welcome": True})))
    ending = a.peer.closed(LOST)
    run_on(moving)
    run(ending)
    assert (users(world), users(world, "other")) == ('["a"]', "[]")
    assert back(world, "a", secret)[2]["Resumed"] is True


@either_way
def test_a_resumption_needs_the_engine(world: World, engine: LaterEngine, down: Down) -> None:
    """It gets `unavailable` while the engine is down; the secret stays valid."""
    (b,) = world.members("b")
    a, secret = guest(world, "a")
    a.end()
    engine.down_for |= {"resume"}
    engine.down = down
    a = world.client()
    ask(a, "a", Resume=secret)
    assert a.error()["Code"] == "unavailable"
    assert world.rooms.tally.resumes["failed"] == 1
    engine.down = None
    ask(a, "a", Resume=secret)
    assert answer(a)[1]["Resumed"] is True
    assert sits(a, "a", b, "b")


@either_way
def test_a_new_welcome_needs_the_engine(world: World, engine: LaterEngine, down: Down) -> None:
    """The member gets `unavailable` alone; its old secret, and its count of packets, stay valid."""
    (b,) = world.members("b")
    a, secret = guest(world, "a")
    engine.down_for |= {"renew"}
    engine.down = down
    ask(a, "a", Welcome=True)
    heard = a.heard()
    assert [each[3] for each in heard] == ["unavailable"]
    engine.down = None
    a.end()
    say(b, "b", 1)
    counted = [each for each in heard if each[0] == "connect"]
    _, _, welcome, missed = back(world, "a", secret, Received=len(counted))
    assert (welcome["Resumed"], [each[3] for each in missed]) == (True, [1])


def test_packets_sent_during_a_resumption(world: World) -> None:
    """They arrive once, after the missed ones, and the echo comes before both."""
    (b,) = world.members("b")
    a, secret = guest(world, "a")
    a.end()
    say(b, "b", 1)
    client = world.client()
    coming = begin(
        client.peer.receive(packet("connect", "a", "room", {"Resume": secret, "Received": 0}))
    )
    say(b, "b", 2)
    run_on(coming)
    say(b, "b", 3)
    role, welcome, missed = answer(client)
    assert (role, welcome["Resumed"]) == ("false", True)
    assert [payload for *_, payload in missed] == [1, 2, 3]


def test_a_connection_lost_while_it_resumes(world: World) -> None:
    """The client is gone before its seat is resumed; after the grace the seat is free."""
    (b,) = world.members("b")
    a, secret = guest(world, "a")
    a.end()
    b.texts()
    client = world.client()
    coming = begin(
        client.peer.receive(packet("connect", "a", "room", {"Resume": secret, "Received": 0}))
    )
    ending = client.peer.closed(LOST)
    run_on(coming)
    run(ending)
    world.clock.advance(GRACE)
    assert (users(world), world.clock.waiting) == ('["b"]', [])


@either_way
def test_a_fresh_join_needs_the_engine(world: World, engine: LaterEngine, down: Down) -> None:
    """It gets `unavailable`, and may try again."""
    client = world.client()
    engine.down = down
    ask(client, "a", Resume="of another life")
    assert client.error()["Code"] == "unavailable"
    engine.down = None
    ask(client, "a", Resume="of another life")
    assert answer(client)[1]["Resumed"] is False


def test_a_late_loss_of_a_replaced_seat(world: World) -> None:
    """The newcomer's seat is not lost, and no grace begins for it."""
    a, _ = guest(world, "a")
    newer, secret = guest(world, "a")
    run(a.peer.closed(LOST))
    assert world.clock.waiting == []
    (b,) = world.members("b")
    say(b, "b", 1)
    newer.end()
    assert back(world, "a", secret, Received=1)[3] == [("broadcast", "b", "room", 1)]


def test_a_new_welcome_for_a_seat_that_is_gone(world: World) -> None:
    """A member that is removed while it asks for a welcome ends without a seat and knows it."""
    (b,) = world.members("b")
    a, _ = guest(world, "a")
    asking = begin(a.peer.receive(packet("connect", "a", "room", {"Welcome": True})))
    run(world.rooms.kick("room", "a"))
    run_on(asking)
    b.texts()
    say(a, "a", 1)
    run(a.peer.closed(End(LeaveReason.CLOSED_BY_SERVER, 4504, clean=True)))
    assert (a.code, b.texts(), a.peer.seat, users(world)) == (4504, [], None, '["b"]')


def test_a_refused_broadcast_is_not_the_last() -> None:
    """A client may send a broadcast again that got `unavailable`."""
    world = World(LaterEngine)
    engine = world.engine
    assert isinstance(engine, LaterEngine)
    a, secret = guest(world, "a")
    a.say(packet("broadcast", "a", "room", Id=7))
    for down in ("at once", "later"):
        engine.down = down
        a.say(packet("broadcast", "a", "room", Id=8))
        a.say(packet("broadcast", "a", "room", Id=9, To="a"))
        engine.down = None
    a.end()
    _, _, welcome, _ = back(world, "a", secret)
    assert welcome["LastId"] == 7
