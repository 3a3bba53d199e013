"""A broadcast is framed once for each framing, however many sessions receive it."""

from __future__ import annotations

import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable

import pytest
from fakes import packet
from hypothesis import given
from hypothesis import strategies as st
from inprocess import serving
from sockjs_client import fresh
from websocket_client import Socket

import videre
from videre.transport import framing
from videre.transport.framing import Framer, Quoter

PAYLOAD = "once-for-all-" + "x" * 300


async def test_a_broadcast_is_framed_once_for_each_framing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For twelve receivers in two framings, two frames are built."""
    made: Counter[str] = Counter()
    control = Framer.control

    def counting(self: Framer, text: str) -> bytes:
        if PAYLOAD in text:
            made["sockjs" if self._sockjs else "raw"] += 1
        return control(self, text)

    monkeypatch.setattr(Framer, "control", counting)
    async with serving(videre.create_app()) as server:
        clients = [await server.client("raw" if n % 2 else "sockjs") for n in range(13)]
        for number, client in enumerate(clients):
            await client.join(f"user{number}")
            for earlier in clients[:number]:
                await earlier.text()
        text = packet("broadcast", "user0", "room", PAYLOAD)
        await clients[0].say(text)
        assert [await client.text() for client in clients[1:]] == [text] * 12
    assert made == {"raw": 1, "sockjs": 1}


def test_a_text_is_quoted_once_for_all_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is by object: an equal text is quoted again, with the same result."""
    quoted: list[str] = []
    quote = framing.quote

    def counting(text: str) -> str:
        quoted.append(text)
        return quote(text)

    monkeypatch.setattr(framing, "quote", counting)
    quoter = Quoter()
    text = "".join(["a", '"b'])
    assert {quoter(text) for _ in range(10)} == {r'"a\"b"'}
    assert quoted == [text]


@pytest.mark.parametrize("size", [1, 300])
def test_a_message_is_deflated(size: int) -> None:
    """On its own, for a client that negotiated it (RFC 7692, 7.2.1)."""
    deflated = Framer(sockjs=False, deflate=True)(size * "x")
    assert deflated[:2] == bytes([0xC1, len(deflated) - 2])  # FIN and RSV1
    inflated = zlib.decompress(deflated[2:] + b"\x00\x00\xff\xff\x03\x00", wbits=-15)
    assert inflated.decode() == size * "x"


@given(texts=st.lists(st.text(), min_size=1, max_size=4))
def test_a_clients_quoting_is_passed_on(texts: list[str]) -> None:
    """A message's original frame is reused for that message, and for no other."""
    framer = Framer(sockjs=True, deflate=False)
    for text in texts:
        array = json.dumps([text])
        (message,) = framing.messages(array)
        framer.remember(message, f"a{array}")
        assert framer(message) == framer.control(f"a{array}")
        other = "".join([message, "!"])
        assert framer(other) == framer.control(f"a[{framing.quote(other)}]")


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 65_537])
def test_the_length_of_a_frame(size: int) -> None:
    """It takes the shortest of three forms (RFC 6455, 5.2)."""
    head = bytes([0x81, size]) if size < 126 else b"\x81\x7e" + struct.pack("!H", size & 65_535)
    if size > 65_535:
        head = b"\x81\x7f" + struct.pack("!Q", size)
    assert framing.frame(0x81, bytes(size)) == head + bytes(size)


@pytest.mark.parametrize("reason", ["x" * 200, "é" * 100], ids=["ascii", "two bytes each"])
def test_a_long_reason_is_cut(reason: str) -> None:
    """A control frame has up to 125 bytes (RFC 6455, 5.5), and a reason is UTF-8."""
    sent = framing.close(4000, reason)
    assert sent[1] == len(sent) - 2 <= 125
    assert len(sent[4:]) > 121 and reason.startswith(sent[4:].decode())


#: Ways to quote a message in more bytes than it needs, or with another.
PADDED: dict[str, Callable[[str], str]] = {
    "before": lambda text: f"[{' ' * 200_000}{json.dumps(text)}]",
    "behind": lambda text: f"[{json.dumps(text)}{' ' * 200_000}]",
    "outside": lambda text: f"{json.dumps([text])}{' ' * 200_000}",
    "bare": lambda text: f"{json.dumps(text)}{' ' * 200_000}",
    "escapes": lambda text: '["' + "".join(f"\\u{ord(each):04x}" for each in text) + '"]',
    "another": lambda text: json.dumps([text, packet("ping", "user0", "room")]),
}


@pytest.mark.parametrize("pad", PADDED.values(), ids=PADDED)
async def test_padding_is_not_passed_on(pad: Callable[[str], str]) -> None:
    """A member is charged for its messages: others must not get 200 KB for a hundred bytes."""
    async with serving(videre.create_app()) as server:
        sender, receiver = [await Socket.open(server.url, f"{fresh()}/websocket") for _ in range(2)]
        for number, socket in enumerate((sender, receiver)):
            assert await socket.text() == "o"
            socket.send(json.dumps([packet("connect", f"user{number}", "room")]))
            await socket.text()
        text = packet("broadcast", "user0", "room", PAYLOAD)
        sender.send(pad(text))
        assert await receiver.text() == f"a{json.dumps([text])}"
        for socket in (sender, receiver):
            await socket.wire.close()


@pytest.mark.parametrize(
    "body",
    [
        b'["\xff"]',
        b'["\xc0\x80"]',
        b'["\xf5\x80\x80\x80"]',
        b'["\xed\xa0\x80"]',
        b'["\\ud800\xed\xbb\xbf"]',
        '["é"]'.encode("utf-16"),
        '["é"]'.encode("utf-16-le"),
        '["é"]'.encode("utf-32-be"),
    ],
    ids=["ff", "overlong", "too-far", "surrogate", "half", "utf-16", "utf-16-le", "utf-32-be"],
)
def test_a_body_that_is_not_utf_8_is_refused(body: bytes) -> None:
    """SockJS is UTF-8, so that no intermediary reads a body differently."""
    with pytest.raises(ValueError):
        framing.messages(body)
