"""The check of frames before the parser: however chunks are cut, the same frames pass."""

from __future__ import annotations

import os
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import WSCloseCode, WSMessage, WSMsgType
from hypothesis import given
from hypothesis import strategies as st
from websocket_client import BINARY, CONTINUATION, PING, PONG, TEXT, fragment
from websocket_client import encode as masked

from videre.settings import Options
from videre.tally import Tally
from videre.transport.holdings import Holdings
from videre.transport.wire import FRAMES_AT_ONCE, Wire

SIZES = st.sampled_from([0, 1, 2, 5, 15, 16, 124, 125, 126, 127, 128, 129, 300, 65535, 65536])


class Heard:
    """Records what the session hears, and what all sessions share."""

    def __init__(self) -> None:
        self.shared: Any = self
        self.options = Options(max_packet_bytes=LIMIT)
        self.tally = Tally(lambda: 0.0)
        self.cork: list[Any] | None = None
        self.unfinished = self.is_cut = self.is_over = False
        self.address = "a"
        self.incoming: Holdings[Any] = Holdings()
        self.messages: list[bytes] = []
        self.fragments: list[int] = []
        self.errors: list[str] = []
        self.texts = 0

    def uncork(self) -> None:
        self.cork = None

    def heard(self, text: str) -> None:
        self.texts += 1

    def fragment(self, size: int) -> None:
        self.fragments.append(size)

    def broken(self, error: BaseException) -> None:
        self.errors.append(str(error))

    def lost(self) -> None: ...

    def shed(self) -> None: ...


def parsing(heard: Heard, *, deflate: bool = False) -> Wire:
    """Return a wire that parses as usual."""
    return Wire(heard, lambda: None, deflate=deflate)  # type: ignore[arg-type]


def wire_of(heard: Heard, *, deflate: bool = False) -> Wire:
    """Return a wire that passes every frame to its parser, which only records them."""

    def feed(data: bytes) -> tuple[bool, bytes]:
        heard.messages.append(bytes(data))
        return False, b""

    wire = parsing(heard, deflate=deflate)
    wire._longest = 0
    wire._parser = SimpleNamespace(feed_data=feed)  # type: ignore[assignment]
    return wire


def encode(first: int, size: int, *, masked: bool = True) -> bytes:
    """Return a frame of this many bytes, whose payload looks like frames itself."""
    bit = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    return head + (os.urandom(4) if masked else b"") + (b"\x81\x01" * (size // 2 + 1))[:size]


LIMIT = 300  # bytes of a packet, in the tests of whole messages

MESSAGES = st.tuples(st.sampled_from([0x81, 0x82, 0x89, 0x8A]), SIZES)
CUTS = st.lists(st.integers(0, 300), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data as a network may."""
    found = []
    for cut in cuts:
        found.append(data[:cut])
        data = data[cut:]
    return [piece for piece in (*found, data) if piece]


@pytest.mark.parametrize("deflate", [False, True])
@given(sent=st.lists(MESSAGES, max_size=6), cuts=CUTS)
def test_masked_frames_pass_unchanged(
    sent: list[tuple[int, int]], cuts: list[int], deflate: bool
) -> None:
    """The parser gets every byte of valid frames, once and in order."""
    heard = Heard()
    wire = wire_of(heard, deflate=deflate)
    data = b"".join(encode(first, size) for first, size in sent)
    for piece in pieces(data, cuts):
        wire.data_received(piece)
    assert (b"".join(heard.messages), heard.errors) == (data, [])


@given(sent=st.lists(MESSAGES, max_size=6), bad=MESSAGES, cuts=CUTS)
def test_an_unmasked_frame_is_found(
    sent: list[tuple[int, int]], bad: tuple[int, int], cuts: list[int]
) -> None:
    """It is found in any chunk and position; neither it nor anything after it is parsed."""
    heard = Heard()
    wire = wire_of(heard)
    good = b"".join(encode(first, size) for first, size in sent)
    data = good + encode(*bad, masked=False) + encode(0x81, 3)
    for piece in pieces(data, cuts):
        wire.data_received(piece)
    passed = b"".join(heard.messages)
    assert heard.errors == ["A frame without a mask"]
    assert passed in (good, good + data[len(good) : len(good) + 1])  # half a header is not a frame


@given(sizes=st.lists(SIZES, max_size=5), amid=st.sampled_from([0x01, 0x81, 0x02, 0x82]), cuts=CUTS)
def test_a_message_within_another_is_found(sizes: list[int], amid: int, cuts: list[int]) -> None:
    """Only continuations and control frames may come between the fragments of a message."""
    heard = Heard()
    wire = wire_of(heard)
    parts = [encode(0x00, size) + encode(0x89, 4) for size in sizes]
    data = encode(0x01, 0) + b"".join(parts) + encode(amid, 4)
    for piece in pieces(data, cuts):
        wire.data_received(piece)
    assert heard.errors == ["Message within another message"]
    assert heard.fragments == [0, *sizes]


@given(sizes=st.lists(SIZES, min_size=1, max_size=5), cuts=CUTS)
def test_fragments_are_reported(sizes: list[int], cuts: list[int]) -> None:
    """Each but the last is reported with its size; until that the message is unfinished."""
    heard = Heard()
    wire = wire_of(heard)
    data = encode(0x01, sizes[0]) + b"".join(encode(0x00, size) for size in sizes[1:])
    for piece in pieces(data, cuts):
        wire.data_received(piece)
    assert (heard.fragments, heard.errors, heard.unfinished) == (sizes, [], True)
    wire.data_received(encode(0x80, 1) + encode(0x81, 1))
    assert (heard.fragments, heard.errors, heard.unfinished) == (sizes, [], False)


@given(
    sizes=st.lists(SIZES, min_size=1, max_size=4),
    last=SIZES,
    before=st.integers(0, 3),
    cuts=CUTS,
    cut=st.integers(0, 70_000),
)
def test_the_bytes_of_an_unfinished_message_are_counted(
    sizes: list[int], last: int, before: int, cuts: list[int], cut: int
) -> None:
    """They count until it is complete, however it is cut; nothing counts between two messages."""
    heard = Heard()
    wire = wire_of(heard)
    fragments = [encode(0x01, sizes[0]), *(encode(0x00, size) for size in sizes[1:])]
    data = encode(0x81, 5) * before + b"".join(fragments) + encode(0x80, last)
    sent = data[: max(1, len(data) - cut)]
    for piece in pieces(sent, cuts):
        wire.data_received(piece)
    if len(sent) < len(data):
        waiting = len(sent) - min(before, len(sent) // 11) * 11
        headers = 14 * (len(sizes) + 1)
        assert waiting - headers <= heard.incoming.total <= waiting
        wire.data_received(data[len(sent) :])
    assert (heard.incoming.total, heard.errors) == (0, [])
    wire.data_received(encode(0x01, 100))
    assert heard.incoming.total == 100
    wire.connection_lost(None)
    assert heard.incoming.total == 0


@pytest.mark.parametrize("deflate", [False, True])
def test_control_frames_are_not_compressed(deflate: bool) -> None:
    """RFC 7692, 6.1: RSV1 is an error in a control frame; for messages the parser decides."""
    heard = Heard()
    wire_of(heard, deflate=deflate).data_received(encode(0xC1, 7) + encode(0xC9, 7))
    assert heard.errors == ["A control frame cannot be compressed"]


def test_frames_after_the_end_are_dropped() -> None:
    """The rest of a chunk of thousands of frames costs nothing once the session is cut off."""
    heard = Heard()
    wire = wire_of(heard)
    passed: list[bytes] = []

    def feed(data: bytes) -> None:
        passed.append(data)
        heard.is_cut = True

    wire._parser = SimpleNamespace(feed_data=feed)  # type: ignore[assignment]
    data = encode(0x81, 1)
    wire.data_received(data * 40_000)
    wire.data_received(data)
    assert passed == [data * FRAMES_AT_ONCE]


def test_what_follows_the_end_of_a_session_is_dropped() -> None:
    """Whole text messages, which no parser sees, count as frames, too."""

    class Cut(Heard):
        def heard(self, text: str) -> None:
            super().heard(text)
            self.is_cut = True

    heard = Cut()
    wire = parsing(heard)
    for _ in range(2):
        wire.data_received(masked(b"text", TEXT) * 40_000)
    assert (heard.texts, wire._parser) == (FRAMES_AT_ONCE, None)


@given(count=st.integers(200, 1100), cuts=CUTS)
def test_many_frames_pass_unchanged(count: int, cuts: list[int]) -> None:
    """They pass even if they are parsed a few at a time."""
    heard = Heard()
    wire = wire_of(heard)
    data = encode(0x82, 2) * count
    for piece in pieces(data, cuts):
        wire.data_received(piece)
    assert (b"".join(heard.messages), heard.errors) == (data, [])
    assert max(map(len, heard.messages)) <= len(encode(0x82, 2)) * (FRAMES_AT_ONCE + 1)


class Told(Heard):
    """A session that records its messages, whether parsed or taken directly."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Any, ...]] = []

    def heard(self, text: str) -> None:
        self.told.append((WSMsgType.TEXT, text))

    def arrived(self, message: WSMessage) -> None:
        self.told.append(message[:2])

    def broken(self, error: BaseException) -> None:
        self.told.append((getattr(error, "code", None), str(error)))

    @property
    def until_broken(self) -> list[tuple[Any, ...]]:
        """Return the messages until it closes; a real session ignores later ones."""
        errors = [number for number, (kind, _) in enumerate(self.told) if kind >= 1000]
        return self.told[: errors[0] + 1] if errors else self.told


# Texts whose length takes one, two or eight bytes, or is near the limit; and invalid UTF-8.
TEXTS = [
    *("", "a", "\xe9\U0001f600", "x" * 125, "x" * 126, "\xe9" * 100),
    *("x" * (4 * LIMIT + more) for more in (-1, 0, 1, 7)),
    "x" * 66_000,
]
BYTES = [b"\xff", b"\xed\xa0\x80", b"\xc3" * 130, b"", b"plain"]
WHOLE = st.one_of(
    st.tuples(st.just(TEXT), st.sampled_from(TEXTS).map(str.encode)),
    st.tuples(st.sampled_from([TEXT, BINARY, PING, PONG]), st.sampled_from(BYTES)),
)


@pytest.mark.parametrize("deflate", [False, True])
@given(sent=st.lists(WHOLE, max_size=6), cuts=CUTS, joined=st.booleans())
def test_whole_messages_equal_the_parsers(
    sent: list[tuple[int, bytes]], cuts: list[int], joined: bool, deflate: bool
) -> None:
    """Text messages, alone in a chunk or not, come out as they do from aiohttp's parser."""
    frames = [masked(payload, opcode) for opcode, payload in sent]
    if joined:
        frames = [b"".join(frames[:3]), b"".join(frames[3:])]
    told = []
    for longest in (None, 0):
        heard = Told()
        wire = parsing(heard, deflate=deflate)
        if longest is not None:
            wire._longest = longest
        for number, frame in enumerate(frames):
            for piece in pieces(frame, cuts if number == 1 else []):
                wire.data_received(piece)
        told.append(heard.until_broken)
    assert told[0] == told[1]


def test_a_whole_message_needs_no_parser() -> None:
    """No parser is even created for it; any other frame needs one."""
    heard = Told()
    wire = parsing(heard)
    texts = ["short", "long" * 40, "x" * 125, "x" * 126]
    for text in texts:
        wire.data_received(masked(text.encode(), TEXT))
    wire.data_received(b"".join(masked(text.encode(), TEXT) for text in texts))
    assert heard.told == [(WSMsgType.TEXT, text) for text in 2 * texts]
    assert wire._parser is None
    wire.data_received(masked(b"ping", PING))
    assert wire._parser is not None


def test_an_unfinished_message_that_is_shed() -> None:
    """It is freed at once, and what follows it is ignored."""
    heard = Told()
    wire = parsing(heard)
    wire.data_received(fragment(b"be", TEXT))
    assert heard.incoming.total == 2 and wire._parser is not None
    wire.shed()
    assert heard.incoming.total == 0 and wire._parser is None
    wire.data_received(masked(b"gun", CONTINUATION))
    assert heard.told == []


@pytest.mark.parametrize(("limit", "size"), [(100, 400), (None, 500)])
def test_the_longest_message_in_fragments(limit: int | None, size: int) -> None:
    """The limit of a frame includes it; without one, any size passes."""
    heard = Told()
    heard.options = Options(max_packet_bytes=limit)
    wire = parsing(heard)
    half = size // 2 * b"x"
    wire.data_received(fragment(half, TEXT) + masked(half, CONTINUATION))
    assert heard.told == [(WSMsgType.TEXT, size * "x")]
    wire.data_received(fragment(half, TEXT) + masked(half + b"x", CONTINUATION))
    kind, _ = heard.told[-1]
    assert kind == (WSMsgType.TEXT if limit is None else WSCloseCode.MESSAGE_TOO_BIG)


def test_a_new_limit_waits_for_the_end_of_a_message() -> None:
    """The parser that has begun a message keeps its limit until the message is complete."""
    heard = Told()
    wire = parsing(heard)
    first, last = fragment(b"be", TEXT), masked(b"gun", CONTINUATION)
    wire.data_received(first)
    begun = wire._parser
    wire.configure()
    assert begun is not None and wire._parser is begun
    wire.data_received(last)
    assert heard.told == [(WSMsgType.TEXT, "begun")] and wire._parser is None
