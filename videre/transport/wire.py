"""Checks the bytes of a WebSocket connection before they are parsed.

aiohttp's parser does not report whether a frame was masked, accepts a whole message between the
fragments of another, and does not count fragments. This module reads each frame's header first, and
skips the payload, so that it costs nothing per byte.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable

from aiohttp import WebSocketError, WSCloseCode
from aiohttp.http import WebSocketReader

from videre.transport.parsing import parser, websocket_mask
from videre.transport.websocket import WebSocketSession

_TEXT_MESSAGE = 0x81  # first byte of an unfragmented text message
_FIN, _RSV1, _OPCODE, _CONTROL = 0x80, 0x40, 0x0F, 0x08  # RFC 6455, 5.2
_MASKED, _MEDIUM, _LONG = 0x80, 126, 127
_SHORT_HEADER, _MEDIUM_HEADER = 6, 8  # bytes of a masked frame's header, by its length field
_HEADERS = {_MEDIUM: _MEDIUM_HEADER, _LONG: 14}

# The first two bytes of an unfragmented, masked text message: its length is added to the first, or
# stands in the next two bytes.
_SHORT_TEXT, _MEDIUM_TEXT = 0x8180, 0x81FE
_head = struct.Struct(">HH").unpack_from

# Frames parsed between checks whether the session has been cut off: half a millisecond.
FRAMES_AT_ONCE = 256

# Bytes of unfinished messages, of all connections together. Each has its own limit (max_frame_bytes
# and 37.5 s). At this bound the largest holders are closed.
MAX_UNFINISHED = 64 * 1024 * 1024


def message_text(data: bytes, start: int, stop: int) -> str:
    """Return the text of a masked message; its mask is the four bytes before `start`.

    Raises UnicodeDecodeError.
    """
    payload = bytearray(data[start:stop])
    websocket_mask(data[start - 4 : start], payload)
    return payload.decode()


def _longest(session: WebSocketSession) -> int:
    """Return the size of the longest frame that may be read without the parser."""
    limit = session.shared.options.max_frame_bytes
    return sys.maxsize if limit is None else limit + _SHORT_HEADER


class Wire(asyncio.Protocol):
    """The connection's protocol after the upgrade: it checks frames and passes messages on.

    Nearly every chunk consists of whole text messages, which go to the session at once. Anything
    else is checked frame by frame, and parsed by aiohttp's parser, which is made when first needed.
    Each session's output is written once, at the end of a chunk of several messages: system calls
    are half of a relay's time.

    `gone` is called when the connection has gone.
    """

    __slots__ = (
        "_deflate",
        "_fragment_bytes",
        "_fragmented",
        "_gone",
        "_head",
        "_ignores",
        "_left",
        "_longest",
        "_outdated",
        "_parser",
        "_quick",
        "_relays",
        "_session",
        "_size",
        "address",
    )

    def __init__(
        self, session: WebSocketSession, gone: Callable[[], object], *, deflate: bool
    ) -> None:
        self._session = session
        self.address = session.address
        self._gone = gone
        self._relays = session.shared.tally.relays
        self._deflate = deflate
        self._parser: WebSocketReader | None = None  # until it is needed
        self._longest = _longest(session)
        self._outdated = False  # whether the parser has an earlier limit of a frame's size
        self._ignores = False  # whether further input is ignored: the client broke the protocol
        self._left = 0  # bytes of the current frame still to come
        self._size = 0  # bytes of the current frame
        self._fragment_bytes = 0  # of the current message, without its last fragment
        self._head = b""  # an incomplete header
        self._fragmented = False  # whether a fragmented message is incomplete
        self._quick = True  # whether a chunk may be treated as one whole message

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""
        relays = self._relays
        relays.left -= 1
        if not relays.left:
            relays.begin()
        size = len(data)
        if self._quick and 6 < size <= self._longest and data[0] == _TEXT_MESSAGE:
            second = data[1]
            # A masked frame whose length is below 126, or takes two bytes.
            start = 6 if second != 0xFE else 8
            whole = second - 122 if start == 6 else (data[2] << 8 | data[3]) + 8
            if size == whole and second != 0xFF:
                self._receive(data, start)
            else:
                self._feed_frames(data)
        else:
            self._feed_frames(data)
        if relays.arrived is not None:
            relays.end()

    def _receive(self, frame: bytes, start: int) -> None:
        """Pass on the message of a frame whose payload begins at `start`."""
        try:
            text = message_text(frame, start, len(frame))
        except UnicodeDecodeError:
            self._feed_frames(frame)  # the parser reports it
            return
        self._session.heard(text)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session: the connection has gone."""
        self._gone()
        self._session.shared.incoming.drop(self)
        self._session.lost()

    def pause_writing(self) -> None:
        """Close the session: the client does not read."""
        self._session.congested()

    def configure(self) -> None:
        """Apply a new limit of a frame's size, from the next message on."""
        self._longest = _longest(self._session)
        self._outdated = True
        self._renew()

    def _renew(self) -> None:
        """Forget a parser with another limit, between two messages: it keeps nothing of the last.

        (Neither side compresses a message with what it knows of earlier ones; see offers.DEFLATE.)
        """
        if self._outdated and self._quick:
            self._parser, self._outdated = None, False

    # Frames.

    def _feed_frames(self, data: bytes) -> None:
        shared = self._session.shared
        shared.cork = []
        try:
            if self._quick and (size := self._receive_some(data)):
                data = data[size:]
                if self._session.is_cut:
                    self._ignore()
            if not self._ignores and (reason := self._walk(data)) is not None:
                self._ignore()
                self._session.broken(WebSocketError(WSCloseCode.PROTOCOL_ERROR, reason))
        finally:
            shared.uncork()

    def _receive_some(self, data: bytes) -> int:
        """Pass on the whole text messages at the start of a chunk; return how long they are.

        It stops at any other frame, and after FRAMES_AT_ONCE.
        """
        position, end = 0, len(data)
        heard, longest = self._session.heard, self._longest
        for _ in range(FRAMES_AT_ONCE):
            if end - position < _MEDIUM_HEADER:
                break
            first, length = _head(data, position)
            start = position + _MEDIUM_HEADER
            if _SHORT_TEXT <= first < _MEDIUM_TEXT:
                start, length = position + _SHORT_HEADER, first - _SHORT_TEXT
            elif first != _MEDIUM_TEXT:
                break
            stop = start + length
            if stop > end or stop - position > longest:
                break
            try:
                text = message_text(data, start, stop)
            except UnicodeDecodeError:
                break  # the parser reports it
            heard(text)
            position = stop
        return position

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
                self._parse(data[fed:position])
                return "A frame without a mask"
            length = second & ~_MASKED
            header = _HEADERS.get(length, _SHORT_HEADER)
            if end - position < header:
                break
            if header > _SHORT_HEADER:
                length = int.from_bytes(data[position + 2 : position + header - 4])
            if (reason := self._judge(first, length)) is not None:
                self._parse(data[fed:position])
                return reason
            position += header + length
            frames += 1
            # A compressed frame may be a thousand times longer than it looks.
            if position < end and (first & _RSV1 or not frames % FRAMES_AT_ONCE):
                self._parse(data[fed:position])
                fed = position
                if self._session.is_cut:
                    self._ignore()
                    return None
        if frames:
            self._size = header + length
        self._left = max(0, position - end)
        self._head = data[position:]
        self._quick = position == end and not self._fragmented
        self._parse(data[fed:])
        self._renew()
        self._hold()
        return None

    def _hold(self) -> None:
        """Count the bytes of an unfinished message; close the largest holders if all have many."""
        incoming = self._session.shared.incoming
        incoming.drop(self)
        if self._fragmented:
            held = self._fragment_bytes - self._left
        else:
            held = self._fragment_bytes + self._size - self._left if self._left else 0
        if held > 0 and not self._session.is_over:
            incoming.add(self, held)
            limit = self._session.shared.options.max_frame_bytes
            if limit is not None and incoming.total > max(MAX_UNFINISHED, 2 * limit):
                for wire in incoming.heaviest(incoming.total // 8):
                    wire.shed()

    def shed(self) -> None:
        """Drop the unfinished message, and close the session."""
        self._ignore()
        self._session.shed()

    def _parse(self, data: bytes) -> None:
        if not data:
            return
        if self._parser is None:
            self._parser = parser(self._session, deflate=self._deflate)
        self._parser.feed_data(data)

    def _ignore(self) -> None:
        """Ignore what the client sends from now on."""
        self._session.shared.incoming.drop(self)
        self._parser, self._ignores, self._quick = None, True, False

    def _judge(self, first: int, length: int) -> str | None:
        """Return the fault of a frame that the parser would not notice, or None."""
        opcode = first & _OPCODE
        if opcode & _CONTROL:
            return "A control frame cannot be compressed" if first & _RSV1 else None
        if self._fragmented and opcode:
            return "Message within another message"
        if opcode:
            self._fragment_bytes = 0
        unfinished = not first & _FIN
        if unfinished:
            self._fragment_bytes += length
            self._session.fragment(length)
        if unfinished != self._fragmented:
            self._fragmented = self._session.unfinished = unfinished
        return None
