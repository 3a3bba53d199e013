"""The grace period: a lost connection keeps its seat and its role for a while."""

from __future__ import annotations

import pytest
from fakes import ENGINES, World, packet, run
from guests import ask, back, guest, initiator, say, users

from videre.reasons import SILENT
from videre.settings import Limits

GRACE = 20.0


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


# The seat of a lost connection.


def test_a_lost_seat_is_kept(world: World) -> None:
    """The others hear nothing until the grace period ends, then an ordinary leave."""
    a, b = world.members("a", "b")
    c, _ = guest(world, "c")
    for client in (a, b):
        client.texts()
    c.end()
    world.clock.advance(GRACE - 0.1)
    assert (a.heard(), b.heard(), users(world)) == ([], [], '["a","b","c"]')
    world.clock.advance(0.1)
    assert a.heard() == b.heard() == [("disconnect", "c", "room", "")]
    assert users(world) == '["a","b"]'
    (left,) = world.log.of("leave")
    assert (left["user"], left["reason"], left["seconds"]) == ("c", "grace-over", GRACE)


def test_the_last_seat_of_a_room_is_kept_too(world: World) -> None:
    """The room lasts until the grace period ends."""
    a, _ = guest(world, "a")
    a.end()
    assert len(world.rooms) == 1
    world.clock.advance(GRACE)
    assert len(world.rooms) == 0 and users(world) == "[]"


def test_a_client_without_a_welcome_has_no_grace(world: World) -> None:
    """When its connection is lost, it leaves at once."""
    a, b = world.members("a", "b")
    b.end()
    assert a.heard() == [("disconnect", "b", "room", "")]
    assert world.clock.waiting == []


@pytest.mark.parametrize("how", ["close", "disconnect", "move"])
def test_a_deliberate_leave_keeps_no_seat(world: World, how: str) -> None:
    """A normal close, a disconnect and a connect to another room are final."""
    (a,) = world.members("a")
    b, secret = guest(world, "b")
    a.texts()
    if how == "close":
        b.end(clean=True)
    elif how == "disconnect":
        b.say(packet("disconnect", "b", "room"))
        b.end()
    else:
        ask(b, "b", "other", Welcome=True)
    assert a.heard() == [("disconnect", "b", "room", "")]
    _, role, welcome, _ = back(world, "b", secret)
    assert (role, welcome["Resumed"]) == ("false", False)
    assert a.heard() == [("connect", "b", "room", "false")]


def test_grace_zero(world: World) -> None:
    """With Grace 0 no seat is kept, and an attempt to resume is a fresh join."""
    world = World(world.engine.__class__, limits=Limits(grace=0, packets_per_second=None))
    (a,) = world.members("a")
    b = world.client()
    ask(b, "b", Welcome=True)
    a.texts()
    b.end()
    assert a.heard() == [("disconnect", "b", "room", "")]
    assert world.clock.waiting == []
    _, role, welcome, rest = back(world, "b", "anything")
    assert (role, welcome["Resumed"], welcome["Resume"], rest) == ("false", False, None, [])


# The initiator.


def test_while_the_initiator_is_in_grace_nobody_is_promoted(world: World) -> None:
    """Newcomers hear that it is the initiator; it returns as the initiator."""
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    a.end()
    c, _ = guest(world, "c")
    b.texts()
    assert initiator(world) == "a"
    assert ("connect", "b", "room", "true") not in b.heard()
    _, role, *_ = back(world, "a", secret)
    assert role == "true" and all(each[0] != "role" for each in c.heard())


def test_when_the_initiators_grace_ends_the_next_is_promoted(world: World) -> None:
    """The others hear its disconnect and then the promotion, as after any leave."""
    a, _ = guest(world, "a")
    (b,) = world.members("b")
    c, _ = guest(world, "c")
    b.texts()
    a.end()
    world.clock.advance(GRACE)
    gone = ("disconnect", "a", "room", "")
    assert b.heard() == [gone, ("connect", "b", "room", "true")]
    assert c.heard() == [gone, ("role", "b", "room", "true")]


def test_the_heir_may_be_in_grace(world: World) -> None:
    """The longest-present member is promoted even in grace; when that ends, the next one is."""
    a, _ = guest(world, "a")
    b, secret = guest(world, "b")
    c, _ = guest(world, "c")
    a.end()
    world.clock.advance(5)
    b.texts()
    b.end()
    world.clock.advance(GRACE - 5)
    assert c.heard() == [("disconnect", "a", "room", ""), ("role", "b", "room", "true")]
    b, role, _, missed = back(world, "b", secret)
    assert role == "true"
    assert missed == [("disconnect", "a", "room", ""), ("connect", "b", "room", "true")]
    b.end()
    world.clock.advance(GRACE)
    assert c.heard() == [("disconnect", "b", "room", ""), ("connect", "c", "room", "true")]


def test_all_members_in_grace(world: World) -> None:
    """Their graces end in turn; the last one left resumes as the initiator."""
    clients = [guest(world, user) for user in "abc"]
    for client, _ in clients:
        client.texts()
        client.end()
        world.clock.advance(2)
    world.clock.advance(GRACE - 3)
    assert users(world) == '["c"]'
    _, role, welcome, missed = back(world, "c", clients[2][1])
    assert (role, welcome["Users"]) == ("true", ["c"])
    assert missed == [
        ("disconnect", "a", "room", ""),
        ("role", "b", "room", "true"),
        ("disconnect", "b", "room", ""),
        ("connect", "c", "room", "true"),
    ]


# What else holds for a seat in grace.


def test_a_seat_in_grace_counts_for_the_capacity() -> None:
    """A room full of seats in grace is full."""
    limits = Limits(room_capacity=1, packets_per_second=None, join_timeout=None)
    world = World(limits=limits)
    a, secret = guest(world, "a")
    a.end()
    b = world.client()
    b.connect("b", "room")
    assert b.heard() == [("error", "b", "room", "room-full")]
    assert back(world, "a", secret)[1] == "true"


def test_a_closing_namespace_drops_seats_in_grace(world: World) -> None:
    """No timer fires afterwards."""
    a, _ = guest(world, "a")
    b, _ = guest(world, "b")
    a.end()
    run(world.rooms.close())
    assert world.clock.waiting == []
    assert b.heard() == []


def test_the_log_of_a_loss(world: World) -> None:
    """It has the loss, the resumption with its packet count, the late leave, but no secret."""
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    run(a.peer.closed(SILENT))
    say(b, "b", 1)
    back(world, "a", secret)
    lost = {"room": "room", "user": "a", "reason": "connection-lost", "detail": "silent"}
    assert world.log.of("lost") == [lost]
    assert world.log.of("resume") == [{"room": "room", "user": "a", "missed": 1}]
    assert not any("secret-" in str(record) for record in world.log.records)
