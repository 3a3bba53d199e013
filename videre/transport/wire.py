"""Checks the bytes of a WebSocket connection before they are parsed.

aiohttp's parser does not report whether a frame was masked, accepts a whole message between the
fragments of another, and does not count fragments. This module reads each frame's header first, and
skips the payload, so that it costs nothing per byte.
"""

from __future__ import annotations

import asyncio

from aiohttp import WebSocketError, WSCloseCode, web
from aiohttp.http import WebSocketReader

from videre.transport.websocket import WebSocketSession

_TEXT_MESSAGE = 0x81  # first byte of an unfragmented text message
_FIN, _RSV1, _OPCODE, _CONTROL = 0x80, 0x40, 0x0F, 0x08  # RFC 6455, 5.2
_MASKED, _MEDIUM, _LONG = 0x80, 126, 127
_HEADERS = {_MEDIUM: 8, _LONG: 14}  # bytes of a masked frame's header, by its length field
_SHORT_HEADER = 6

# Frames parsed between checks whether the session has been cut off: half a millisecond.
FRAMES_AT_ONCE = 256


class Wire(asyncio.Protocol):
    """The connection's protocol after the upgrade: it checks frames and passes them to the parser.

    If a chunk has several frames, each session's output is written once, at the end of the chunk:
    system calls are half of a relay's time. This class replaces aiohttp's protocol, and tells it
    what it needs to end the request.
    """

    def __init__(
        self,
        http: web.RequestHandler,
        parser: WebSocketReader,
        session: WebSocketSession,
        *,
        deflate: bool,
    ) -> None:
        self._http = http
        self._session = session
        self._shared = session.shared
        self._parser: WebSocketReader | None = parser  # None once a frame was refused
        self._feed = parser.feed_data
        self._relays = self._shared.tally.relays
        self._deflate = deflate
        self._left = 0  # bytes of the current frame still to come
        self._head = b""  # an incomplete header
        self._fragmented = False  # whether a fragmented message is incomplete
        self._quick = not deflate  # whether a chunk may be treated as one whole message

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""
        relays = self._relays
        relays.left -= 1
        if not relays.left:
            relays.begin()
        size = len(data)
        if self._quick and size > 6 and data[0] == _TEXT_MESSAGE:
            second = data[1]
            # The size of a masked frame whose length is below 126, or takes two bytes.
            whole = second - 122 if second != 0xFE else (data[2] << 8 | data[3]) + 8
            if size == whole and second != 0xFF:
                self._feed(data)
            else:
                self._feed_frames(data)
        else:
            self._feed_frames(data)
        if relays.arrived is not None:
            relays.end()

    # For aiohttp's protocol: bytes that came with the request, and the end of the connection.

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Handle bytes that came with the request. aiohttp's protocol calls this as on a parser."""
        self.data_received(data)
        return False, b""

    def feed_eof(self) -> None:
        """End the session: the connection has gone."""
        self._session.lost()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass the loss on to aiohttp's protocol, which calls `feed_eof`."""
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        """Close the session: the client does not read."""
        self._http.pause_writing()
        self._session.congested()

    def resume_writing(self) -> None:
        """Tell aiohttp's protocol that the client reads again."""
        self._http.resume_writing()

    # Frames.

    def _feed_frames(self, data: bytes) -> None:
        self._shared.cork = []
        try:
            if self._parser is not None and (reason := self._walk(data)) is not None:
                self._parser, self._quick = None, False
                self._session.broken(WebSocketError(WSCloseCode.PROTOCOL_ERROR, reason))
        finally:
            self._shared.uncork()

    def _walk(self, data: bytes) -> str | None:
        """Check the headers in a chunk, and parse the frames, some at a time.

        Returns the fault of the first frame that must not be parsed. Input after a session was cut
        off is dropped: 256 KB of the smallest frames take 90 ms.
        """
        fed = len(self._head)  # bytes that the parser already has
        if fed:
            data = self._head + data
        end, position, frames = len(data), self._left, 0
        while end - position >= 2:
            first, second = data[position], data[position + 1]
            if not second & _MASKED:
                return self._refuse(data[fed:position], "A frame without a mask")
            length = second & ~_MASKED
            header = _HEADERS.get(length, _SHORT_HEADER)
            if end - position < header:
                break
            if header > _SHORT_HEADER:
                length = int.from_bytes(data[position + 2 : position + header - 4])
            if (reason := self._judge(first, length)) is not None:
                return self._refuse(data[fed:position], reason)
            position += header + length
            frames += 1
            if not frames % FRAMES_AT_ONCE and position < end:
                self._feed(data[fed:position])
                fed = position
                if self._session.is_cut:
                    self._parser, self._quick = None, False
                    return None
        self._left = max(0, position - end)
        self._head = data[position:]
        self._quick = position == end and not (self._fragmented or self._deflate)
        self._feed(data[fed:])
        return None

    def _refuse(self, fit: bytes, reason: str) -> str:
        if fit:
            self._feed(fit)
        return reason

    def _judge(self, first: int, length: int) -> str | None:
        """Return the fault of a frame that the parser would not notice, or None."""
        opcode = first & _OPCODE
        if opcode & _CONTROL:
            return "A control frame cannot be compressed" if first & _RSV1 else None
        if self._fragmented and opcode:
            return "Message within another message"
        unfinished = not first & _FIN
        if unfinished:
            self._session.fragment(length)
        if unfinished != self._fragmented:
            self._fragmented = self._session.unfinished = unfinished
        return None
