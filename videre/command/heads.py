"""Bounds the head of a request: aiohttp bounds each of its lines and their number only."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader


class HeadTooLong(BadHttpMessage):
    """A request's head, or the trailers after its body, exceed `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"More than {limit} bytes of headers")


class HeadParser:
    """aiohttp's parser of a connection's requests; it raises HeadTooLong beyond `longest` bytes.

    They would stay in memory twice, until the head ends and then for as long as its request waits:
    128 headers of 32 KB take 8 MB. Trailers may exceed the bound by what arrives with the body.
    """

    __slots__ = ("_body", "_held", "_longest", "_parser", "_read")

    def __init__(self, parser: Any, longest: int) -> None:
        self._parser = parser
        self._longest = longest
        self._held = 0  # bytes that have arrived for a head or for trailers
        self._body: StreamReader = EMPTY_PAYLOAD  # of the latest request
        self._read = 0  # bytes that have arrived of it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> Any:
        """Parse some bytes; see aiohttp's parser."""
        if self._held <= self._longest:  # else nothing more is parsed
            found = self._parser.feed_data(data)
            self._count(found[0], len(data))
        if self._held > self._longest:
            error = HeadTooLong(self._longest)
            if not self._body.is_eof():
                self._body.set_exception(web.RequestPayloadError(str(error)))
            raise error
        return found

    def _count(self, messages: Any, size: int) -> None:
        """Count bytes that were parsed and the heads among them; those of bodies do not count."""
        held = self._held + size
        if messages:
            self._body = messages[-1][1]
            longest = max(map(_size, messages)) if held > self._longest else 0
            held = longest if longest > self._longest else 0
        elif self._body.total_bytes != self._read:
            held = 0
        if self._body.is_eof():
            self._body = EMPTY_PAYLOAD  # keep nothing of it
        self._held, self._read = held, self._body.total_bytes


def _size(found: tuple[RawRequestMessage, StreamReader]) -> int:
    """Return about how many bytes a request's head had."""
    message, _ = found
    return len(message.path) + sum(4 + len(name) + len(text) for name, text in message.raw_headers)
