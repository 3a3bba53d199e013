"""The writing half of a WebSocket session: frames, the cork, and the backlog.

Frames go straight to the connection's asyncio transport, whose buffer is the backlog.
"""

from __future__ import annotations

import asyncio

import sockjs

from videre.transport import framing
from videre.transport.clients import Client
from videre.transport.session import OPEN, Keeper, Session

#: The highest limit of a transport's buffer, in bytes: uvloop keeps it in 32 bits.
MOST = 2**31 - 1


class FrameWriter(Session):
    """A session that writes frames; WebSocketSession adds what it hears.

    It is a base class instead of an attribute, so that no packet costs an extra call.
    """

    def __init__(
        self,
        keeper: Keeper,
        client: Client,
        tcp: asyncio.Transport,
        *,
        sockjs_framing: bool,
        deflate: bool,
    ) -> None:
        super().__init__("", keeper, client)
        self.transport = "websocket" if sockjs_framing else "websocket-raw"
        self._sockjs = sockjs_framing
        self._collected: list[bytes] | None = None  # while the cork is on
        self._tcp = tcp
        self._frame = keeper.shared.framer(sockjs=sockjs_framing, deflate=deflate)
        self._limit = 0  # bytes that may wait
        # Bytes that are written without a look at the backlog; -1 while one larger packet waits.
        self._plain = 0
        self._limit_backlog()

    # For the handler.

    def send(self, text: str) -> None:
        """See Session.send."""
        if self.state is OPEN:
            if self._collected is not None:  # not the first in this chunk
                self._collected.append(self._frame(text))
            else:
                self._put(self._frame(text))

    def close(self, code: int = 3000, reason: str = "Go away!") -> None:
        """See Session.close."""
        if self.state is not OPEN:
            return
        self.state = sockjs.SessionState.CLOSING
        if self._sockjs:
            self._put(self._frame.control(framing.close_frame(code, reason)))
        self._say_goodbye(code, reason)
        self.finish_soon(code)

    # For the manager.

    @property
    def backlog(self) -> int:
        """See Session.backlog. Collected writes are not included: they last only for this turn."""
        return self._tcp.get_write_buffer_size()

    @property
    def is_cut(self) -> bool:
        """Whether the connection was aborted, so that further input is useless."""
        return self._tcp.is_closing()

    def cut(self) -> None:
        """Abort the connection without waiting."""
        self._tcp.abort()

    def _limit_backlog(self) -> None:
        limit = self.shared.options.max_backlog_bytes
        self._limit = MOST if limit is None else min(limit, MOST)
        if self._plain >= 0:  # otherwise when the larger packet has been read
            self._plain = self._limit
            self._tcp.set_write_buffer_limits(high=self._limit)

    # Writing.

    def _put(self, data: bytes) -> None:
        cork = self.shared.cork
        if cork is not None:
            if self._collected is None:
                cork.append(self)
                self._collected = [data]
            else:
                self._collected.append(data)
        elif not self._tcp.is_closing():
            # uvloop raises when writing to a closed connection; asyncio drops the data.
            if len(data) > self._plain:
                self._write_large(data, len(data))
            else:
                self._tcp.write(data)

    def flush(self) -> None:
        """Write what was collected."""
        collected, self._collected = self._collected, None
        if collected and not self._tcp.is_closing():
            data = b"".join(collected)
            if len(data) > self._plain:
                self._write_large(data, max(map(len, collected)))
            else:
                self._tcp.write(data)

    def _write_large(self, data: bytes, largest: int) -> None:
        """Write more than may wait; one packet that alone exceeds the limit is not counted.

        Such a packet is the answer about a crowded room: a client that never gets it can never
        enter. A second one must wait until the first has been read.
        """
        if self._plain < 0 and self.backlog <= self._limit:  # the one before has been read
            self._plain = self._limit
            self._tcp.set_write_buffer_limits(high=self._limit)
        if self._plain < 0 or largest <= self._limit:
            self._tcp.write(data)
            return
        self._plain = -1
        self._tcp.set_write_buffer_limits(high=MOST)
        self._tcp.write(data)
        high = min(MOST, self._limit + min(largest, self.backlog))
        self._tcp.set_write_buffer_limits(high=high)

    def congested(self) -> None:
        """Close a client that does not read: more than MaxBacklogBytes wait for it.

        It gets the close code if it reads soon. Called from within a write.
        """
        asyncio.get_running_loop().call_soon(self.close_slow)

    def _say_goodbye(self, code: int, reason: str) -> None:
        """Send the close frame; the client's answer, or `sweep`, ends the connection."""
        self.silent = 0
        self._put(framing.close(code, reason))
