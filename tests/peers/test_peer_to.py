"""Broadcasts to selected members: Header.To."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import ENGINES, World, begin, error_of, packet, run_on
from guests import back, guest, say
from later_engine import LaterEngine


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


@pytest.mark.parametrize("to", ["b", ["b"], ["b", "b", "b"], ["b", "a"], ["a", "b"]], ids=str)
def test_only_named_members_get_it(world: World, to: Any) -> None:
    """`To` takes a name or a list; each gets the packet once, unchanged, and never the sender."""
    a, b, c = world.members("a", "b", "c")
    text = packet("broadcast", "a", "room", {"x": 1}, To=to)
    a.say(text)
    assert (a.texts(), b.texts(), c.texts()) == ([], [text], [])


def test_several_members_get_it(world: World) -> None:
    """They share one text, and packets arrive in the order sent."""
    a, b, c, d = world.members(*"abcd")
    say(a, "a", 1, To=["d", "b"])
    say(a, "a", 2)
    say(a, "a", 3, To="b")
    assert [payload for *_, payload in b.heard()] == [1, 2, 3]
    assert [payload for *_, payload in d.heard()] == [1, 2]
    assert [payload for *_, payload in c.heard()] == [2]
    assert a.heard() == []


def test_unknown_names_are_reported(world: World) -> None:
    """One error with the packet's id lists them all; the others still get the packet."""
    a, b, _ = world.members("a", "b", "c")
    world.members("elsewhere", room="other")
    say(a, "a", 1, To=["x", "b", "elsewhere", "x"], Id=7)
    (text,) = a.texts()
    error = error_of(text)
    assert json.loads(text)["Header"] == {
        "Event": "error",
        "UserId": "a",
        "RoomId": "room",
        "Id": 7,
    }
    assert (error["Code"], error["Retry"]) == ("no-such-user", False)
    assert error["Message"] == "Header.To: not in the room: x, elsewhere"
    assert b.heard() == [("broadcast", "a", "room", 1)]


def test_unknown_names_are_not_bad_packets(world: World) -> None:
    """They never close the session: a member may leave at any time."""
    a, b = world.members("a", "b")
    for _ in range(9):
        a.say("nonsense")
    for _ in range(20):
        say(a, "a", 1, To="gone")
    assert {each[3] for each in a.heard()} == {"malformed-packet", "no-such-user"}
    for _ in range(9):
        a.say("nonsense")
    assert (a.code, b.heard()) == (None, [])


@pytest.mark.parametrize(
    "to",
    [None, "", [], 5, True, {}, {"b": 1}, [5], [""], [["b"]], [None], "x" * 129, ["b", "x\n"]],
    ids=str,
)
def test_an_empty_or_invalid_to_is_refused(world: World, to: Any) -> None:
    """The whole packet is refused, and nobody gets it."""
    a, b = world.members("a", "b")
    say(a, "a", 1, To=to)
    error = a.error()
    assert (error["Code"], error["Retry"]) == ("invalid-packet", False)
    assert error["Message"] == "Header.To: must be a UserId, or a list of 1 to 64 of them"
    assert b.heard() == []


def test_how_many_names_are_allowed(world: World) -> None:
    """64 names are accepted; one more is too many."""
    a, *others = world.members("a", *(f"u{number}" for number in range(64)))
    names = [f"u{number}" for number in range(64)]
    say(a, "a", 1, To=names)
    assert all(len(client.texts()) == 1 for client in others) and a.texts() == []
    say(a, "a", 2, To=[*names, "a"])
    assert a.error()["Code"] == "invalid-packet"
    assert not any(client.texts() for client in others)


def test_a_seat_in_grace_gets_it_later(world: World) -> None:
    """The packet is kept for it, and its name is not reported as unknown."""
    (a,) = world.members("a")
    b, secret = guest(world, "b")
    c, third = guest(world, "c")
    for client in (a, b):
        client.texts()
    b.end()
    c.end()
    say(a, "a", 1, To="b")
    say(a, "a", 2, To=["c"])
    say(a, "a", 3, To=["b", "c"])
    assert a.heard() == []
    assert [payload for *_, payload in back(world, "b", secret)[3]] == [1, 3]
    assert [payload for *_, payload in back(world, "c", third)[3]] == [2, 3]


def test_the_same_header_with_another_payload_is_for_the_same(world: World) -> None:
    """A broadcast to all before it or between them does not change that."""
    a, b, c = world.members("a", "b", "c")
    for number in range(3):
        say(a, "a", number)
        say(a, "a", number, To="b")
    assert len(b.texts()) == 6 and len(c.texts()) == 3


def test_names_are_for_broadcasts_alone(world: World) -> None:
    """On other packets `To` is a key like any other."""
    a, b = world.members("a", "b")
    for to in ("b", 5, None):
        a.say(packet("ping", "a", "room", To=to))
        a.connect("a", "room", To=to)
    assert [each[0] for each in a.heard()] == ["ping", "connect"] * 3
    assert b.heard() == []


def test_only_a_member_may_address_others(world: World) -> None:
    """`To` needs a member that speaks under its own name in its own room."""
    a, b = world.members("a", "b")
    stranger = world.client()
    say(stranger, "x", 1, To="b")
    say(a, "a", 1, "other", To="b")
    say(a, "b", 1, To="b")
    assert stranger.error()["Code"] == "not-in-room"
    assert [code for *_, code in a.heard()] == ["not-in-room", "wrong-user"]
    assert b.heard() == []


@pytest.mark.parametrize("name", ["__proto__", "constructor", "*", "\u00e9"])
def test_no_name_is_special(world: World, name: str) -> None:
    """Any name works, present or not."""
    a, b = world.members("a", "b")
    say(a, "a", 1, To=name)
    assert a.error()["Code"] == "no-such-user"
    (c,) = world.members(name)
    a.texts(), b.texts()
    say(a, "a", 2, To=name)
    assert (len(c.texts()), a.texts(), b.texts()) == (1, [], [])


def test_a_sender_waits_for_the_engine() -> None:
    """The packet is delivered when `receive` is done; the names are checked at once."""
    world = World(LaterEngine)
    a, b = world.members("a", "b")
    sending = begin(a.peer.receive(packet("broadcast", "a", "room", 1, To=["b", "x"])))
    assert b.texts() == []
    run_on(sending)
    assert len(b.texts()) == 1 and a.error()["Code"] == "no-such-user"


@pytest.mark.parametrize("down", ["at once", "later"])
def test_an_engine_that_is_down(down: Any) -> None:
    """The sender gets an error, and nobody gets the packet."""
    world = World(LaterEngine)
    a, b = world.members("a", "b")
    engine: Any = world.engine
    engine.down = down
    say(a, "a", 1, To="b")
    assert (a.error()["Code"], b.texts()) == ("unavailable", [])
