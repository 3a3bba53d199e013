"""Tokens in a peer's session: who may join and ping, and what ends with a token."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import ENGINES, World, brief, packet
from tokens import NOW, SECRET, enter, hs256, show, token

from videre.auth import TokenAuth, secret_key

AUTH = TokenAuth([secret_key(SECRET)])


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace that requires tokens, on each kind of engine."""
    return World(request.param, auth=AUTH)


@pytest.fixture(params=ENGINES)
def lenient(request: pytest.FixtureRequest) -> World:
    """Give a namespace where tokens are optional."""
    return World(request.param, auth=TokenAuth([secret_key(SECRET)], required=False))


# Joining.


@pytest.mark.parametrize("as_text", [False, True])
def test_a_token_in_the_payload(world: World, as_text: bool) -> None:
    """The payload may be an object or the JSON text of one, with any other keys."""
    payload: Any = {"Token": token(), "Other": [1]}
    client = world.client()
    client.say(packet("connect", "a", "room", json.dumps(payload) if as_text else payload))
    assert client.heard() == [("connect", "a", "room", "true")]


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        {},
        None,
        "",
        5,
        [],
        token(),
        [token()],
        json.dumps(token()),
        {"token": token()},
        {"Token": None},
        {"Token": ""},
        {"Token": 5},
        {"Token": [token()]},
        {"Token": {"Token": token()}},
        {"Token": token("b")},
        {"Token": token(room="other")},
        {"Token": token(key="a secret that nobody has told the server")},
        "{" * 2000,
    ],
    ids=lambda payload: None,
)
def test_without_a_valid_token_nobody_joins(world: World, payload: Any) -> None:
    """The sender gets `unauthorized` and stays connected; nobody else hears of it."""
    member = enter(world, "m")
    client = world.client()
    client.say(packet("connect", "a", "room", payload, Id=7))
    (text,) = client.texts()
    assert json.loads(text)["Header"] == {
        "Event": "error",
        "UserId": "a",
        "RoomId": "room",
        "Id": 7,
    }
    body = json.loads(json.loads(text)["Payload"])
    assert (body["Code"], body["Retry"]) == ("unauthorized", False)
    assert member.texts() == [] and client.code is None
    show(client, token())
    assert client.heard() == [("connect", "a", "room", "false")]


def test_an_expired_token(world: World) -> None:
    """It has its own code, so that the client asks its site for a fresh token."""
    client = world.client()
    show(client, token(exp=NOW - 1))
    assert client.error()["Code"] == "token-expired"
    assert len(world.rooms) == 0


def test_the_last_of_repeated_payloads_counts(world: World) -> None:
    """The token is checked where a JSON parser would find it."""
    good, bad = json.dumps({"Token": token()}), "{}"
    text = packet("connect", "a", "room", 0).replace('"Payload": 0', '"Payload": %s, "Payload": %s')
    client = world.client()
    client.say(text % (good, bad))
    assert client.error()["Code"] == "unauthorized"
    client.say(text % (bad, good))
    (text,) = client.texts()
    assert brief(text) == ("connect", "a", "room", "true") and token() not in text


def test_refusals_are_no_bad_packets(world: World) -> None:
    """Ten in a row do not close the session: they are delayed instead."""
    client = world.client()
    for _ in range(12):
        client.connect("a", "room")
        assert client.error()["Code"] == "unauthorized"
    assert client.code is None


def test_a_token_is_bound_to_its_room_and_user(world: World) -> None:
    """A member is refused elsewhere or under another name, and keeps its seat."""
    a, b = enter(world), enter(world, "b")
    a.texts()
    show(a, token(), "a", "other")
    show(a, token(), "b", "room")
    show(a, token("b"), "b", "other")
    assert [heard[3] for heard in a.heard()] == ["unauthorized", "wrong-user", "unauthorized"]
    assert b.heard() == []
    a.say(packet("broadcast", "a", "room", 1))
    assert b.heard() == [("broadcast", "a", "room", 1)]


def test_a_stranger_cannot_take_a_seat(world: World) -> None:
    """A connect under the same UserId without its token replaces nobody."""
    a = enter(world)
    stranger = world.client()
    for shown in (None, token("b"), token(room="other")):
        show(stranger, shown)
        assert stranger.error()["Code"] == "unauthorized"
    assert a.texts() == [] and a.code is None


def test_a_stranger_cannot_tell_whether_a_room_exists(world: World) -> None:
    """It gets the same answer to every packet for an existing and a missing room."""
    member = enter(world, "m", "somewhere")
    answers: list[Any] = []
    for room in ("somewhere", "elsewhere"):
        stranger = world.client(f"192.0.2.{len(answers)}")
        for event in ("connect", "ping", "broadcast", "disconnect"):
            stranger.say(packet(event, "a", room))
        show(stranger, token(room="room"), "a", room)
        show(stranger, token(room=room, exp=NOW - 1), "a", room)
        answers.append([text.replace(room, "room") for text in stranger.texts()])
    assert answers[0] == answers[1]
    refusal = ["unauthorized"]
    codes = [brief(text)[3] for text in answers[0]]
    assert codes == refusal * 2 + ["not-in-room"] * 2 + refusal + ["token-expired"]
    assert member.texts() == []


# Pings.


def test_a_ping_is_answered_for_the_own_room_only(world: World) -> None:
    """A member may ping its own room and no other; a client without a room may ping none."""
    a, x = enter(world), enter(world, "x", "other")
    stranger = world.client()
    a.say(packet("ping", "a", "room"))
    assert a.heard() == [("ping", "a", "room", '["a"]')]
    for client, room in ((a, "other"), (a, "nowhere"), (stranger, "room"), (stranger, "nowhere")):
        client.say(packet("ping", "a", room))
        assert client.error()["Code"] == "unauthorized"
    assert x.texts() == []


def test_a_ping_after_leaving(world: World) -> None:
    """A client that has left gets no answer, even to a ping that it sent before."""
    a, b = enter(world), enter(world, "b")
    for _ in range(3):
        a.say(packet("ping", "a", "room"))
    a.texts()
    a.say(packet("disconnect", "a", "room"))
    a.say(packet("ping", "a", "room"))
    assert a.error()["Code"] == "unauthorized"
    show(a, token(room="other"), "a", "other")
    a.texts()
    a.say(packet("ping", "a", "room"))
    assert a.error()["Code"] == "unauthorized"
    assert [heard[0] for heard in b.heard()][-2:] == ["disconnect", "connect"]


def test_where_no_token_is_required_any_ping_is_answered(lenient: World) -> None:
    """Then a ping about any room is answered."""
    enter(lenient)
    outsider = lenient.client()
    outsider.say(packet("ping", "x", "room"))
    assert outsider.heard() == [("ping", "x", "room", '["a"]')]


# Secrecy.


def test_a_token_reaches_nobody(world: World) -> None:
    """Other members, the sender's own answers and the log, at any level, never contain it."""
    a = enter(world)
    shown = [token("b"), token("b", exp=NOW - 1), token("c"), hs256(b"nonsense")]
    b = world.client()
    for each in shown:
        show(b, each, "b")
        b.say(packet("connect", "b", "room", json.dumps({"Token": each})))
        b.say(packet("ping", "b", "room", {"Token": each}))
        b.say(packet("connect", "b" * 200, "room", {"Token": each}))
        b.say(packet("connect", "b", "room", {"Token": each})[:-3])
    everything = json.dumps([a.texts(), b.texts(), world.log.records, world.log.traced])
    for each in shown:
        for part in each.split("."):
            assert part not in everything
    assert world.log.of("join") and world.log.of("error") and world.log.traced
