"""Transfers to one peer: values in pieces, in turn, as fast as the other end accepts them."""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from videre.client.call.incoming import number
from videre.client.call.values import (
    HEADER,
    MAX_MESSAGE,
    MAX_TOGETHER,
    MAX_TRANSFERS,
    WINDOW,
    Encoded,
    gone,
)
from videre.client.errors import TransferError, TransfersFailed

#: Called with the bytes that have arrived, and the total.
Progress = Callable[[int, int], object]

# Bytes buffered in the channel above which no more are added: a few round trips' worth.
BUFFERED = 512 * 1024


@dataclass
class _Transfer:
    id: int
    value: Encoded
    progress: Progress | None
    done: asyncio.Future[None]
    begun: bool = False
    sent: int = 0
    arrived: int = 0

    @property
    def size(self) -> int:
        return len(self.value.data)

    @property
    def may_send(self) -> bool:
        return self.sent < self.size and self.sent - self.arrived < WINDOW


class Outgoing:
    """Transfers to `user`. `text` and `piece` write; `buffered` returns the bytes waiting."""

    def __init__(
        self,
        user: str,
        *,
        text: Callable[[dict[str, Any]], None],
        piece: Callable[[bytes], None],
        buffered: Callable[[], int],
    ) -> None:
        self._user = user
        self._text = text
        self._piece = piece
        self._buffered = buffered
        self._ids = itertools.count(1)
        self._last = 0
        self._waiting: deque[_Transfer] = deque()
        self._running: deque[_Transfer] = deque()  # the next to send comes first
        self._closed = False
        self.max_message = MAX_MESSAGE

    async def send(self, value: Encoded, progress: Progress | None) -> None:
        """Send a value; return when the other end has it. Raises TransferError."""
        if self._closed:
            raise gone(self._user)
        done = asyncio.get_running_loop().create_future()
        transfer = _Transfer(0, value, progress, done)
        self._waiting.append(transfer)
        self.pump()
        try:
            await done
        except asyncio.CancelledError:
            if transfer.begun and transfer in self._running:
                self._text({"Type": "Cancel", "Id": transfer.id})
            raise
        finally:
            self._forget(transfer)

    def pump(self) -> None:
        """Send as much as allowed now, one piece of each transfer in turn."""
        self._begin()
        idle = 0
        while idle < len(self._running) and self._buffered() < BUFFERED:
            transfer = self._running[0]
            self._running.rotate(-1)
            if transfer.may_send:
                self._send_piece(transfer)
                idle = 0
            else:
                idle += 1

    def _begin(self) -> None:
        while self._waiting and len(self._running) < MAX_TRANSFERS:
            transfer = self._waiting[0]
            if transfer.size + sum(each.size for each in self._running) > MAX_TOGETHER:
                return
            self._waiting.popleft()
            transfer.id = self._last = next(self._ids)
            transfer.begun = True
            value = transfer.value
            start = {"Type": "Start", "Id": transfer.id, "Kind": value.kind, "Size": transfer.size}
            more = {"Name": value.name, "Mime": value.mime}
            self._text(start | {key: text for key, text in more.items() if text is not None})
            self._running.append(transfer)

    def _send_piece(self, transfer: _Transfer) -> None:
        end = transfer.sent + self.max_message - HEADER
        header = struct.pack("!II", transfer.id, transfer.sent)
        piece = header + transfer.value.data[transfer.sent : end]
        transfer.sent += len(piece) - HEADER
        self._piece(piece)

    def acknowledge(self, identity: int, arrived: object) -> bool:
        """Handle an `Ack`; return False if it is not a valid one."""
        transfer = self._find(identity)
        if transfer is None:
            return identity <= self._last  # for a transfer that has ended
        if (arrived := number(arrived)) is None:
            return False
        if not transfer.arrived <= arrived <= transfer.sent:
            return False
        transfer.arrived = arrived
        if transfer.progress is not None:
            transfer.progress(arrived, transfer.size)
        if arrived == transfer.size and not transfer.done.done():
            transfer.done.set_result(None)
            self._forget(transfer)
        self.pump()
        return True

    def refuse(self, identity: int, code: object) -> bool:
        """Handle a `Refuse`; return False if it is not a valid one."""
        if not isinstance(code, str):
            return False
        transfer = self._find(identity)
        if transfer is None:
            return identity <= self._last
        if not transfer.done.done():
            text = f"{self._user} refused {transfer.size} bytes"
            transfer.done.set_exception(TransferError(code, self._user, text))
        self._forget(transfer)
        return True

    def close(self) -> None:
        """Fail all transfers, now and later: the channel is closed."""
        self._closed = True
        for transfer in (*self._waiting, *self._running):
            if not transfer.done.done():
                transfer.done.set_exception(gone(self._user))

    def _find(self, identity: int) -> _Transfer | None:
        return next((each for each in self._running if each.id == identity), None)

    def _forget(self, transfer: _Transfer) -> None:
        for queue in (self._waiting, self._running):
            if transfer in queue:
                queue.remove(transfer)
                self.pump()


async def to_all(sends: Iterable[Awaitable[None]]) -> None:
    """Wait for all; raise TransfersFailed for those that failed, or the first other exception."""
    results = await asyncio.gather(*sends, return_exceptions=True)
    failed = [each for each in results if isinstance(each, TransferError)]
    for each in results:
        if isinstance(each, BaseException) and not isinstance(each, TransferError):
            raise each
    if failed:
        raise TransfersFailed(failed)
