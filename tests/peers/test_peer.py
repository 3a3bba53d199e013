"""Connect, and the same user twice: protocol.md, section 2, rule by rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import ENGINES, World, brief, packet


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


@pytest.fixture(params=ENGINES)
def strict(request: pytest.FixtureRequest) -> World:
    """Give a namespace that rejects duplicate users."""
    return World(request.param, duplicate="reject")


# connect


def test_the_first_member_is_the_initiator(world: World) -> None:
    """The first member of a room is its initiator: it hears `"true"`, others `"false"`."""
    a, b, c = (world.client() for _ in range(3))
    a.connect("a", "room")
    assert a.heard() == [("connect", "a", "room", "true")]
    for client, user in ((b, "b"), (c, "c")):
        client.connect(user, "room")
        assert client.heard() == [("connect", user, "room", "false")]


def test_a_connect_goes_to_every_member(world: World) -> None:
    """Every member, the sender included, gets the packet with the sender's role."""
    a, b, c = world.members("a", "b", "c")
    d = world.member("d")
    for client in (a, b, c):
        assert client.heard() == [("connect", "d", "room", "false")]
    assert d.heard() == []


def test_a_role_is_the_json_text_of_a_boolean(world: World) -> None:
    """`Payload` becomes the string `"true"` or `"false"`: neither a boolean nor `"{true}"`."""
    a = world.client()
    a.say('{"Header":{"Event":"connect","UserId":"a","RoomId":"room"},"Payload":{"x":[1]}}')
    (text,) = a.texts()
    assert text == '{"Header":{"Event":"connect","UserId":"a","RoomId":"room"},"Payload":"true"}'


def test_the_own_connect_comes_first(world: World) -> None:
    """The sender hears its own `connect` before any later member's."""
    a, b = world.client(), world.client()
    a.connect("a", "room")
    b.connect("b", "room")
    assert [user for _, user, _, _ in a.heard()] == ["a", "b"]
    assert [user for _, user, _, _ in b.heard()] == ["b"]


def test_all_members_see_one_order(world: World) -> None:
    """All members hear the joins and leaves of a room in the same order."""
    a, b = world.members("a", "b")
    c, d = world.member("c"), world.member("d")
    c.say(packet("disconnect", "c", "room"))
    d.end()
    world.member("c")
    story = [("connect", "c"), ("connect", "d"), ("disconnect", "c"), ("disconnect", "d")]
    story.append(("connect", "c"))
    for client in (a, b):
        assert [(event, user) for event, user, _, _ in client.heard()] == story


def test_connect_again_changes_nothing(world: World) -> None:
    """A repeated connect to the same room returns the current role to the sender alone."""
    a, b = world.members("a", "b")
    b.connect("b", "room")
    assert b.heard() == [("connect", "b", "room", "false")]
    a.connect("a", "room", Id=7)
    (text,) = a.texts()
    assert brief(text) == ("connect", "a", "room", "true")
    assert json.loads(text)["Header"]["Id"] == 7
    assert (a.heard(), b.heard()) == ([], [])
    b.say(packet("ping", "b", "room"))
    assert b.heard() == [("ping", "b", "room", '["a","b"]')]


def test_connect_again_returns_the_current_role(world: World) -> None:
    """A promoted heir that connects again gets `"true"`."""
    a, b = world.members("a", "b")
    a.end()
    b.texts()
    b.connect("b", "room")
    assert b.heard() == [("connect", "b", "room", "true")]


def test_connect_to_another_room_leaves_the_first(world: World) -> None:
    """A session is in one room at a time: a connect to another room leaves the first."""
    a, b = world.members("a", "b")
    (other,) = world.members("x", room="other")
    a.connect("a", "other")
    assert a.heard() == [("connect", "a", "other", "false")]
    assert other.heard() == [("connect", "a", "other", "false")]
    assert b.heard() == [("disconnect", "a", "room", ""), ("connect", "b", "room", "true")]
    b.say(packet("broadcast", "b", "room"))
    b.say(packet("ping", "b", "room"))
    assert b.heard() == [("ping", "b", "room", '["b"]')]
    assert a.heard() == []


def test_connect_to_another_room_under_another_name(world: World) -> None:
    """A client may take another name as it moves to another room."""
    (a,) = world.members("a")
    a.connect("z", "other")
    assert a.heard() == [("connect", "z", "other", "true")]
    assert len(world.rooms) == 1


def test_a_connect_under_another_name_is_refused(world: World) -> None:
    """A member that connects to its own room under another UserId gets `wrong-user`."""
    a, b = world.members("a", "b")
    a.connect("z", "room")
    assert a.heard() == [("error", "a", "room", "wrong-user")]
    assert b.heard() == []
    a.say(packet("ping", "a", "room"))
    assert a.heard() == [("ping", "a", "room", '["a","b"]')]


@pytest.mark.parametrize(
    "payload", ["secret", {"Token": "secret"}, '{"Other":"secret"}', ["secret"]]
)
def test_the_payload_of_a_connect_is_never_shown(world: World, payload: Any) -> None:
    """No client ever sees it, even when it is repeated or the client connects again."""
    (a,) = world.members("a")
    b = world.client()
    text = packet("connect", "b", "room", payload)
    b.say(text)
    b.say(text[:-1] + ', "Payload": {}}')
    c = world.client()
    c.say(packet("connect", "c", "room", payload)[:-1] + ', "Payload": "{}"}')
    heard = [*a.texts(), *b.texts(), *c.texts()]
    assert len(heard) == 6
    assert not any("secret" in each for each in heard)


def test_what_else_a_connect_holds_travels_with_it(world: World) -> None:
    """Extra keys of the header and the packet are forwarded unchanged and in order."""
    (a,) = world.members("a")
    b = world.client()
    form = (
        '{"Before" : [1.0, "\\u00e9"],"Payload":%s, "Header":{"X":{"Payload":1},"Event":"connect",'
        '"UserId":"b","RoomId":"room","Id":1e2}, "After":null}'
    )
    b.say(form % '{"a": "b"}')
    assert a.texts() == b.texts() == [form % '"false"']


# the same user twice


def test_replace(world: World) -> None:
    """Others hear the old seat's `disconnect`, its session closes with 4503, the new one joins."""
    a, b = world.members("a", "b")
    newer = world.client()
    newer.connect("a", "room")
    assert a.code == 4503
    assert a.heard() == []
    assert b.heard() == [
        ("disconnect", "a", "room", ""),
        ("connect", "b", "room", "true"),
        ("connect", "a", "room", "false"),
    ]
    assert newer.heard() == [("connect", "a", "room", "false")]
    a.end(4503)
    assert b.heard() == []
    b.say(packet("ping", "b", "room"))
    assert b.heard() == [("ping", "b", "room", '["b","a"]')]


def test_replace_in_a_room_of_its_own(world: World) -> None:
    """A user that replaces the only member becomes the initiator."""
    (a,) = world.members("a")
    newer = world.member("a")
    assert (a.code, newer.code) == (4503, None)
    newer.connect("a", "room")
    assert newer.heard() == [("connect", "a", "room", "true")]


def test_a_replaced_session_reaches_nobody(world: World) -> None:
    """Packets that a replaced session still sends are not delivered."""
    a, b = world.members("a", "b")
    world.member("a")
    b.texts()
    for event in ("broadcast", "disconnect"):
        a.say(packet(event, "a", "room"))
    assert b.heard() == []


def test_the_same_user_in_two_rooms(world: World) -> None:
    """User ids are local to a room: the same id in another room is another user."""
    (a,) = world.members("a")
    other = world.member("a", "other")
    assert (a.code, other.code) == (None, None)
    assert a.heard() == []


def test_reject(strict: World) -> None:
    """The newcomer gets `user-taken` with Retry true; the others hear nothing."""
    a, b = strict.members("a", "b")
    newer = strict.client()
    newer.connect("a", "room", Id="x")
    (text,) = newer.texts()
    assert brief(text) == ("error", "a", "room", "user-taken")
    assert json.loads(json.loads(text)["Payload"])["Retry"] is True
    assert json.loads(text)["Header"]["Id"] == "x"
    assert (a.code, a.heard(), b.heard(), newer.code) == (None, [], [], None)
    a.end()
    newer.connect("a", "room")
    assert newer.heard() == [("connect", "a", "room", "false")]


def test_a_refused_connect_leaves_the_old_seat(strict: World) -> None:
    """A member that is refused in another room keeps its seat and its role."""
    a, b = strict.members("a", "b")
    (taken,) = strict.members("a", room="other")
    a.connect("a", "other")
    assert a.heard() == [("error", "a", "room", "user-taken")]
    assert (b.heard(), taken.heard()) == ([], [])
    a.say(packet("broadcast", "a", "room", "still here"))
    assert b.heard() == [("broadcast", "a", "room", "still here")]
    a.connect("a", "room")
    assert a.heard() == [("connect", "a", "room", "true")]
