"""Ping: anyone who knows a room's id may ask who is in it."""

from __future__ import annotations

import json

import pytest
from fakes import ENGINES, World, packet


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


def test_the_answer(world: World) -> None:
    """The sender alone gets its packet back, with the users in joining order as its `Payload`."""
    b, a = world.members("b", "a")
    a.say('{"Header":{"Event":"ping","UserId":"a","RoomId":"room"},"Payload":"{}"}')
    answer = r'{"Header":{"Event":"ping","UserId":"a","RoomId":"room"},"Payload":"[\"b\",\"a\"]"}'
    assert a.texts() == [answer]
    assert b.texts() == []


def test_a_room_that_does_not_exist(world: World) -> None:
    """The answer is `"[]"`, and asking does not create the room."""
    a = world.client()
    a.say(packet("ping", "a", "nowhere"))
    assert a.heard() == [("ping", "a", "nowhere", "[]")]
    assert len(world.rooms) == 0


def test_any_client_may_ping(world: World) -> None:
    """With or without a seat, it may ask about any room whose id it knows; its seat stays."""
    a, b = world.members("a", "b")
    (other,) = world.members("x", room="other")
    for client in (world.client(), other):
        client.say(packet("ping", "who", "room"))
        assert client.heard() == [("ping", "who", "room", '["a","b"]')]
    assert (a.heard(), b.heard()) == ([], [])
    other.say(packet("broadcast", "x", "other"))
    assert other.heard() == []


def test_what_else_a_ping_holds_comes_back(world: World) -> None:
    """Extra keys of the header and the packet come back unchanged and in order."""
    (a,) = world.members("a")
    form = (
        '{ "Z":1.0,"Payload" : %s,"Header":{"T":1e3,"RoomId":"room","UserId":"a",'
        '"Event":"ping"},"\\u0041":[]}'
    )
    for _ in range(2):
        a.say(form % "[ 1, 2 ]")
        assert a.texts() == [form % r'"[\"a\"]"']


def test_the_answer_follows_the_members(world: World) -> None:
    """A ping identical to the last one gets the current members, not a cached list."""
    (a,) = world.members("a")
    ping = packet("ping", "a", "room")

    def answer() -> list[str]:
        a.texts()
        a.say(ping)
        ((event, _, _, users),) = a.heard()
        assert event == "ping"
        return list(json.loads(users))

    assert answer() == answer() == ["a"]
    b = world.member("b")
    assert answer() == answer() == ["a", "b"]
    world.member("c")
    b.end()
    assert answer() == ["a", "c"]
    b = world.member("b")
    assert answer() == ["a", "c", "b"]
    world.member("c")
    assert answer() == ["a", "b", "c"]


def test_the_answer_follows_the_seat(world: World) -> None:
    """After a move, the same ping is answered for the room it names, and after a leave for none."""
    (a,) = world.members("a")
    world.members("b", room="other")
    pings = [packet("ping", "a", "room"), packet("ping", "a", "other")]

    def answers() -> list[str]:
        for ping in pings * 2:
            a.say(ping)
        users = [users for *_, users in a.heard()]
        assert users[:2] == users[2:]
        return users[:2]

    assert answers() == ['["a"]', '["b"]']
    a.connect("a", "other")
    a.texts()
    assert answers() == ["[]", '["b","a"]']
    a.say(packet("disconnect", "a", "other"))
    assert answers() == ["[]", '["b"]']
    a.connect("z", "room")
    a.texts()
    assert answers() == ['["z"]', '["b"]']


def test_a_ping_of_the_replaced(world: World) -> None:
    """A session whose seat was taken is an outsider, even for a ping it has sent before."""
    (a,) = world.members("a")
    ping = packet("ping", "a", "room")
    a.say(ping)
    world.member("a")
    a.connection.closes.clear()  # A real transport would deliver no packet now.
    a.texts()
    a.say(ping)
    assert a.heard() == [("ping", "a", "room", '["a"]')]


def test_names_are_json_in_json(world: World) -> None:
    """Any characters in names survive the two layers of JSON."""
    names = ['"', "\\", "__proto__", "\u2028", "\U0001f600", "a,b", "[]"]
    world.members(*names)
    a = world.client()
    a.say(packet("ping", "a", "room"))
    ((*_, users),) = a.heard()
    assert json.loads(users) == names


def test_every_ping_is_traced(world: World) -> None:
    """The debug log has the header and size of each packet, repeated pings included."""
    (a,) = world.members("a")
    ping = packet("ping", "a", "room")
    world.log.traced.clear()
    for _ in range(3):
        a.say(ping)
    assert world.log.traced == [("ping", "a", "room", len(ping))] * 3
