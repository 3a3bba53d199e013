"""A broadcast is framed once for each framing, however many sessions receive it."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from fakes import packet
from hypothesis import given
from hypothesis import strategies as st
from inprocess import serving

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
