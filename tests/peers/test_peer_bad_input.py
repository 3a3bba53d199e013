"""Bad input: the sender gets an error and stays connected, and nobody else notices."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import ENGINES, FakeClient, World, brief, error_of, packet

from videre.settings import Limits

#: One packet for each error code that a client without a seat can cause.
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
    """Send this many bad packets."""
    for _ in range(times):
        client.say("nonsense")


@pytest.mark.parametrize("code", BAD)
def test_the_sender_gets_an_error_and_stays_connected(world: World, code: str) -> None:
    """The error has its code, a message and Retry false; the client can go on."""
    a = world.client()
    a.say(BAD[code])
    error = a.error()
    assert error == {"Code": code, "Message": error["Message"], "Retry": False}
    assert error["Message"]
    a.connect("a", "room")
    assert a.heard() == [("connect", "a", "room", "true")]
    assert a.code is None


@pytest.mark.parametrize("text", NULL_NAMES, ids=["UserId", "RoomId"])
def test_a_null_name_is_answered_like_any_bad_input(world: World, text: str) -> None:
    """It gets an error instead of ending the session silently."""
    a = world.client()
    a.say(text)
    assert a.error()["Code"] == "invalid-packet"


def test_the_form_of_an_error(world: World) -> None:
    """The error equals the protocol's example byte for byte."""
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
    """No error reaches the room named in the packet or the sender's room."""
    a, b = world.members("a", "b")
    (elsewhere,) = world.members("x", room="elsewhere")
    for client in (world.client(), elsewhere):
        client.say(text)
        assert len(client.heard()) == 1
    assert (a.heard(), b.heard()) == ([], [])


# the sender's seat, its room, and a packet id


def test_an_error_names_the_senders_seat(world: World) -> None:
    """UserId and RoomId of the error are those of the sender's seat, whatever the packet claims."""
    (a,) = world.members("a")
    for text in [*BAD.values(), packet("broadcast", "z", "room"), packet("ping", "z", "r" * 257)]:
        a.say(text.replace('"a"', '"someone"').replace('"room"', '"somewhere"'))
        assert [each[1:3] for each in a.heard()] == [("a", "room")]


def test_else_it_names_what_the_packet_claimed(world: World) -> None:
    """Without a seat, the error repeats the names from the packet, if they are valid."""
    a = world.client()
    for text in (packet("welcome", "u", "r"), packet("broadcast", "u", "r")):
        a.say(text)
        assert [each[1:3] for each in a.heard()] == [("u", "r")]
    a.say(packet("welcome", "u" * 129, "r"))
    assert [each[1:3] for each in a.heard()] == [("", "r")]
    a.say(json.dumps({"Header": {"UserId": ["u"], "RoomId": "r" * 257}}))
    assert [each[1:3] for each in a.heard()] == [("", "")]


def test_a_packet_that_is_too_large_has_names(world: World) -> None:
    """Its error repeats them, and its id, as any other error does."""
    a = world.client()
    a.say(packet("broadcast", "u", "r", "x" * 70_000, Id=7))
    (text,) = a.texts()
    assert brief(text) == ("error", "u", "r", "packet-too-large")
    assert json.loads(text)["Header"]["Id"] == 7
    for large in ("x" * 70_000, "[" * 70_000, " " * 70_000 + "[]", " " * 70_000 + '{"Header":1}'):
        a.say(large)
        assert a.heard() == [("error", "", "", "packet-too-large")]


@pytest.mark.parametrize("text", ["nonsense", "[]", "{}", '{"Header":[]}', '{"Header":"u"}'])
def test_else_it_names_nobody(world: World, text: str) -> None:
    """Without a seat or valid names in the packet, both fields are empty strings."""
    a = world.client()
    a.say(text)
    assert [each[1:3] for each in a.heard()] == [("", "")]


def test_an_error_after_a_leave_names_the_claim(world: World) -> None:
    """A client that has left its room has no seat, so the error repeats the packet's names."""
    (a,) = world.members("a")
    a.say(packet("disconnect", "a", "room"))
    a.say(packet("broadcast", "z", "elsewhere"))
    assert a.heard() == [("error", "z", "elsewhere", "not-in-room")]


@pytest.mark.parametrize("packet_id", ["", "x", "\u00e9" * 64, 0, -1, 1.5, 2**53])
def test_the_packets_id_comes_back(world: World, packet_id: Any) -> None:
    """A string `Header.Id` of up to 64 characters, or a number, is repeated in the error."""
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
def test_an_invalid_id_is_not_repeated(world: World, packet_id: Any) -> None:
    """Longer strings, booleans, null and objects are dropped, but are not errors."""
    a = world.client()
    a.say(packet("broadcast", "a", "room", Id=packet_id))
    (answer,) = a.texts()
    assert brief(answer)[3] == "not-in-room"
    assert "Id" not in json.loads(answer)["Header"]


def test_an_error_without_an_id_has_none(world: World) -> None:
    """The error has no `Id` key if the packet had none."""
    a = world.client()
    a.say(BAD["not-in-room"])
    assert set(json.loads(a.texts()[0])["Header"]) == {"Event", "UserId", "RoomId"}


# ten in a row


@pytest.mark.parametrize("code", BAD)
def test_ten_bad_packets_in_a_row_close_the_session(world: World, code: str) -> None:
    """Ten bad packets get ten errors, then the close with 4500; nine do not close."""
    a = world.client()
    for _ in range(9):
        a.say(BAD[code])
    assert a.code is None
    a.say(BAD[code])
    assert a.code == 4500
    assert [error_of(text)["Code"] for text in a.texts()] == [code] * 10


@pytest.mark.parametrize("event", ["connect", "broadcast", "ping", "disconnect"])
def test_a_good_packet_resets_the_count(world: World, event: str) -> None:
    """Only ten bad packets in a row count: any good packet between them starts over."""
    (a,) = world.members("a")
    fail(a, 9)
    a.say(packet(event, "a", "room"))
    fail(a, 9)
    assert a.code is None
    fail(a, 1)
    assert a.code == 4500


def test_a_repeated_ping_resets_the_count(world: World) -> None:
    """A ping identical to the one before counts as a good packet."""
    (a,) = world.members("a")
    a.say(packet("ping", "a", "room"))
    fail(a, 9)
    a.say(packet("ping", "a", "room"))
    fail(a, 9)
    assert a.code is None


def test_bad_packets_of_all_kinds_count_together(world: World) -> None:
    """All kinds of bad packets count towards the ten, oversized frames included."""
    a = world.client()
    for text in [*BAD.values()] * 2:
        a.say(text)
    a.peer.too_large()
    assert a.code is None
    a.peer.too_large()
    assert a.code == 4500
    assert brief(a.texts()[-1]) == ("error", "", "", "packet-too-large")


def test_bad_packets_are_counted_for_each_session(world: World) -> None:
    """Bad packets of one session do not count against another."""
    a, b = world.members("a", "b")
    fail(a, 9)
    fail(b, 1)
    assert (a.code, b.code) == (None, None)


def test_a_taken_name_is_not_a_bad_packet(strict: World) -> None:
    """Retry true invites retries, so they never close the session."""
    strict.members("a")
    newer = strict.client()
    for _ in range(30):
        newer.connect("a", "room")
    assert newer.code is None
    fail(newer, 9)
    newer.connect("a", "room")
    fail(newer, 1)
    assert newer.code == 4500


def test_errors_are_logged_by_code(world: World) -> None:
    """The log has the error's code, and never the packet's content."""
    a = world.client()
    a.say(packet("broadcast", "a", "room", "secret"))
    (record,) = world.log.of("error")
    assert record == {"code": "not-in-room", "user": "a", "room": "room", "session": a.peer.name}


def test_bad_packets_count_towards_the_rate() -> None:
    """Good packets in between do not help: bad ones use up the packet rate too."""
    world = World(limits=Limits(packets_per_second=1, packet_burst=20, join_timeout=None))
    client = world.client()
    for _ in range(10):
        for _ in range(9):
            client.say("no packet")
        client.say(packet("ping", "a", "r"))
    errors = [brief for brief in client.heard() if brief[0] == "error"]
    assert [error[3] for error in errors] == ["malformed-packet"] * 20 + ["rate-limited"]
    assert client.code == 4003
