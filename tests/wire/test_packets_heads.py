"""The fastest path of a packet: a broadcast whose header is identical to the last one's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import World, packet
from hypothesis import example, given
from hypothesis import strategies as st

from videre.errors import PeerError
from videre.packets import Decoder
from videre.payload import MAX_HEAD, head_of

DECODER = Decoder(None)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def accepted(text: str) -> dict[str, Any] | None:
    """Return the header of a packet, or None if it is refused."""
    try:
        return DECODER.decode(text).header
    except PeerError:
        return None


@given(first=JSON, second=JSON)
def test_another_payload_behind_the_same_head(first: Any, second: Any) -> None:
    """A packet that differs only in its Payload repeats the head."""
    header = {"Event": "broadcast", "UserId": "a", "RoomId": "r", "More": [1, {"Payload": 2}]}
    one, two = (json.dumps({"Header": header, "Payload": each}) for each in (first, second))
    head = head_of(one)
    assert head is not None and DECODER.repeats(two, head)


@given(rest=st.text(st.sampled_from('{}[]",:\\1 eaHdrPyloEvntUsIR'), max_size=40))
@example('1,"Header":{"Event":"ping","UserId":"b","RoomId":"r"}}')
@example("1}}")
@example("}")
@example("")
@example('"\\ud800"}')
@example("NaN}")
@example("1},{}")
def test_a_repetition_is_a_valid_packet_of_the_same_header(rest: str) -> None:
    """Whatever follows the head, the decoder accepts each repetition with that header."""
    text = packet("broadcast", "a", "r")
    head = head_of(text)
    assert head is not None
    if DECODER.repeats(head + rest, head):
        assert accepted(head + rest) == accepted(text)
        assert list(json.loads(head + rest)) == ["Header", "Payload"]


LEVELS = 1024  # levels of nesting that orjson accepts


@pytest.mark.parametrize(
    "levels",
    [
        LEVELS - 2,
        LEVELS - 1,
        LEVELS,
        LEVELS + 1,
    ],
)
def test_a_repetition_is_nested_no_deeper_than_a_packet(levels: int) -> None:
    """Nesting refused in a first packet is refused behind a known head, too."""
    head = head_of(packet("broadcast", "a", "r"))
    assert head is not None
    text = f"{head}{'[' * levels}{']' * levels}}}"
    assert DECODER.repeats(text, head) == (accepted(text) is not None)


@pytest.mark.parametrize(
    "text",
    [
        '{"Payload": 1, "Header": {"Event": "broadcast", "UserId": "a", "RoomId": "r"}}',
        '{"Header": {"Event": "broadcast", "UserId": "a", "RoomId": "r"}, "Payload": 1, "More": 2}',
        '{"Payload": 0, "Header": {"Event": "ping", "UserId": "a", "RoomId": "r"}, "Payload": 1}',
        '{"Header": {"Event": "broadcast", "UserId": "a", "RoomId": "r"}, "Payload": 1} ',
    ],
)
def test_packets_that_do_not_end_with_the_payload_have_no_head(text: str) -> None:
    """Keys behind the Payload may differ the next time."""
    assert accepted(text) is not None and head_of(text) is None


@pytest.mark.parametrize("rest", ["{}x", "1}x", "1", "1 ", "}", "", "1,2}", '1,"Payload":2}'])
def test_what_only_begins_like_a_packet_repeats_nothing(rest: str) -> None:
    """One value and a brace: nothing else."""
    head = head_of(packet("broadcast", "a", "r"))
    assert head is not None
    assert DECODER.repeats(f"{head}1}}", head) and not DECODER.repeats(head + rest, head)


def test_a_long_payload_is_one_value() -> None:
    """No further key hides behind it; a packet with it alone repeats the head."""
    head = head_of(packet("broadcast", "a", "r"))
    assert head is not None
    long = f'"{"x" * 3 * LEVELS}"'
    assert DECODER.repeats(f"{head}{long}}}", head)
    assert not DECODER.repeats(f"{head}{long},{long}}}", head)
    assert not DECODER.repeats(f'{head}{long},"Payload":{long}}}', head)


def test_a_head_of_the_most_length() -> None:
    """1024 characters, ten times what a client needs."""
    bare = packet("broadcast", "a", "r", 1, More="")
    spare = MAX_HEAD - len(bare.rpartition("1}")[0])
    longest = packet("broadcast", "a", "r", 1, More="x" * spare)
    assert MAX_HEAD == 1024 and head_of(longest) == longest.removesuffix("1}")
    assert head_of(packet("broadcast", "a", "r", 1, More="x" * (spare + 1))) is None


def test_a_long_head_is_not_kept() -> None:
    """A session keeps only as much of a header as clients need."""
    text = packet("broadcast", "a", "r", 1, More="x" * MAX_HEAD)
    assert accepted(text) is not None and head_of(text) is None


def test_a_known_head_does_not_bypass_the_size_limit() -> None:
    """The limit holds on the fast path too."""
    decoder = Decoder(300)
    head = head_of(packet("broadcast", "a", "r"))
    assert head is not None
    text = f'{head}"{"x" * 300}"}}'
    assert not decoder.repeats(text, head)


def test_a_head_belongs_to_its_seat() -> None:
    """After a move, or without a seat, the old room's header is no longer known."""
    world = World()
    first, second = world.members("a", "b")
    for text in (packet("broadcast", "a", "room", "1"), packet("broadcast", "a", "room", "2")):
        first.say(text)
        assert second.texts() == [text]
    first.connect("a", "other")
    first.texts()
    second.texts()
    first.say(packet("broadcast", "a", "room", "3"))
    assert [brief[3] for brief in first.heard()] == ["not-in-room"]
    assert second.texts() == []


def test_a_client_whose_headers_differ_is_served() -> None:
    """With another header each time, every packet takes the slow path."""
    world = World()
    first, second = world.members("a", "b")
    sent = [packet("broadcast", "a", "room", "{}", Id=number) for number in range(30)]
    for text in sent:
        first.say(text)
    assert second.texts() == sent
