"""Invariant: for any bytes, `decode` returns a Packet or raises one of three documented errors.

With another Payload between them, the two texts that `around_payload` returns for a Packet are
valid JSON again, in which nothing else has changed.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from videre import packets
from videre.errors import (
    MAX_MESSAGE,
    InvalidPacket,
    MalformedPacket,
    PacketTooLarge,
    PeerError,
)
from videre.packets import Decoder, Packet
from videre.payload import around_payload, head_of

LIMIT = 4096  # bytes; small, so that the fuzzer reaches it
DOCUMENTED = (MalformedPacket, InvalidPacket, PacketTooLarge)
DECODER = Decoder(LIMIT)

#: Heads of broadcasts found so far, for `Decoder.repeats`.
HEAD = '{"Header":{"Event":"broadcast","UserId":"a","RoomId":"r"},"Payload":'

_CALL = b'{"Header":{"Event":"%s","UserId":"a","RoomId":"r","Id":1},"Payload":%s}'
SEEDS = [
    _CALL % (b"connect", b'"{}"'),
    _CALL % (b"broadcast", b'{"a":[1,2.5e3,null,true,"\\u00e9\\"}"]}'),
    _CALL % (b"ping", b"null"),
    _CALL % (b"disconnect", b'1,"Payload":[{"Payload":2}] , "Pay\\u006coad" : 3'),
    b'{"Payload":{"Payload":{}},"Header":{"RoomId":"\\ud83d\\ude00","UserId":"b","Event":"ping"}}',
    _CALL % (b"broadcast", b"[" * 30 + b"]" * 30),
    _CALL % (b"broadcast", b'"\\ud800"'),
    _CALL % (b"broadcast", b"NaN"),
    _CALL % (b"broadcast", b"1" + b"0" * 400 + b".5e999"),
    _CALL % (b"broadcast", b'"' + b"x" * LIMIT + b'"'),
    b"\xef\xbb\xbf{}",
    b'{"Header":{"Event":"connect","UserId":"\\u0000","RoomId":""},"Payload":0}',
    b'{"Header":[],"Header":{"Event":"__proto__"}}',
    b"\xff\xfe{",
    b"{}",
]


def work(data: bytes) -> None:
    """Do what a server does with a packet; this is measured."""
    text = data.decode("utf-8", "replace")
    try:
        DECODER.decode(text)
    except PeerError:
        return
    around_payload(text)


def one_input(data: bytes) -> None:
    """Check the invariant for these bytes, read as each transport reads them."""
    for errors in ("surrogateescape", "surrogatepass", "replace"):
        try:
            text = data.decode("utf-8", errors)
        except UnicodeDecodeError:
            continue
        check(text)


def check(text: str) -> None:
    """Check the invariant for a text."""
    check_repeats(text)
    packet = outcome(text)
    if packet is None:
        return
    assert packet.event in packets.CLIENT_EVENTS
    assert 1 <= len(packet.user) <= packets.MAX_USER_ID
    assert 1 <= len(packet.room) <= packets.MAX_ROOM_ID
    assert text.encode(), "what is relayed must have UTF-8"
    check_payload(text)


def check_repeats(text: str) -> None:
    """Check that an accepted repetition has the known header and another Payload."""
    assert head_of(f"{HEAD}1}}") == HEAD
    for again in (text, HEAD + text, f"{HEAD}{text}}}"):
        if DECODER.repeats(again, HEAD):
            packet = outcome(again)
            assert packet is not None
            assert packet.header == {"Event": "broadcast", "UserId": "a", "RoomId": "r"}


def outcome(text: str) -> Packet | None:
    """Return the packet in a text, or None if it is refused as documented."""
    try:
        return DECODER.decode(text)
    except PeerError as error:
        assert isinstance(error, DOCUMENTED), error
        assert 0 < len(str(error)) <= MAX_MESSAGE
        claims = packets.claimed(getattr(error, "header", None))
        assert orjson.loads(packets.write_error(error, *claims))
        return None


def check_payload(text: str) -> None:
    """Check that only the value of Payload changes, and that no earlier one can be read."""
    head, tail = around_payload(text)
    joined = f"{head}{packets.ROLE[True]}{tail}"
    body = orjson.loads(text)
    body["Payload"] = "true"
    assert orjson.loads(joined) == body
    before, after = pairs(text), pairs(joined)
    payloads = [at for at, (key, _) in enumerate(before) if key == "Payload"]
    for at in payloads:
        before[at] = ("Payload", "true" if at == payloads[-1] else "")
    assert before == after


def pairs(text: str) -> list[tuple[str, Any]]:
    """Return the keys and values of an object in order, with numbers as they are spelled."""
    found: Any = json.loads(
        text, object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=str
    )
    return [tuple(pair) for pair in found]
