"""One WebSocket to the server, as packets."""

from __future__ import annotations

import asyncio
from ssl import SSLContext
from typing import Any, Self

import aiohttp
from aiohttp import ClientSession, ClientWebSocketResponse, ClientWSTimeout, WSMsgType
from yarl import URL

from videre.client import wire
from videre.client.errors import Closed
from videre.client.wire import Packet

CLOSE_SECONDS = 5.0  # for the server to answer a close
MAX_BYTES = 16 << 20  # of one message

NORMAL, PROTOCOL_ERROR, ABNORMAL = 1000, 1002, 1006  # RFC 6455, 7.4.1

#: What using a packet that the protocol does not allow may raise.
INVALID = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Connection:
    """An open WebSocket. It is open until `receive` raises Closed."""

    def __init__(
        self, socket: ClientWebSocketResponse, transport: asyncio.WriteTransport | None = None
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._writing: set[asyncio.Task[bool]] = set()
        self.due: float | None = None  # when to leave, if the server said so before the welcome

    @classmethod
    async def open(
        cls, http: ClientSession, url: URL, *, ssl: SSLContext | None, heartbeat: float | None
    ) -> Self:
        """Connect; raise aiohttp.ClientError or OSError on failure."""
        socket = await http.ws_connect(
            url,
            ssl=ssl or True,
            heartbeat=heartbeat,
            timeout=ClientWSTimeout(ws_close=CLOSE_SECONDS),
            max_msg_size=MAX_BYTES,
        )
        return cls(socket, _transport(socket))

    async def send(self, text: str) -> bool:
        """Write a packet; return False if the socket was closing: then nothing was sent.

        While too many bytes are left to write, this waits, at most until `close`.
        """
        # A task, because all who wait share one future in aiohttp: cancelling one caller would
        # cancel the others.
        writing = asyncio.create_task(self._write(text))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.wait([writing])
        return writing.cancelled() or writing.result()

    async def _write(self, text: str) -> bool:
        try:
            await self._socket.send_str(text)
        except aiohttp.ClientConnectionResetError:  # nothing was written
            return False
        except (aiohttp.ClientConnectionError, ConnectionError):  # lost while waiting to write more
            pass
        return True

    async def receive(self) -> tuple[Packet, int]:
        """Return the next packet and its size in bytes; raise Closed after the last one."""
        try:
            message = await self._socket.receive()
        except (aiohttp.ClientConnectionError, ConnectionError) as error:  # of the answer to a ping
            raise Closed(ABNORMAL, str(error)) from None
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            try:
                return wire.read(message.data), _size(message.data)
            except ValueError as error:
                raise await self.reject(error) from None
        if message.type is WSMsgType.CLOSE:
            raise Closed(message.data or ABNORMAL, message.extra or "")  # 0: without a code
        raise Closed(ABNORMAL, str(self._socket.exception() or ""))

    async def reject(self, error: Exception) -> Closed:
        """Close because of an invalid packet; return what to raise instead of `error`."""
        await self.close(PROTOCOL_ERROR)
        what = error if isinstance(error, ValueError) else repr(error)
        return Closed(PROTOCOL_ERROR, f"Not a packet: {what}")

    async def close(self, code: int = NORMAL) -> None:
        """Close within CLOSE_SECONDS; do nothing if already closed."""
        try:
            await self._socket.close(code=code)
        finally:
            self._socket._cancel_heartbeat()  # the answer to the close has begun another one
            # A system that still has bytes for a dead host keeps the socket for many minutes.
            for writing in self._writing:
                writing.cancel()
            if self._transport is not None and self._transport.get_write_buffer_size():
                self._transport.abort()


def _transport(socket: Any) -> asyncio.WriteTransport | None:
    """Return the transport of an open WebSocket; aiohttp shows only its extra information."""
    connection = socket._response.connection
    found: asyncio.WriteTransport | None = connection and connection.transport
    return found


def _size(data: str | bytes) -> int:
    """Return the size of a message in bytes of UTF-8, by which the server counts."""
    return len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
