"""Decoding, whatever comes: properties that hold for every text."""

from __future__ import annotations

import json
from typing import Any

from fakes import packet
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import ALMOST_PACKETS, ANY_TEXT, CALM, EVENTS, NAMES, VALUES

from videre import packets
from videre.errors import MAX_MESSAGE, PeerError
from videre.packets import Decoder

CODES = {"malformed-packet", "invalid-packet", "packet-too-large"}
NAMED = ("Event", "UserId", "RoomId")
LIMIT = 1000


@CALM
@given(ANY_TEXT, st.sampled_from([None, 10, 100, LIMIT]))
@example(packet("ping", None, "r"), LIMIT)
@example(packet("ping", "a", None), LIMIT)
@example(packet("ping", "a\ud800", "r"), LIMIT)
@example("\ud800" * 20, 100)
@example("\ud800" * 40, 100)
def test_any_text_is_a_packet_or_a_refusal(text: str, limit: int | None) -> None:
    """Any text is a Packet or one of three PeerErrors, with a bounded message, and it has UTF-8."""
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


@CALM
@example({"Header": {"RoomId": 1}, "Payload": 1}, "ping", "a", "r")
@example({"Header": {"UserId": "u\n"}, "Payload": 1}, "ping", "a", "r")
@example({"Header": {"Event": "error"}, "Payload": 1}, "ping", "a", "r")
@example({"Header": {}}, "ping", "a", "r")
@given(ALMOST_PACKETS, EVENTS, NAMES, NAMES)
def test_the_quick_path_accepts_what_the_schema_does(
    almost: dict[str, Any], event: str, user: str, room: str
) -> None:
    """With the ids of a seat, a text is accepted or refused exactly as it is without them."""
    seat = (user, room)
    if isinstance(header := almost.get("Header"), dict):
        header = {"Event": event, "UserId": user, "RoomId": room} | header
        almost = almost | {"Header": header}
        claims = header["UserId"], header["RoomId"]
        seat = tuple(
            claim if _is_name(claim) else other for claim, other in zip(claims, seat, strict=True)
        )
    decoder = Decoder(None)
    outcomes = []
    for known in ((), (seat,)):
        try:
            outcomes.append(decoder.decode(json.dumps(almost), known).header)
        except PeerError as error:
            outcomes.append((error.code, str(error)))
    assert outcomes[0] == outcomes[1]


def _is_name(value: Any) -> bool:
    """Tell whether a peer could have sat down under this name, or in this room."""
    try:
        Decoder(None).decode(packet("connect", value, value))
    except (PeerError, TypeError):
        return False
    return True


@CALM
@given(VALUES)
def test_what_a_header_claims_is_bounded(header: Any) -> None:
    """Whatever stands for a header, what is repeated of it is short and of the right type."""
    user, room, packet_id = packets.claimed(header)
    assert isinstance(user, str) and len(user) <= 128
    assert isinstance(room, str) and len(room) <= 256
    assert packet_id is None or type(packet_id) in (str, int, float)
