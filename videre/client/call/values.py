"""Values as data channels carry them: docs/browser.md, "Data"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from videre.client.errors import TransferError

#: Bytes of a plain message, and of a message with a piece of a transfer.
MAX_MESSAGE = 65_536
#: Bytes of a piece's header: transfer id and offset.
HEADER = 8
#: Bytes of a value.
MAX_SIZE = 256 * 1024 * 1024
#: Concurrent transfers in one direction, and their bytes in total.
MAX_TRANSFERS, MAX_TOGETHER = 16, 512 * 1024 * 1024
#: Bytes of a transfer's text message; the largest id.
MAX_TEXT, MAX_ID = 4096, 2**32 - 1
#: Bytes after which the receiver acknowledges; bytes that may be sent ahead of an acknowledgement.
ACK, WINDOW = 262_144, 2_097_152
#: Characters of a name or a media type.
MAX_NAME = 255

TEXT, JSON, BYTES, BLOB = "text", "json", "bytes", "blob"


def is_short(name: str) -> bool:
    """Tell whether a name or media type may be sent; raise ValueError if it has lone surrogates."""
    return len(name.encode("utf-16-le")) <= 2 * MAX_NAME  # as browsers count


@dataclass(frozen=True, slots=True)
class Blob:
    """A file's bytes with its name and media type, like a browser's File."""

    data: bytes
    name: str | None = None
    mime: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.data, bytes):
            raise TypeError(f"data must be bytes, not {type(self.data).__name__}")
        for option, value in (("name", self.name), ("mime", self.mime)):
            if not (value is None or isinstance(value, str)):
                raise TypeError(f"{option} must be a string or None, not {type(value).__name__}")
            try:
                is_long = not is_short(value or "")
            except UnicodeEncodeError:
                raise ValueError(f"{option} must have no lone surrogates") from None
            if is_long:
                raise ValueError(f"{option} must have at most {MAX_NAME} characters")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of a value, and their kind."""

    kind: str
    data: bytes
    name: str | None = None
    mime: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it fits in one plain message."""
        return self.kind in (TEXT, BYTES) and len(self.data) <= MAX_MESSAGE


def encode(value: Any) -> Encoded:
    """Encode a value as bytes; raise TypeError or ValueError if it cannot be sent."""
    encoded = _encode(value)
    if len(encoded.data) > MAX_SIZE:
        raise ValueError(f"data must have at most {MAX_SIZE} bytes, not {len(encoded.data)}")
    return encoded


def _encode(value: Any) -> Encoded:
    if isinstance(value, str):
        try:
            return Encoded(TEXT, value.encode())
        except UnicodeEncodeError:
            raise ValueError("data must have no lone surrogates") from None
    if isinstance(value, bytes | bytearray | memoryview):
        return Encoded(BYTES, bytes(value))
    if isinstance(value, Blob):
        return Encoded(BLOB, value.data, value.name, value.mime)
    try:
        return Encoded(JSON, orjson.dumps(value))
    except orjson.JSONEncodeError as error:
        raise TypeError(f"data must be a string, bytes, a Blob or a JSON value: {error}") from None


def decode(kind: str, data: bytearray, name: str | None, mime: str | None) -> Any:
    """Decode a value; raise ValueError if the bytes are malformed."""
    if kind == TEXT:
        return data.decode()
    if kind == JSON:
        return orjson.loads(data)
    return Blob(bytes(data), name, mime) if kind == BLOB else bytes(data)


def gone(user: str) -> TransferError:
    """Return the error for a value whose call has ended, or whose channel was closed."""
    return TransferError("gone", user, "The channel closed before all had arrived")
