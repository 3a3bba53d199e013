"""Framing: a packet in each transport's format, made once for all its receivers."""

from __future__ import annotations

import json
import struct
import zlib
from json.encoder import encode_basestring_ascii
from typing import Any

import orjson

TEXT, CLOSE, PING, PONG = (
    0x81,
    0x88,
    0x89,
    0x8A,
)  # first byte of an unfragmented frame, RFC 6455 5.2
_DEFLATED = 0x40  # RSV1, RFC 7692 section 6

_MEDIUM = struct.Struct("!BBH").pack

OPEN_FRAME = "o"
HEARTBEAT_FRAME = "h"


def quote(text: str) -> str:
    """Quote `text` as a JSON string in ASCII; SockJS escapes characters that browsers mangle."""
    return encode_basestring_ascii(text)


def messages_frame(quoted: list[str]) -> str:
    """Return the SockJS frame of quoted messages."""
    return f"a[{','.join(quoted)}]"


def close_frame(code: int, reason: str) -> str:
    """Return the SockJS close frame."""
    return f"c[{code},{quote(reason)}]"


def messages(text: str | bytes) -> list[str]:
    """Parse what a client sent: a JSON array of strings and nothing else.

    Raises ValueError. Lone surrogates pass here; a packet that contains one is refused later.
    """
    if isinstance(text, bytes):
        text = text.decode()
    try:
        value: Any = orjson.loads(text)
    except ValueError:
        try:
            value = json.loads(text)
        except RecursionError:
            raise ValueError("nested too deep") from None
    if type(value) is list:
        for message in value:
            if type(message) is not str:
                break
        else:
            return value
    raise ValueError("not an array of strings")


def messages_of_frame(text: str | bytes) -> list[str]:
    """Parse a WebSocket message: an array of strings, or one bare string, as in sockjs-node.

    Raises ValueError.
    """
    if text[:1] not in ('"', b'"'):
        return messages(text)
    found = messages(f"[{text}]" if isinstance(text, str) else b"[%b]" % text)
    if len(found) != 1:
        raise ValueError("not one string")
    return found


def frame(opcode: int, payload: bytes) -> bytes:
    """Return an unmasked WebSocket frame, as servers send it (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65536:
        return _MEDIUM(opcode, 126, size) + payload
    return struct.pack("!BBQ", opcode, 127, size) + payload


def close(code: int, reason: str) -> bytes:
    """Return a WebSocket close frame; the reason is cut to the 123 bytes that fit."""
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return frame(CLOSE, struct.pack("!H", code) + text)


def deflated(payload: bytes) -> bytes:
    """Return a text frame, deflated on its own (RFC 7692, server_no_context_takeover)."""
    deflate = zlib.compressobj(wbits=-15)
    data = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return frame(TEXT | _DEFLATED, data.removesuffix(b"\x00\x00\xff\xff"))


class Quoter:
    """Quotes texts and caches the last one, for all sessions with an HTTP transport."""

    __slots__ = ("_quoted", "_text")

    def __init__(self) -> None:
        self._text: str | None = None
        self._quoted = ""

    def __call__(self, text: str) -> str:
        """Return `text` as a JSON string."""
        if text is not self._text:
            self._quoted = quote(text)
            self._text = text
        return self._quoted


class Framer:
    """Frames texts for one kind of connection, and caches the last one.

    A broadcast passes the same str object to one connection after another: it is framed for the
    first, and found by identity for the rest.
    """

    __slots__ = ("_deflate", "_frame", "_known", "_sockjs", "_text")

    def __init__(self, *, sockjs: bool, deflate: bool) -> None:
        self._sockjs = sockjs
        self._deflate = deflate
        self._text: str | None = None
        self._frame = b""
        self._known: tuple[str | None, str] = (None, "")

    def __call__(self, text: str) -> bytes:
        """Return the WebSocket frame of the message `text`."""
        if text is self._text:
            return self._frame
        if not self._sockjs:
            carrier = text
        elif text is self._known[0]:
            carrier = self._known[1]
        else:
            carrier = f"a[{quote(text)}]"
        self._frame = made = self.control(carrier)
        self._text = text
        return made

    def remember(self, text: str, sockjs_frame: str) -> None:
        """Cache `sockjs_frame` as the frame of the message `text`, in case it comes next.

        For SockJS framing only.
        """
        self._known = (text, sockjs_frame)

    def control(self, text: str) -> bytes:
        """Return the WebSocket frame of `text` as it is, for a SockJS frame."""
        # A lone surrogate has no UTF-8 form; sending one would make the receiver hang up.
        payload = text.encode(errors="replace")
        size = len(payload)
        if self._deflate:
            return deflated(payload)
        if 126 <= size < 65536:  # inlined from `frame`, for the most common sizes
            return _MEDIUM(TEXT, 126, size) + payload
        return frame(TEXT, payload)
