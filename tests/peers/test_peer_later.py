"""A peer on an engine that answers later, or not at all."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from fakes import FakeClient, World, begin, brief, packet, run, run_on
from later_engine import LaterEngine

from videre.engines import Engine
from videre.reasons import LOST

Down = Literal["at once", "later"]
either_way = pytest.mark.parametrize("down", ["at once", "later"])


@pytest.fixture
def world() -> World:
    """Give a namespace on an engine that answers later."""
    return World(LaterEngine)


@pytest.fixture
def engine(world: World) -> Engine:
    """Give that engine."""
    return world.engine


def users(world: World, room: str = "room") -> list[str]:
    """Return who is in a room, as an outsider hears it."""
    client = world.client()
    client.say(packet("ping", "outsider", room))
    ((event, _, _, payload),) = client.heard()
    assert event == "ping"
    return list(json.loads(payload))


def refused(client: FakeClient) -> tuple[str, str]:
    """Return the seat in the error that is the one thing a client heard: to be tried again."""
    (text,) = client.texts()
    event, user, room, code = brief(text)
    assert (event, code) == ("error", "unavailable")
    assert json.loads(json.loads(text)["Payload"])["Retry"] is True
    return user, room


def test_nothing_is_answered_before_the_engine_is_done(world: World) -> None:
    """What `receive` returns must be awaited: only then is the packet carried out."""
    a, b = world.members("a", "b")
    c = world.client()
    connecting = begin(c.peer.receive(packet("connect", "c", "room")))
    assert (a.heard(), b.heard(), c.heard()) == ([], [], [])
    run_on(connecting)
    assert a.heard() == b.heard() == c.heard() == [("connect", "c", "room", "false")]
    sending = begin(a.peer.receive(packet("broadcast", "a", "room")))
    assert b.heard() == []
    run_on(sending)
    assert len(b.heard()) == 1


def test_the_first_that_the_engine_seats_is_the_initiator(world: World) -> None:
    """Of two that connect at once one is the initiator, and both hear the same order."""
    a, b = world.client(), world.client()
    first = begin(a.peer.receive(packet("connect", "a", "room")))
    second = begin(b.peer.receive(packet("connect", "b", "room")))
    run_on(second)
    run_on(first)
    assert b.heard() == [("connect", "b", "room", "true"), ("connect", "a", "room", "false")]
    assert a.heard() == [("connect", "a", "room", "false")]


def test_two_under_one_name_at_once(world: World) -> None:
    """The one whom the engine seats last has replaced the other, and each knows."""
    a, b = world.client(), world.client()
    first = begin(a.peer.receive(packet("connect", "x", "room")))
    second = begin(b.peer.receive(packet("connect", "x", "room")))
    run_on(first)
    run_on(second)
    assert (a.code, b.code) == (4503, None)
    a.end(4503)
    assert users(world) == ["x"]
    b.say(packet("disconnect", "x", "room"))
    assert len(world.rooms) == 0


@either_way
@pytest.mark.parametrize("event", ["broadcast", "connect"])
def test_a_member_is_told_that_the_engine_is_down(
    world: World, engine: LaterEngine, event: str, down: Down
) -> None:
    """`unavailable`, with Retry true; it stays where it is, and may try again."""
    a, b = world.members("a", "b")
    engine.down = down
    a.say(packet(event, "a", "room" if event == "broadcast" else "other"))
    assert refused(a) == ("a", "room")
    engine.down = None
    assert (b.heard(), users(world)) == ([], ["a", "b"])
    a.say(packet("broadcast", "a", "room"))
    assert len(b.heard()) == 1


@either_way
def test_a_newcomer_is_told_that_the_engine_is_down(
    world: World, engine: LaterEngine, down: Down
) -> None:
    """It has no seat then, and gets one when it tries again."""
    a = world.client()
    engine.down = down
    a.connect("a", "room")
    assert refused(a) == ("a", "room")
    a.say(packet("ping", "a", "room"))
    assert refused(a) == ("a", "room")
    engine.down = None
    assert users(world) == []
    a.connect("a", "room")
    assert a.heard() == [("connect", "a", "room", "true")]


@either_way
def test_a_disconnect_may_be_tried_again(world: World, engine: LaterEngine, down: Down) -> None:
    """A disconnect that was `unavailable` was not carried out: the same packet does it later."""
    a, b = world.members("a", "b")
    engine.down = down
    a.say(packet("disconnect", "a", "room"))
    assert refused(a) == ("a", "room")
    engine.down = None
    a.say(packet("disconnect", "a", "room"))
    assert a.heard() == []
    assert b.heard()[0] == ("disconnect", "a", "room", "")
    assert users(world) == ["b"]


@either_way
def test_a_move_that_fails_half_way_keeps_the_new_seat(
    world: World, engine: LaterEngine, down: Down
) -> None:
    """Where the new seat was taken and the old one could not be given up, the new one counts."""
    (a,) = world.members("a")
    (witness,) = world.members("w", room="new")
    engine.down, engine.down_for = down, {"leave"}
    a.connect("a", "new")
    engine.down = None
    a.say(packet("broadcast", "a", "new"))
    a.end()
    heard = [(event, user) for event, user, _, _ in witness.heard()]
    assert heard == [("connect", "a"), ("broadcast", "a"), ("disconnect", "a")]
    assert users(world, "new") == ["w"]


def test_a_connection_that_ends_while_it_connects_leaves_no_ghost(world: World) -> None:
    """Closing takes the peer out of its room, also when its seat is only on the way."""
    a = world.members("a")[0]
    b = world.client()
    connecting = begin(b.peer.receive(packet("connect", "b", "room")))
    closing = b.peer.closed(LOST)
    run_on(connecting)
    run(closing)
    assert users(world) == ["a"]
    assert a.heard() in ([], [("connect", "b", "room", "false"), ("disconnect", "b", "room", "")])


def test_a_connection_that_ends_while_it_moves_leaves_no_ghost(world: World) -> None:
    """Of the two rooms neither keeps who is gone."""
    (a,) = world.members("a")
    moving = begin(a.peer.receive(packet("connect", "a", "other")))
    closing = a.peer.closed(LOST)
    run_on(moving)
    run(closing)
    assert (users(world), users(world, "other"), len(world.rooms)) == ([], [], 0)


@either_way
def test_a_dead_engine_is_not_the_clients_fault(
    world: World, engine: LaterEngine, down: Down
) -> None:
    """However often it fails, no session is closed, and bad packets before it still count."""
    (a,) = world.members("a")
    for _ in range(9):
        a.say("nonsense")
    engine.down = down
    for _ in range(20):
        a.say(packet("broadcast", "a", "room"))
    assert a.code is None
    a.say("nonsense")
    assert a.code == 4500


def test_a_packet_that_succeeds_later_begins_the_count_anew(world: World) -> None:
    """Ten in a row: a good packet counts as one when it is carried out."""
    (a,) = world.members("a")
    for _ in range(9):
        a.say("nonsense")
    a.say(packet("broadcast", "a", "room"))
    for _ in range(9):
        a.say("nonsense")
    assert a.code is None


def test_no_request_is_remembered_that_failed() -> None:
    """Joins that the engine refused leave nothing behind."""
    strict = World(LaterEngine, duplicate="reject")
    engine = strict.engine
    strict.members("a")
    newer = strict.client()
    for down in (None, "at once", "later"):
        engine.down = down
        newer.connect("a", "room")
    assert [code for *_, code in newer.heard()] == ["user-taken", "unavailable", "unavailable"]
    assert strict.rooms._replica.joining == {}
