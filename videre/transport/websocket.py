"""WebSocket sessions, SockJS or raw, without a queue or a task between wire and handler.

The wire and aiohttp's parser pass each message straight to the session, instead of to a queue that
a task reads. This module is about what arrives, and the session's life; writing.py is about what it
sends.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import sockjs
from aiohttp import WSCloseCode, WSMessage, WSMsgType

from videre.errors import CloseCode
from videre.reasons import LOST, SILENT, End, LeaveReason
from videre.transport import framing
from videre.transport.clients import Client
from videre.transport.session import OPEN, Keeper
from videre.transport.writing import FrameWriter

_TEXT = WSMsgType.TEXT

_MESSAGES = (_TEXT, WSMsgType.BINARY)

# Frames without a message (pings, pongs, empty frames, tiny fragments), and frames after our close,
# that a client may send between two sweeps. Browsers send only answers to our pings.
MAX_IDLE_FRAMES = 100

# Bytes that count as one more such frame, in a message after our close or in SockJS framing that is
# mostly padding: a compressed frame of 300 bytes becomes 256 KB. A client that is closed for too
# many packets may have sent a hundred more, and needs to learn why.
IDLE_BYTES = 64 * 1024
# Longer framing, as a multiple of its messages, is padding: an escape makes six characters of one.
PADDED = 8

PING = framing.frame(framing.PING, b"")

# A shorter fragment counts as a frame without a message: it carries little more than its header.
LEAST_FRAGMENT = 16

# Close codes allowed in a close frame (RFC 6455, 7.4, and IANA's registry).
_CLOSE_CODES = frozenset((0, *range(1000, 1004), *range(1007, 1015), *range(3000, 5000)))

# Close codes for a normal end; 0 stands for a close frame without a code.
_NORMAL_CLOSES = (0, WSCloseCode.OK, WSCloseCode.GOING_AWAY)


class Frames(Protocol):
    """The connection's protocol, of which a session knows only this: see wire.Wire."""

    def configure(self) -> None:
        """Apply changed options."""


class WebSocketSession(FrameWriter):
    """A session over one WebSocket; it lives as long as its connection."""

    def __init__(
        self,
        keeper: Keeper,
        client: Client,
        tcp: asyncio.Transport,
        *,
        sockjs_framing: bool,
        deflate: bool,
    ) -> None:
        super().__init__(keeper, client, tcp, sockjs_framing=sockjs_framing, deflate=deflate)
        self._gone = False  # whether the connection has gone
        self._idle = 0  # idle frames since the last sweep
        self.unfinished = False  # whether a fragmented message is incomplete
        self._unfinished_sweeps = 0

    def start(self) -> None:
        """Open the session: the connection is ready for frames."""
        self._keeper.opened(self)
        if self._sockjs:
            self._put(self._frame.control(framing.OPEN_FRAME))
        self.open()

    # For the manager.

    @property
    def is_receiving(self) -> bool:
        """See Session.is_receiving."""
        return not self._gone

    def sweep(self) -> None:
        """Ping a silent client; give it up if it does not answer."""
        self.silent += 1
        self._idle = 0
        if self.state is not OPEN:
            if self.silent >= self.shared.goodbye_sweeps:
                self.cut()
        elif self.silent >= self.shared.lost_sweeps:
            self.cut()
            self.finish(SILENT)
        elif self.silent == self.shared.heartbeat_sweeps:
            self._put(PING)
        if self.unfinished:
            self._sweep_unfinished()
        elif self._unfinished_sweeps:
            self._unfinished_sweeps = 0

    def _sweep_unfinished(self) -> None:
        """Close a client that lives, but does not finish a fragmented message."""
        self._unfinished_sweeps += 1
        if self._unfinished_sweeps >= self.shared.lost_sweeps:
            self._refuse(WSCloseCode.PROTOCOL_ERROR, "Message not finished in time")

    def configure(self) -> None:
        """See Session.configure. The limit of the backlog is here, that of frames in the wire."""
        if not self._gone and not self._tcp.is_closing():
            self._limit_backlog()
            cast(Frames, self._tcp.get_protocol()).configure()

    # From the wire and its parser.

    def heard(self, text: str) -> None:
        """Handle a text message, the most common kind of message."""
        if self.state is not OPEN or not text:
            self._count_idle()
            return
        self.silent = 0
        if self._sockjs:
            self._take(text)
        else:
            self.receive(text)

    def arrived(self, message: WSMessage) -> None:
        """Handle one message, of any kind."""
        kind, data, _ = message
        if self.state is not OPEN:  # it stays `silent`: see `sweep`
            self._count_idle(0 if kind is WSMsgType.CLOSE else len(data))
            if kind is WSMsgType.CLOSE:
                self.closed_by_client(data)
            return
        self.silent = 0
        if not data or kind not in _MESSAGES:
            self._count_idle()
        if kind is _TEXT and not self._sockjs:
            if data:
                self.receive(data)
        elif kind is _TEXT or kind is WSMsgType.BINARY:
            if data:
                self._take(data)
        elif kind is WSMsgType.PING and self.state is OPEN:
            self._put(framing.frame(framing.PONG, bytes(data)))
        elif kind is WSMsgType.CLOSE:
            self._take_close(data)

    def fragment(self, size: int) -> None:
        """Note a fragment of `size` bytes that is not the last of its message."""
        if size < LEAST_FRAGMENT:
            self._count_idle()

    def _take_close(self, code: int) -> None:
        if self.state is OPEN and code not in _CLOSE_CODES:
            self._refuse(WSCloseCode.PROTOCOL_ERROR, f"Invalid close code: {code}")
        else:
            self.closed_by_client(code)

    def _count_idle(self, size: int = 0) -> None:
        """Count a frame that carries no packet: too many of them are a flood too.

        `size` is what it has nonetheless, in bytes.
        """
        self._idle += 1 + size // IDLE_BYTES
        if self._idle <= MAX_IDLE_FRAMES:
            return
        if self.state is OPEN:
            self._idle = 0
            self.close(CloseCode.TOO_MANY_PACKETS, CloseCode.TOO_MANY_PACKETS.reason)
        else:
            self.cut()

    def _take(self, data: str | bytes) -> None:
        if not self._sockjs:
            if isinstance(data, bytes):
                # Invalid UTF-8 becomes lone surrogates, and the packet is refused for them.
                data = data.decode(errors="surrogateescape")
            self.receive(data)
            return
        try:
            texts = framing.messages_of_frame(data)
        except ValueError:
            self._refuse(WSCloseCode.PROTOCOL_ERROR, "Broken framing")
            return
        if len(texts) == 1 and isinstance(data, str) and _is_quoted_shortly(data, texts[0]):
            # The client has quoted the message already, in the form that other SockJS clients get.
            self._frame.remember(texts[0], f"a{data}" if data[0] != '"' else f"a[{data}]")
        size = len(data)
        if not texts or (size > IDLE_BYTES and size > PADDED * sum(map(len, texts))):
            self._count_idle(size)
        for text in texts:
            self.receive(text)

    def part(self, code: int) -> None:
        """See Session.part."""
        if self.state is OPEN:
            self.state = sockjs.SessionState.CLOSING
            self._put(framing.close(code or WSCloseCode.OK, ""))
            self.finish(_closed_by_client(code))
        self.flush()
        self._tcp.close()

    def broken(self, error: BaseException) -> None:
        """Close after an invalid or too large WebSocket frame."""
        code = getattr(error, "code", WSCloseCode.PROTOCOL_ERROR)
        if code == WSCloseCode.MESSAGE_TOO_BIG:
            self._too_large()
        else:
            self._refuse(code, str(error))

    def _too_large(self) -> None:
        if self.state is OPEN and self.handler is not None:
            self.handler.too_large()
        self._refuse(CloseCode.TOO_LARGE, CloseCode.TOO_LARGE.reason)

    def _refuse(self, code: int, reason: str) -> None:
        """Close because of bad input, and end the session at once."""
        if self.state is OPEN:
            self.state = sockjs.SessionState.CLOSING
            self._say_goodbye(code, reason)
            # A broken frame may be the line's fault; a message that is too large would stay so.
            self.finish(End(LeaveReason.CLOSED_BY_SERVER, code, clean=code == CloseCode.TOO_LARGE))

    def lost(self) -> None:
        """End the session: its connection has gone, perhaps after a close not handled yet."""
        self._gone = True
        self.finish(LOST if self._farewell is None else _closed_by_client(self._farewell))
        self._keeper.released(self)


def _is_quoted_shortly(data: str, text: str) -> bool:
    """Tell whether others may get a message as its sender quoted it: in ASCII, without padding.

    Blanks and needless escapes are charged to nobody, and the frame may hold 256 KB of them.
    """
    return len(data) <= 2 * len(text) + 4 and data.isascii()


def _closed_by_client(code: int) -> End:
    return End(LeaveReason.CLOSED_BY_CLIENT, code, clean=code in _NORMAL_CLOSES)
