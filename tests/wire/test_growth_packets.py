"""The cost of one packet: work is linear in its bytes, and each byte is cheap (docs/security.md).

Packets of any shape go through a real Peer with the memory engine, and texts through the decoding
of SockJS frames. growth.py explains how growth is measured.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from fakes import FakeClient, World
from growth import Figures, check
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import examples
from shapes import Shape, repeat, shapes
from tokens import NOW, SECRET, claims, hs256, token

from videre.auth import MAX_TOKEN, TokenAuth, secret_key
from videre.errors import TokenExpired, Unauthorized
from videre.transport import framing

LARGEST = 65_000  # bytes: a little less than the largest packet

#: Multiples of orjson's time for an object of thousands of keys: for any value, and for attacks.
#: Lists 900 deep take 6 on a fresh heap, and up to 32 on the scattered one of an old process.
ANYTHING = 60.0
KNOWN = 10.0
KEYS = 6.0  # of meaningless keys: only parsing is needed, which takes up to 4

EVENTS = ["connect", "broadcast", "ping", "disconnect", "ice"]
NAMES = '"Event":"EVENT","UserId":"a","RoomId":"room"'
HEADER = f'"Header":{{{NAMES}}}'

#: Packets with a JSON text in place of `%s`.
FRAMES = {
    "payload": f'{{{HEADER},"Payload":%s}}',
    "payload first": f'{{"Payload":%s,{HEADER}}}',
    "two payloads": f'{{"Payload":%s,{HEADER},"Payload":1}}',
    "another key": f'{{{HEADER},"k":%s,"Payload":1}}',
    "no payload": f'{{{HEADER},"k":%s}}',
    "id": f'{{"Header":{{{NAMES},"Id":%s}},"Payload":1}}',
    "to": f'{{"Header":{{{NAMES},"To":%s}},"Payload":1}}',
    "user": '{"Header":{"Event":"EVENT","UserId":%s,"RoomId":"room"},"Payload":1}',
    "room": '{"Header":{"Event":"EVENT","UserId":"a","RoomId":%s},"Payload":1}',
    "event": '{"Header":{"Event":%s,"UserId":"a","RoomId":"room"},"Payload":1}',
    "header": '{"Header":%s,"Payload":1}',
    "nothing": "%s",
    "no JSON": f'{{{HEADER},"Payload":%s',
    "token": f'{{{HEADER},"Payload":{{"Token":%s}}}}',
    "welcome": f'{{{HEADER},"Payload":{{"Welcome":%s}}}}',
    "resume": f'{{{HEADER},"Payload":{{"Resume":%s,"Received":0}}}}',
    "received": f'{{{HEADER},"Payload":{{"Received":%s}}}}',
}
#: The same, with the members of an object.
MEMBER_FRAMES = {
    "before": f'{{%s,{HEADER},"Payload":1}}',
    "behind": f'{{{HEADER},"Payload":1,%s}}',
    "between": f'{{"Payload":1,{HEADER},%s,"Payload":1}}',
    "header, before": f'{{"Header":{{%s,{NAMES}}},"Payload":1}}',
    "header, behind": f'{{"Header":{{{NAMES},%s}},"Payload":1}}',
    "payload": f'{{{HEADER},"Payload":{{%s}}}}',
}
WORLD = World()


def receive(make: Callable[[int], str], dense: float) -> Figures:
    """Check the cost of a packet from a member, with a new member for each."""

    def build(size: int) -> tuple[FakeClient, str]:
        member, _ = WORLD.members("a", "b")
        return member, make(size)

    def work(given: tuple[FakeClient, str]) -> None:
        given[0].say(given[1])

    return check(build, work, largest=LARGEST, dense=dense, weigh=lambda given: len(given[1]))


def framed(frame: str, event: str, inner: str) -> str:
    """Return a packet of an event, with a text in it."""
    return frame.replace("EVENT", event).replace("%s", inner)


THOROUGH = settings(max_examples=examples(50))


@THOROUGH
@given(st.sampled_from(EVENTS), st.sampled_from(sorted(FRAMES)), shapes(), st.booleans())
def test_any_value_anywhere(event: str, where: str, shape: Shape, quoted: bool) -> None:
    """It may be in any field, or in a string that holds its JSON text."""

    def make(size: int) -> str:
        inner = json.dumps(shape(size // 2)) if quoted else shape(size)
        return framed(FRAMES[where], event, inner)

    receive(make, ANYTHING)


@THOROUGH
@given(st.sampled_from(EVENTS), st.sampled_from(sorted(MEMBER_FRAMES)), shapes("object"))
def test_any_keys_anywhere(event: str, where: str, shape: Shape) -> None:
    """Thousands of keys, known ones included, in packet, header and Payload."""
    receive(lambda size: framed(MEMBER_FRAMES[where], event, shape.members(size)), ANYTHING)


KNOWN_ATTACKS = {
    "To of numbers": ("to", "broadcast", Shape("array", ("1",))),
    "To of names": ("to", "broadcast", Shape("array", ('"a"',))),
    "To of other names": ("to", "broadcast", Shape("array", ('"u%d"',))),
    "To of lists": ("to", "broadcast", Shape("array", ("[]",))),
    "To that is an object": ("to", "broadcast", Shape("object", ('"k%d":0',))),
    "To that is long": ("to", "broadcast", Shape("string", ("x",))),
    "a name that is a list": ("user", "ping", Shape("array", ("[]",))),
    "a resume that is a list": ("resume", "connect", Shape("array", ("[]",))),
    "brackets": ("payload", "ping", Shape("array", ("[]",))),
    "brackets for all": ("payload", "connect", Shape("array", ("[]",))),
    "brackets first": ("payload first", "ping", Shape("array", ("[]",))),
    "keys of a Payload": ("payload", "connect", Shape("object", ('"k%d":0',))),
}
KNOWN_MEMBERS = {
    "keys": ("before", "ping", '"k%d":0'),
    "payloads": ("before", "ping", '"Payload":""'),
    "header": ("header, behind", "ping", '"k%d":0'),
    "header and To": ("header, behind", "broadcast", '"To":"b","k%d":0'),
    "keys for all": ("before", "connect", '"k%d":0'),
}


@pytest.mark.parametrize("kind", KNOWN_ATTACKS)
def test_a_known_attack(kind: str) -> None:
    """Inputs that have stalled other servers cost little more than parsing them."""
    where, event, shape = KNOWN_ATTACKS[kind]
    receive(lambda size: framed(FRAMES[where], event, shape(size)), KNOWN)


@pytest.mark.parametrize("kind", KNOWN_MEMBERS)
def test_a_known_attack_by_keys(kind: str) -> None:
    """The same holds for attacks that use keys."""
    where, event, piece = KNOWN_MEMBERS[kind]
    dense = KNOWN if "Payload" in piece else KEYS
    receive(lambda size: framed(MEMBER_FRAMES[where], event, repeat(piece, size)), dense)


@pytest.mark.parametrize("field", ["UserId", "RoomId", "Event"])
def test_each_packet_under_another_name(field: str) -> None:
    """A new name costs no more than a known one."""
    member, _ = WORLD.members("a", "b")
    names = itertools.count()

    def make(count: int) -> list[str]:
        header = {"Event": "broadcast", "UserId": "a", "RoomId": "room"}
        return [
            json.dumps({"Header": {**header, field: f"{next(names)}"}, "Payload": 1})
            for _ in range(count)
        ]

    def work(texts: list[str]) -> None:
        for text in texts:
            member.say(text)
        member.texts()

    check(make, work, largest=512)


AUTH = TokenAuth([secret_key(SECRET), secret_key(SECRET[::-1])])


@pytest.mark.parametrize("piece", [".", "a", "a.", "e30.", "\u00e9", "=", "-_", "eyJ", "\x00"])
def test_an_invalid_token(piece: str) -> None:
    """A long one is not examined at all."""

    def work(token: str) -> None:
        with pytest.raises(Unauthorized):
            AUTH.grant(token, "a", "room", NOW)

    check(lambda size: repeat(piece, size, between=""), work, largest=LARGEST, dense=ANYTHING)


@THOROUGH
@given(
    shapes("array", "object", "deep"),
    st.sampled_from(["room", "sub", "exp", "max", "aud", "iss", "iat", "jti", "header", "body"]),
)
def test_a_signed_token(shape: Shape, claim: str) -> None:
    """Its signer may put anything into it, and a stranger anything into its header."""

    def make(size: int) -> str:
        inner = shape(size * 5 // 8 if size > 1024 else size // 2)
        if claim == "header":
            return hs256(claims(), f'{{"alg":"HS256","crit":{inner}}}'.encode())
        good = json.dumps(claims() | {claim: 0})
        return hs256(
            inner.encode() if claim == "body" else good.replace("0}", inner + "}").encode()
        )

    def work(token: str) -> None:
        with suppress(Unauthorized, TokenExpired):
            AUTH.grant(token, "a", "room", NOW)

    check(make, work, largest=MAX_TOKEN)


@pytest.mark.parametrize("pattern", ["x%d", "x%d*", "*%d", "roo"])
def test_a_token_for_many_rooms(pattern: str) -> None:
    """Its list is searched once."""

    def make(size: int) -> str:
        return token(room=[pattern.replace("%d", str(number)) for number in range(size // 16)])

    def work(token: str) -> None:
        with pytest.raises(Unauthorized, match="a different room"):
            AUTH.grant(token, "a", "room", NOW)

    check(make, work, largest=MAX_TOKEN)


@THOROUGH
@given(shapes(), st.sampled_from(["", "\\ud800", "\ud800"]), st.booleans())
def test_sockjs_framing(shape: Shape, tail: str, whole: bool) -> None:
    """One message of any text, or a frame that is no array of messages."""

    def make(size: int) -> str:
        text = shape(size // 2)
        return text if whole else f"[{json.dumps(text + tail)}]"

    check(make, messages, largest=LARGEST, dense=ANYTHING)


@pytest.mark.parametrize(
    "piece", ['""', '"a"', '"{\\"Header\\":1}"', '"\\ud800"', "[]", "0", '"\\"\\\\"', '"\u00e9"']
)
def test_a_batch_of_messages(piece: str) -> None:
    """One frame has thousands of them, and each one is handled."""

    def build(size: int) -> tuple[FakeClient, str]:
        return WORLD.client(), Shape("array", (piece,))(size)

    def work(given: tuple[FakeClient, str]) -> None:
        client, frame = given
        for text in messages(frame):
            client.say(text)

    check(build, work, largest=LARGEST, weigh=lambda given: len(given[1]))


def messages(frame: str) -> list[str]:
    """Return the messages in a SockJS frame, none if it is invalid."""
    try:
        return framing.messages(frame)
    except ValueError:
        return []
