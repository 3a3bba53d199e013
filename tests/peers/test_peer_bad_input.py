"""Bad input: the sender is told, stays connected, and nobody else notices."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import ENGINES, FakeClient, World, brief, error_of, packet

from videre.settings import Limits

#: A packet for each code that a stranger can earn.
BAD = {
    "malformed-packet": "nonsense",
    "invalid-packet": packet("welcome", "a", "room"),
    "packet-too-large": packet("ping", "a", "room", "x" * 70_000),
    "not-in-room": packet("broadcast", "a", "room"),
}
NULL_NAMES = [
    packet("ping", None, "room"),  # type: ignore[arg-type]
    packet("ping", "a", None),  # type: ignore[arg-type]
]


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


@pytest.fixture(params=ENGINES)
def strict(request: pytest.FixtureRequest) -> World:
    """Give a namespace that rejects duplicate users."""
    return World(request.param, duplicate="reject")


def fail(client: FakeClient, times: int) -> None:
    """Send so many bad packets."""
    for _ in range(times):
        client.say("nonsense")


@pytest.mark.parametrize("code", BAD)
def test_the_sender_is_told_and_stays_connected(world: World, code: str) -> None:
    """An error with its code, a message, and Retry false; then the client goes on."""
    a = world.client()
    a.say(BAD[code])
    error = a.error()
    assert error == {"Code": code, "Message": error["Message"], "Retry": False}
    assert error["Message"]
    a.connect("a", "room")
    assert a.heard() == [("connect", "a", "room", "true")]
    assert a.code is None


@pytest.mark.parametrize("text", NULL_NAMES, ids=["UserId", "RoomId"])
def test_a_name_that_is_null_is_answered_like_any_bad_input(world: World, text: str) -> None:
    """It never kills a session without a word."""
    a = world.client()
    a.say(text)
    assert a.error()["Code"] == "invalid-packet"


def test_the_form_of_an_error(world: World) -> None:
    """The protocol's example, to the letter."""
    (peer1,) = world.members("peer1", room="some_room_id")
    peer1.say('{"Header":{"Event":"ping","RoomId":"some_room_id"},"Payload":""}')
    (text,) = peer1.texts()
    assert json.loads(text) == {
        "Header": {"Event": "error", "UserId": "peer1", "RoomId": "some_room_id"},
        "Payload": '{"Code":"invalid-packet","Message":"Header.UserId: required field",'
        '"Retry":false}',
    }


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_nobody_else_notices(world: World, text: str) -> None:
    """Neither the room that was named nor that of the sender hears of it."""
    a, b = world.members("a", "b")
    (elsewhere,) = world.members("x", room="elsewhere")
    for client in (world.client(), elsewhere):
        client.say(text)
        assert len(client.heard()) == 1
    assert (a.heard(), b.heard()) == ([], [])


# whose seat, room and id


def test_an_error_names_the_senders_seat(world: World) -> None:
    """UserId and RoomId are the sender's seat, whatever the packet claims."""
    (a,) = world.members("a")
    for text in [*BAD.values(), packet("broadcast", "z", "room"), packet("ping", "z", "r" * 257)]:
        a.say(text.replace('"a"', '"someone"').replace('"room"', '"somewhere"'))
        assert [each[1:3] for each in a.heard()] == [("a", "room")]


def test_else_it_names_what_the_packet_claimed(world: World) -> None:
    """Without a seat, what the packet claimed comes back, as far as it is a name."""
    a = world.client()
    for text in (packet("welcome", "u", "r"), packet("broadcast", "u", "r")):
        a.say(text)
        assert [each[1:3] for each in a.heard()] == [("u", "r")]
    a.say(packet("welcome", "u" * 129, "r"))
    assert [each[1:3] for each in a.heard()] == [("", "r")]
    a.say(json.dumps({"Header": {"UserId": ["u"], "RoomId": "r" * 257}}))
    assert [each[1:3] for each in a.heard()] == [("", "")]


@pytest.mark.parametrize("text", ["nonsense", "[]", "{}", '{"Header":[]}', '{"Header":"u"}'])
def test_else_it_names_nobody(world: World, text: str) -> None:
    """Without a claim either, both are empty strings."""
    a = world.client()
    a.say(text)
    assert [each[1:3] for each in a.heard()] == [("", "")]


def test_an_error_after_a_leave_names_the_claim(world: World) -> None:
    """Who has left a room has no seat any more."""
    (a,) = world.members("a")
    a.say(packet("disconnect", "a", "room"))
    a.say(packet("broadcast", "z", "elsewhere"))
    assert a.heard() == [("error", "z", "elsewhere", "not-in-room")]


@pytest.mark.parametrize("packet_id", ["", "x", "\u00e9" * 64, 0, -1, 1.5, 2**53])
def test_the_packets_id_comes_back(world: World, packet_id: Any) -> None:
    """`Header.Id`, a string up to 64 characters or a number, comes back in the error's header."""
    (a,) = world.members("a")
    for text in (
        packet("broadcast", "z", "room", Id=packet_id),  # refused by a rule
        packet("welcome", "a", "room", Id=packet_id),  # refused by the schema
    ):
        a.say(text)
        (answer,) = a.texts()
        found = json.loads(answer)["Header"]["Id"]
        assert (found, type(found)) == (packet_id, type(packet_id))


@pytest.mark.parametrize("packet_id", ["x" * 65, True, False, None, [], ["x"], {}, {"a": 1}])
def test_what_is_no_id_does_not_come_back(world: World, packet_id: Any) -> None:
    """Longer strings, booleans, null and objects are not repeated, and are no fault."""
    a = world.client()
    a.say(packet("broadcast", "a", "room", Id=packet_id))
    (answer,) = a.texts()
    assert brief(answer)[3] == "not-in-room"
    assert "Id" not in json.loads(answer)["Header"]


def test_an_error_without_an_id_has_none(world: World) -> None:
    """No id, no key."""
    a = world.client()
    a.say(BAD["not-in-room"])
    assert set(json.loads(a.texts()[0])["Header"]) == {"Event", "UserId", "RoomId"}


# ten in a row


@pytest.mark.parametrize("code", BAD)
def test_ten_bad_packets_in_a_row_close_the_session(world: World, code: str) -> None:
    """Ten errors, then the close with 4500; nine do not."""
    a = world.client()
    for _ in range(9):
        a.say(BAD[code])
    assert a.code is None
    a.say(BAD[code])
    assert a.code == 4500
    assert [error_of(text)["Code"] for text in a.texts()] == [code] * 10


@pytest.mark.parametrize("event", ["connect", "broadcast", "ping", "disconnect"])
def test_a_good_packet_begins_the_count_anew(world: World, event: str) -> None:
    """Ten in a row: any good packet between them resets."""
    (a,) = world.members("a")
    fail(a, 9)
    a.say(packet(event, "a", "room"))
    fail(a, 9)
    assert a.code is None
    fail(a, 1)
    assert a.code == 4500


def test_the_usual_ping_begins_the_count_anew(world: World) -> None:
    """A ping that is repeated to the letter is a good packet too."""
    (a,) = world.members("a")
    a.say(packet("ping", "a", "room"))
    fail(a, 9)
    a.say(packet("ping", "a", "room"))
    fail(a, 9)
    assert a.code is None


def test_bad_packets_of_all_kinds_count_together(world: World) -> None:
    """In a row, whatever is wrong with each, frames that were too large to be read included."""
    a = world.client()
    for text in [*BAD.values()] * 2:
        a.say(text)
    a.peer.too_large()
    assert a.code is None
    a.peer.too_large()
    assert a.code == 4500
    assert brief(a.texts()[-1]) == ("error", "", "", "packet-too-large")


def test_bad_packets_are_counted_for_each_session(world: World) -> None:
    """The fault of one is not that of another."""
    a, b = world.members("a", "b")
    fail(a, 9)
    fail(b, 1)
    assert (a.code, b.code) == (None, None)


def test_being_refused_a_name_is_not_bad(strict: World) -> None:
    """Retry true means that trying again, and again, is right."""
    strict.members("a")
    newer = strict.client()
    for _ in range(30):
        newer.connect("a", "room")
    assert newer.code is None
    fail(newer, 9)
    newer.connect("a", "room")
    fail(newer, 1)
    assert newer.code == 4500


def test_what_is_refused_is_logged_by_its_code(world: World) -> None:
    """Errors with their code, never with what the packet held."""
    a = world.client()
    a.say(packet("broadcast", "a", "room", "secret"))
    (record,) = world.log.of("error")
    assert record == {"code": "not-in-room", "user": "a", "room": "room", "session": a.peer.name}


def test_bad_packets_count_towards_the_rate() -> None:
    """Who mixes good packets in is not answered for ever: bad ones take from the bucket too."""
    world = World(limits=Limits(packets_per_second=1, packet_burst=20, join_timeout=None))
    client = world.client()
    for _ in range(10):
        for _ in range(9):
            client.say("no packet")
        client.say(packet("ping", "a", "r"))
    errors = [brief for brief in client.heard() if brief[0] == "error"]
    assert len([error for error in errors if error[3] == "malformed-packet"]) == 21
    assert client.code == 4003
