"""The data channels of one call: plain messages, and transfers of larger values."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, Protocol

import orjson
from aiortc import RTCDataChannel, RTCPeerConnection

from videre.client.call.incoming import Inbound, Incoming, number
from videre.client.call.outgoing import BUFFERED, Outgoing, Progress
from videre.client.call.values import (
    HEADER,
    MAX_ID,
    MAX_MESSAGE,
    MAX_TEXT,
    TEXT,
    Encoded,
    gone,
)
from videre.client.errors import TransferError

_MAX_MESSAGE = re.compile(r"^a=max-message-size:(\d{1,10})\s*$", re.MULTILINE)


class Party(Protocol):
    """The peer on the other end."""

    user: str


class Data:
    """Both channels of a call with `peer`; `emit` passes what arrives to the application.

    The channels are created at once, because the first description must contain them.
    """

    def __init__(
        self,
        connection: RTCPeerConnection,
        peer: Party,
        emit: Callable[..., None],
        *,
        max_bytes: int,
    ) -> None:
        self._peer = peer
        self._emit = emit
        self._version = 0
        self._longest = MAX_MESSAGE  # of the messages that the other end accepts, in bytes
        self._open = asyncio.get_running_loop().create_future()
        self._room = asyncio.Event()  # set while the plain channel has room
        self._in_order = asyncio.Lock()  # plain messages are sent in the order of `send`
        self._plain = connection.createDataChannel("videre", negotiated=True, id=0)
        self._transfers = connection.createDataChannel("videre.data", negotiated=True, id=1)
        for channel in (self._plain, self._transfers):
            channel.bufferedAmountLowThreshold = BUFFERED // 2
            channel.on("close", self.close)
        self._plain.on("open", self._opened)
        self._plain.on("message", self._hear_plain)
        self._plain.on("bufferedamountlow", self._room.set)
        self._transfers.on("message", self._hear)
        self._outgoing = Outgoing(
            peer.user,
            text=self._write,
            piece=self._write_piece,
            buffered=lambda: self._transfers.bufferedAmount,
        )
        self._transfers.on("bufferedamountlow", self._outgoing.pump)
        self._inbound = Inbound(
            peer.user,
            text=self._write,
            progress=self._tell_progress,
            taken=self._take,
            max_bytes=max_bytes,
        )

    def agree(self, version: int, sdp: str) -> None:
        """Set the version of transfers that both ends support (0: none), and their description.

        It names the largest message that they accept (RFC 8841, 6).
        """
        self._version = version
        found = _MAX_MESSAGE.search(sdp)
        self._longest = min(int(found[1]) if found else 0, MAX_MESSAGE) or MAX_MESSAGE

    async def opened(self) -> None:
        """Wait until the channels are open. Raises TransferError."""
        await asyncio.shield(self._open)

    async def send(self, value: Encoded, progress: Progress | None) -> None:
        """Send a value; the channels must be open. Raises TransferError.

        Returns when a plain message is on its way, or the other end has received a whole transfer.
        """
        if value.is_plain and len(value.data) <= self._longest:
            await self._send_plain(value)
        elif self._version and self._longest > HEADER:  # or pieces would be empty, without end
            self._outgoing.max_message = self._longest
            await self._outgoing.send(value, progress and self._guarded(progress))
        else:
            longest = self._longest
            words = f"{self._peer.user} takes only strings and bytes, of up to {longest} bytes"
            raise TransferError("unsupported", self._peer.user, words)

    async def _send_plain(self, value: Encoded) -> None:
        async with self._in_order:
            while self._plain.bufferedAmount > BUFFERED and self._plain.readyState == "open":
                self._room.clear()
                await self._room.wait()
            if self._plain.readyState != "open":
                raise gone(self._peer.user)
            self._plain.send(value.data.decode() if value.kind == TEXT else value.data)

    def _opened(self) -> None:
        if not self._open.done():
            self._open.set_result(None)

    def close(self) -> None:
        """Fail everything still being sent: the call has ended, or a channel was closed."""
        if not self._open.done():
            self._open.set_exception(gone(self._peer.user))
            self._open.exception()  # retrieved, so that asyncio does not log it
        self._outgoing.close()
        self._room.set()

    # Receiving. Nothing may raise here: it would end aiortc's association.

    def _hear_plain(self, message: str | bytes) -> None:
        self._take(message)

    def _hear(self, message: str | bytes) -> None:
        is_known = (
            self._inbound.piece(message) if isinstance(message, bytes) else self._text(message)
        )
        if not is_known:
            self._emit("ignored", message, self._peer)

    def _text(self, text: str) -> bool:
        """Handle a text message of a transfer; return False if it is not one."""
        if len(text.encode()) > MAX_TEXT:
            return False
        try:
            # Not orjson: it reads no lone surrogate, which a browser leaves when it cuts a name.
            message = json.loads(text)
        except (ValueError, RecursionError):
            return False
        if not isinstance(message, dict):
            return False
        if message.get("Type") == "Start":
            return self._inbound.start(message)
        identity = number(message.get("Id"))
        if identity is None or not 1 <= identity <= MAX_ID:
            return False
        match message.get("Type"):
            case "Ack":
                return self._outgoing.acknowledge(identity, message.get("Bytes"))
            case "Refuse":
                return self._outgoing.refuse(identity, message.get("Code"))
            case "Cancel":
                return self._inbound.cancel(identity)
        return False

    def _take(self, value: Any) -> None:
        self._emit("message", value, self._peer)

    def _tell_progress(self, transfer: Incoming) -> None:
        self._emit("progress", transfer, self._peer)

    def _guarded(self, progress: Progress) -> Progress:
        def told(arrived: int, size: int) -> None:
            try:
                progress(arrived, size)
            except Exception as error:
                self._emit("error", error)

        return told

    def _write_piece(self, piece: bytes) -> None:
        if _is_open(self._transfers):  # if not, `close` fails the transfer
            self._transfers.send(piece)

    def _write(self, message: dict[str, Any]) -> None:
        if _is_open(self._transfers):
            self._transfers.send(orjson.dumps(message).decode())


def _is_open(channel: RTCDataChannel) -> bool:
    state: str = channel.readyState
    return state == "open"
