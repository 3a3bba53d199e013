"""A peer on an engine that answers late, or not at all."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from fakes import FakeClient, World, begin, brief, packet, run, run_on
from later_engine import LaterEngine

from videre.engines import Engine
from videre.errors import CloseCode
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
    """Return the users of a room, as an outsider's ping shows them."""
    client = world.client()
    client.say(packet("ping", "outsider", room))
    ((event, _, _, payload),) = client.heard()
    assert event == "ping"
    return list(json.loads(payload))


def refused(client: FakeClient) -> tuple[str, str]:
    """Return the seat named in the client's only packet, an error with Retry true."""
    (text,) = client.texts()
    event, user, room, code = brief(text)
    assert (event, code) == ("error", "unavailable")
    assert json.loads(json.loads(text)["Payload"])["Retry"] is True
    return user, room


def test_nothing_is_answered_before_the_engine_is_done(world: World) -> None:
    """The packet is carried out only once the awaitable from `receive` is done."""
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


def test_the_first_seated_is_the_initiator(world: World) -> None:
    """Of two concurrent connects, one becomes the initiator, and both hear the same order."""
    a, b = world.client(), world.client()
    first = begin(a.peer.receive(packet("connect", "a", "room")))
    second = begin(b.peer.receive(packet("connect", "b", "room")))
    run_on(second)
    run_on(first)
    assert b.heard() == [("connect", "b", "room", "true"), ("connect", "a", "room", "false")]
    assert a.heard() == [("connect", "a", "room", "false")]


def test_a_connect_whose_answer_is_lost(world: World, engine: LaterEngine) -> None:
    """The client has heard that it is a member, but its seat is not certain: it is closed."""
    (b,) = world.members("b")
    engine.down = "when done"
    a = world.client()
    a.connect("a", "room")
    assert brief(a.texts()[0]) == ("connect", "a", "room", "false")
    assert a.code == CloseCode.ENGINE_UNAVAILABLE
    assert not a.peer.seated and b.peer.seated


def test_two_concurrent_connects_under_one_name(world: World) -> None:
    """The connect that the engine seats last replaces the other, and both clients are told."""
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
def test_a_member_gets_unavailable_while_the_engine_is_down(
    world: World, engine: LaterEngine, event: str, down: Down
) -> None:
    """The error has Retry true; the member keeps its seat and may try again."""
    a, b = world.members("a", "b")
    engine.down = down
    a.say(packet(event, "a", "room" if event == "broadcast" else "other"))
    assert refused(a) == ("a", "room")
    engine.down = None
    assert (b.heard(), users(world)) == ([], ["a", "b"])
    a.say(packet("broadcast", "a", "room"))
    assert len(b.heard()) == 1


@either_way
def test_the_id_of_a_repeated_packet_comes_back(
    world: World, engine: LaterEngine, down: Down
) -> None:
    """A broadcast with the header of the one before it takes a shortcut, and fails like any."""
    (a,) = world.members("a")
    text = packet("broadcast", "a", "room", Id=7)
    a.say(text)
    engine.down = down
    a.say(text)
    assert json.loads(a.texts()[-1])["Header"]["Id"] == 7


@either_way
def test_a_newcomer_gets_unavailable_while_the_engine_is_down(
    world: World, engine: LaterEngine, down: Down
) -> None:
    """It gets a seat when it tries again later."""
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
def test_a_disconnect_may_be_retried(world: World, engine: LaterEngine, down: Down) -> None:
    """A disconnect answered with `unavailable` had no effect; sent again, it works."""
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
    """If the new seat was granted but the old one could not be left, the new one counts."""
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


def test_a_connection_lost_while_it_connects_leaves_no_ghost(world: World) -> None:
    """Closing removes the peer from its room, even if the engine grants the seat later."""
    a = world.members("a")[0]
    b = world.client()
    connecting = begin(b.peer.receive(packet("connect", "b", "room")))
    closing = b.peer.closed(LOST)
    run_on(connecting)
    run(closing)
    assert users(world) == ["a"]
    assert a.heard() in ([], [("connect", "b", "room", "false"), ("disconnect", "b", "room", "")])


def test_a_connection_lost_while_it_moves_leaves_no_ghost(world: World) -> None:
    """Neither of the two rooms keeps the user."""
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
    """Failures of the engine neither close a session nor reset its count of bad packets."""
    (a,) = world.members("a")
    for _ in range(9):
        a.say("nonsense")
    engine.down = down
    for _ in range(20):
        a.say(packet("broadcast", "a", "room"))
    assert a.code is None
    a.say("nonsense")
    assert a.code == 4500


def test_a_late_success_resets_the_count_of_bad_packets(world: World) -> None:
    """A packet counts as good once the engine has carried it out."""
    (a,) = world.members("a")
    for _ in range(9):
        a.say("nonsense")
    a.say(packet("broadcast", "a", "room"))
    for _ in range(9):
        a.say("nonsense")
    assert a.code is None


def test_failed_joins_leave_nothing() -> None:
    """Joins that the engine refused keep no memory."""
    strict = World(LaterEngine, duplicate="reject")
    engine = strict.engine
    strict.members("a")
    newer = strict.client()
    for down in (None, "at once", "later"):
        engine.down = down  # type: ignore[attr-defined]
        newer.connect("a", "room")
    assert [code for *_, code in newer.heard()] == ["user-taken", "unavailable", "unavailable"]
    assert strict.rooms._replica.joining == {}


def test_readiness_follows_the_engine(world: World) -> None:
    """Rooms are ready as long as the engine names no fault."""
    engine = world.engine
    assert isinstance(engine, LaterEngine)
    assert (world.rooms.ready, world.rooms.fault) == (True, "")
    engine.down = "later"
    assert (world.rooms.ready, world.rooms.fault) == (False, "down")
