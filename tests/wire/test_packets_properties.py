"""Decoding any input: properties that hold for every text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cerberus import Validator
from fakes import packet
from hypothesis import example, given, settings
from hypothesis import strategies as st
from patience import examples
from strategies import ALMOST_PACKETS, ANY_TEXT, EVENTS, NAMES, TEXT, VALUES

from videre import packets
from videre.errors import MAX_MESSAGE, PeerError
from videre.packets import Decoder

CODES = {"malformed-packet", "invalid-packet", "packet-too-large"}
NAMED = ("Event", "UserId", "RoomId")
LIMIT = 1000


@given(ANY_TEXT, st.sampled_from([None, 10, 100, LIMIT]))
@example(packet("ping", None, "r"), LIMIT)  # type: ignore[arg-type]
@example(packet("ping", "a", None), LIMIT)  # type: ignore[arg-type]
@example(packet("ping", "a\ud800", "r"), LIMIT)
@example("\ud800" * 20, 100)
@example("\ud800" * 40, 100)
def test_any_text_is_a_packet_or_a_refusal(text: str, limit: int | None) -> None:
    """Any text is a Packet or one of three PeerErrors, whose bounded message is valid UTF-8."""
    try:
        found = Decoder(limit).decode(text)
    except PeerError as error:
        assert error.code in CODES
        message = str(error)
        assert 0 < len(message) <= MAX_MESSAGE
        answer = packets.write_error(error, *packets.claimed(getattr(error, "header", None)))
        assert json.loads(json.loads(answer)["Payload"])["Message"] == message
        assert answer.encode()
    else:
        assert found.event in packets.CLIENT_EVENTS
        header = json.loads(text)["Header"]
        assert (found.event, found.user, found.room) == tuple(map(header.get, NAMED))
        assert 1 <= len(found.user) <= 128 and 1 <= len(found.room) <= 256


def schema_says(body: dict[str, Any]) -> str | None:
    """Return cerberus' complaint about a whole body, or None if it is a packet."""
    whole = Validator(packets.SCHEMA, allow_unknown=True)
    whole.validate(body, normalize=False)
    found = [*faults(whole.errors)]
    header = body.get("Header")
    to = Validator(packets.TO_SCHEMA, allow_unknown=True)
    is_broadcast = isinstance(header, dict) and header.get("Event") == "broadcast"
    if is_broadcast and not to.validate(header, normalize=False):
        found.append("Header.To: must be a UserId, or a list of 1 to 64 of them")
    return "; ".join(found) or None


def faults(errors: dict[Any, Any], path: str = "") -> Iterator[str]:
    """Yield cerberus' messages with the paths of the fields."""
    for field, problems in errors.items():
        for problem in problems:
            if isinstance(problem, dict):
                yield from faults(problem, f"{path}{field}.")
            else:
                yield f"{path}{field}: {problem}"


#: Names at the limits of what is allowed.
LENGTHS = st.sampled_from([0, 1, 127, 128, 129, 255, 256, 257, 258, 300])
EDGES = st.builds(
    lambda length, tail: ("x" * length + tail)[-length:] if length else "",
    LENGTHS,
    st.sampled_from(
        ["", "\0", "\x7f", "\x9f", "\xa0", "\u2028", "\u00ad", "\ue000", "\0" + "x" * 290]
    ),
)
ANY_NAME = st.one_of(NAMES, NAMES, EDGES, VALUES)
FIELDS = {"UserId": ANY_NAME, "RoomId": ANY_NAME, "Event": st.one_of(EVENTS, VALUES, EDGES)}
TO = st.one_of(
    ANY_NAME,
    st.lists(ANY_NAME, max_size=3),
    st.builds(lambda size, last: ["a"] * size + [last], st.sampled_from([0, 62, 63, 64]), ANY_NAME),
)
BODIES = st.one_of(
    ALMOST_PACKETS,
    st.fixed_dictionaries(
        {
            "Header": st.fixed_dictionaries(FIELDS, optional={"To": TO, "k": VALUES}),
            "Payload": VALUES,
        }
    ),
    st.fixed_dictionaries(
        {
            "Payload": st.none(),
            "Header": st.fixed_dictionaries(
                {"Event": st.just("broadcast"), "UserId": ANY_NAME, "RoomId": NAMES, "To": TO}
            ),
        }
    ),
)


@settings(max_examples=examples(200))
@example({"Header": {"UserId": "x" * 300 + "\0", "Event": "x" * 300, "RoomId": ["r"] * 300}})
@example({"Header": {"Event": "broadcast", "UserId": "a", "RoomId": "r", "To": None}, "Payload": 1})
@example({"Header": {"Event": "broadcast", "UserId": "", "RoomId": "r", "To": []}, "Payload": 1})
@example({"Header": {"Event": "broadcast", "UserId": "a", "RoomId": "r", "To": []}})
@example({"Header": {"Event": "broadcast", "To": ["a", "\0"]}})
@example({"Header": {"Event": "ping", "To": []}})
@example({"Header": {"Event": ["broadcast"], "To": []}})
@example({"Header": None, "Payload": 1})
@example({})
@given(BODIES)
def test_the_decoder_agrees_with_the_schema(body: dict[str, Any]) -> None:
    """It accepts and refuses the same, in the same words, though cerberus sees only an outline."""
    expected = schema_says(body)
    try:
        found = Decoder(None).decode(json.dumps(body))
    except PeerError as error:
        assert expected is not None
        assert str(error) == expected[:MAX_MESSAGE]
    else:
        assert expected is None
        assert found.header == body["Header"]


@given(st.one_of(ANY_NAME, EDGES, st.lists(VALUES), st.dictionaries(TEXT, VALUES)))
def test_an_outline_is_short(value: Any) -> None:
    """It has the value's type; a short value is its own outline."""
    outline = packets.outlined(value)
    assert type(outline) is type(value)
    assert not isinstance(outline, str | list | dict) or len(outline) <= 258
    if isinstance(value, str) and len(value) <= 257:
        assert outline == value


@given(VALUES)
def test_names_from_an_invalid_header_are_bounded(header: Any) -> None:
    """Whatever the header is, the parts repeated from it are short and of the right type."""
    user, room, packet_id = packets.claimed(header)
    assert isinstance(user, str) and len(user) <= 128
    assert isinstance(room, str) and len(room) <= 256
    assert packet_id is None or type(packet_id) in (str, int, float)
