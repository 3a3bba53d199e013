"""Invariant: for any bytes, `framing.messages` returns a list of strings or raises ValueError.

Each string can be quoted, and framed for any transport.
"""

from __future__ import annotations

import json
from contextlib import suppress

from videre.transport import framing

SEEDS = [
    b'["a","b"]',
    b"[]",
    b'["\\ud800 alone","\\ud83d\\ude00"]',
    b'["\\"{\\\\\\"Header\\\\\\":{}}\\""]',
    b"[" * 3000,
    b"[1]",
    b"[NaN,Infinity]",
    b'{"a":["b"]}',
    b'\xef\xbb\xbf["a"]',
    '["a"]'.encode("utf-16"),
    '["a"]'.encode("utf-32-le"),
    b"[" + b"9" * 5000 + b"]",
    b' \t\r\n["\x7f\xc2\x85"] ',
    b'"a"',
    b'["\\ud800\xed\xbb\xbf"]',
    b"\xff",
    b"",
]


def work(data: bytes) -> None:
    """Do what a server does with a body; this is measured."""
    with suppress(ValueError):
        framing.messages(data)


def one_input(data: bytes) -> None:
    """Check the invariant for these bytes: a body, a binary frame, and a text frame."""
    check(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    check(text)


def check(carrier: str | bytes) -> None:
    """Check the invariant for something that carries messages."""
    try:
        messages = framing.messages(carrier)
    except ValueError:
        return
    assert type(messages) is list
    assert all(type(message) is str for message in messages)
    frame = framing.messages_frame([framing.quote(message) for message in messages])
    assert frame.isascii()
    assert json.loads(frame[1:]) == [whole(message) for message in messages]
    for message in messages:
        framed = framing.Framer(sockjs=False, deflate=False)(message)
        assert framed.endswith(message.encode(errors="replace"))


def whole(message: str) -> str:
    """Return a message with pairs of surrogates joined: JSON cannot distinguish them."""
    return message.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
