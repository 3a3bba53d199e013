"""Decoding: what is a packet, what is not, and which error the sender gets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import packet

from videre import packets
from videre.errors import (
    MAX_MESSAGE,
    InvalidPacket,
    MalformedPacket,
    PacketTooLarge,
    PeerError,
    Unavailable,
    UserTaken,
)
from videre.packets import Decoder, Event, Packet

LIMIT = 1000


def decode(text: str) -> Packet:
    """Decode a text under the default limit."""
    return Decoder(64 * 1024).decode(text)


def body(**changed: Any) -> str:
    """Return a packet with these header keys changed; `...` removes one."""
    header = {"Event": "ping", "UserId": "a", "RoomId": "r", **changed}
    header = {key: value for key, value in header.items() if value is not ...}
    return json.dumps({"Header": header, "Payload": ""})


def test_the_parts_of_a_packet() -> None:
    """Event, user, room, the header with all its keys, and the text as received."""
    text = ' {"Payload":1, "Header":{"RoomId":"r","X":[1],"UserId":"\\u0061","Event":"ping"}}\n'
    found = decode(text)
    assert (found.event, found.user, found.room, found.text) == ("ping", "a", "r", text)
    assert found.header["X"] == [1]


@pytest.mark.parametrize("event", ["connect", "broadcast", "ping", "disconnect"])
@pytest.mark.parametrize("payload", ["{}", "", {}, {"a": [1]}, [], None, True, 0, 1.5])
def test_a_payload_is_any_json_value(event: str, payload: Any) -> None:
    """This holds for every event."""
    assert decode(packet(event, "a", "r", payload)).event == event


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "nonsense",
        "{",
        '{"Header":',
        packet("ping", "a", "r") + "}",
        packet("ping", "a", "r") * 2,
        packet("ping", "a", "r").replace('"', "'"),
        "\ufeff" + packet("ping", "a", "r"),
        "[]",
        "1",
        "null",
        '"text"',
        f"[{packet('ping', 'a', 'r')}]",
        json.dumps(packet("ping", "a", "r")),
        '{"Header": NaN}',
        packet("ping", "a", "r", float("nan")),
        packet("ping", "a", "r", float("inf")),
        packet("ping", "a", "r", "\ud800"),
        packet("ping", "a", "r", "PAYLOAD").replace("PAYLOAD", "\udfff"),
        packet("ping", "a\ud800", "r"),
        packet("ping", "a", "r", "PAYLOAD").replace("PAYLOAD", "\n"),
        "[" * 30_000,
        '{"a":' * 10_000,
        "[" * 30_000 + "]" * 30_000,
        '{"Header":' * 3000 + "1" + "}" * 3000,
    ],
    ids=repr,
)
def test_malformed(text: str) -> None:
    """Not JSON, not an object, nested too deep, NaN or a lone surrogate: malformed-packet."""
    with pytest.raises(MalformedPacket) as caught:
        decode(text)
    assert caught.value.code == "malformed-packet"
    assert caught.value.retry is False


def test_where_a_text_stops_being_json() -> None:
    """The message says it, and quotes nothing."""
    with pytest.raises(MalformedPacket, match=r"^Not JSON: unexpected .*line 1 column 6") as caught:
        decode('{"a":secret}')
    assert "secret" not in str(caught.value)


# Values not allowed in a field; null in a name has its own test.
WRONG_NAMES: list[Any] = [
    "",
    1,
    1.5,
    True,
    [],
    ["a"],
    {},
    {"a": "b"},
    "\x00",
    "a\n",
    "\x7f",
    "\x85",
]
WRONG = [
    *((field, value) for field in ("UserId", "RoomId") for value in [..., *WRONG_NAMES]),
    ("UserId", "u" * 129),
    ("RoomId", "r" * 257),
    *(
        ("Event", value)
        for value in [..., "", "Ping", "error", "welcome", "ping ", 1, [], {}, None]
    ),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_invalid_header(field: str, value: Any) -> None:
    """A header field that fails the schema is invalid-packet; the message names only that field."""
    with pytest.raises(InvalidPacket) as caught:
        decode(body(**{field: value}))
    message = str(caught.value)
    assert message.startswith(f"Header.{field}: ")
    assert [name for name in ("Event", "UserId", "RoomId", "Payload") if name in message] == [field]
    assert caught.value.code == "invalid-packet"
    assert caught.value.retry is False


@pytest.mark.parametrize("field", ["UserId", "RoomId"])
def test_a_null_name_is_invalid(field: str) -> None:
    """A null name is an error like any other."""
    with pytest.raises(InvalidPacket, match=rf"^Header\.{field}: "):
        decode(body(**{field: None}))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("{}", ["Header", "Payload"]),
        ('{"Header":[],"Payload":""}', ["Header"]),
        ('{"Header":null,"Payload":""}', ["Header"]),
        ('{"Header":"{}"}', ["Header", "Payload"]),
        ('{"Header":{}}', ["Header.Event", "Header.UserId", "Header.RoomId", "Payload"]),
        ('{"header":{},"payload":""}', ["Header", "Payload"]),
        (
            '{"Header":{"Event":"x","UserId":[],"RoomId":""}}',
            ["Header.Event", "Header.UserId", "Header.RoomId", "Payload"],
        ),
    ],
)
def test_the_message_names_all_invalid_fields(text: str, fields: list[str]) -> None:
    """For each field it says what is wrong."""
    with pytest.raises(InvalidPacket) as caught:
        decode(text)
    named = [fault.split(": ")[0] for fault in str(caught.value).split("; ")]
    assert sorted(named) == sorted(fields)


def test_a_long_value_hides_no_other_fault() -> None:
    """The faults of the other fields are still named."""
    with pytest.raises(InvalidPacket) as caught:
        decode(json.dumps({"Header": {"Event": "x" * 10_000, "UserId": "", "RoomId": ""}}))
    for field in ("Header.Event", "Header.UserId", "Header.RoomId", "Payload"):
        assert f"{field}: " in str(caught.value)


def test_the_protocols_example_message() -> None:
    """The words are those of protocol.md's example."""
    with pytest.raises(InvalidPacket, match=r"^Header\.UserId: required field$"):
        decode(body(UserId=...))


def test_an_invalid_packets_header_is_kept() -> None:
    """Its error can repeat the names and the id."""
    with pytest.raises(InvalidPacket) as caught:
        decode(body(Event="x", Id=7))
    assert caught.value.header == {"Event": "x", "UserId": "a", "RoomId": "r", "Id": 7}


@pytest.mark.parametrize(
    ("field", "longest"), [("UserId", packets.MAX_USER_ID), ("RoomId", packets.MAX_ROOM_ID)]
)
@pytest.mark.parametrize("character", ["x", "\u00e9", "\U0001f600"])
def test_names_are_measured_in_characters(field: str, longest: int, character: str) -> None:
    """A limit of 128 or 256 characters does not depend on their bytes."""
    assert decode(body(**{field: character}))
    assert decode(body(**{field: character * longest}))
    with pytest.raises(InvalidPacket):
        decode(body(**{field: character * (longest + 1)}))


@pytest.mark.parametrize(
    "name", ["__proto__", "constructor", "toString", "hasOwnProperty", "Payload", "null", " ", "0"]
)
def test_no_name_is_special(name: str) -> None:
    """`__proto__`, `constructor`, `toString` and the like are ordinary names, and ordinary keys."""
    text = json.dumps(
        {
            name: 1,
            "Header": {"Event": "connect", "UserId": name, "RoomId": name, name: 1},
            "Payload": "",
        }
    )
    found = decode(text)
    assert (found.user, found.room) == (name, name)


@pytest.mark.parametrize("character", ["x", "\u00e9", "\u20ac", "\U0001f600"])
def test_the_limit_is_in_bytes_of_utf_8(character: str) -> None:
    """A packet may be as long as the limit, in bytes of UTF-8, and not a byte longer."""
    plain = packet("ping", "a", "r", "PAYLOAD")
    room = LIMIT - len(plain) + len("PAYLOAD")
    width = len(character.encode())
    fill = character * (room // width) + "x" * (room % width)
    text = plain.replace("PAYLOAD", fill)
    assert len(text.encode()) == LIMIT
    assert Decoder(LIMIT).decode(text).room == "r"
    for longer in (text + " ", plain.replace("PAYLOAD", "x" + fill)):
        with pytest.raises(PacketTooLarge, match=str(LIMIT)) as caught:
            Decoder(LIMIT).decode(longer)
        assert caught.value.code == "packet-too-large"
        assert caught.value.retry is False


def test_without_a_limit() -> None:
    """None switches the limit off."""
    assert Decoder(None).decode(packet("ping", "a", "r", "x" * 1_000_000)).event == "ping"


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        (None, ("", "", None)),
        ([], ("", "", None)),
        ({}, ("", "", None)),
        ({"UserId": "a", "RoomId": "r", "Id": "i"}, ("a", "r", "i")),
        (
            {"UserId": "u" * 128, "RoomId": "r" * 256, "Id": "i" * 64},
            ("u" * 128, "r" * 256, "i" * 64),
        ),
        ({"UserId": "u" * 129, "RoomId": "r" * 257, "Id": "i" * 65}, ("", "", None)),
        ({"UserId": 1, "RoomId": ["r"], "Id": True}, ("", "", None)),
        ({"Id": 0}, ("", "", 0)),
        ({"Id": -1.5}, ("", "", -1.5)),
        ({"Id": ""}, ("", "", "")),
        ({"Id": float("nan")}, ("", "", None)),
        ({"Id": None}, ("", "", None)),
        ({"Id": {"a": 1}}, ("", "", None)),
    ],
)
def test_claimed(header: Any, claims: tuple[str, str, Any]) -> None:
    """Names and ids up to their lengths, and numbers, but no booleans; otherwise nothing."""
    found = packets.claimed(header)
    assert found == claims
    assert type(found[2]) is type(claims[2])


@pytest.mark.parametrize(
    ("to", "good"),
    [
        ("a", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("a\n", False),
        (["a"], True),
        (["a"] * 64, True),
        (["a"] * 65, False),
        ([], False),
        (["a", 1], False),
        (["a", "\x7f"], False),
        (None, False),
        ({"a": 1}, False),
        (True, False),
    ],
)
def test_who_may_be_named_as_receivers(to: Any, good: bool) -> None:
    """A name, or 1 to 64 of them; another event's `To` means nothing."""
    assert decode(body(Event="ping", To=to)).header["To"] == to
    if good:
        assert decode(body(Event="broadcast", To=to)).header["To"] == to
    else:
        with pytest.raises(InvalidPacket, match="must be a UserId, or a list of 1 to 64"):
            decode(body(Event="broadcast", To=to))


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({}, "null"),
        ({"Id": 5}, "5"),
        ({"Id": "i" * 64}, f'"{"i" * 64}"'),
        ({"Id": "i" * 65}, "null"),
    ],
)
def test_an_id_as_json(header: dict[str, Any], text: str) -> None:
    """Of up to 64 characters; null stands for none."""
    assert packets.id_text(header) == text


def test_other_packets_of_the_server() -> None:
    """Their payload is a string that holds JSON; a site's broadcast holds the JSON itself."""
    head = '{"Header":{"Event":"%s","UserId":"a","RoomId":"r"},"Payload":%s}'
    inner = r'"{\"a\":[1]}"'
    assert packets.write_json(Event.WELCOME, "a", "r", {"a": [1]}) == head % ("welcome", inner)
    assert packets.write_broadcast("a", "r", {"a": [1]}) == head % ("broadcast", '{"a":[1]}')
    assert packets.ROLE == {True: '"true"', False: '"false"'}


def test_the_servers_disconnect() -> None:
    """The server's own disconnect packet, byte for byte."""
    expected = '{"Header":{"Event":"disconnect","UserId":"a","RoomId":"r"},"Payload":""}'
    assert packets.write(Event.DISCONNECT, "a", "r") == expected


@pytest.mark.parametrize(
    ("error", "retry"),
    [(MalformedPacket("x"), False), (UserTaken("x"), True), (Unavailable("x"), True)],
)
def test_an_error_packet(error: PeerError, retry: bool) -> None:
    """Payload is a string of JSON with Code, Message and Retry; the id is in the header."""
    parsed = json.loads(packets.write_error(error, "a", "r", "id"))
    assert parsed["Header"] == {"Event": "error", "UserId": "a", "RoomId": "r", "Id": "id"}
    assert json.loads(parsed["Payload"]) == {"Code": error.code, "Message": "x", "Retry": retry}
    assert "Id" not in json.loads(packets.write_error(error, "a", "r", None))["Header"]


def test_a_long_message_is_cut() -> None:
    """A stranger's text is repeated in part only."""
    assert str(MalformedPacket("x" * 10_000)) == "x" * MAX_MESSAGE
