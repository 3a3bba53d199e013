"""Transfers from one peer: pieces become values. A malformed transfer fails alone."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from videre.client.call.values import (
    ACK,
    BLOB,
    BYTES,
    HEADER,
    JSON,
    MAX_ID,
    MAX_MESSAGE,
    MAX_SIZE,
    MAX_TOGETHER,
    MAX_TRANSFERS,
    TEXT,
    decode,
    is_short,
)


@dataclass(slots=True, eq=False)
class Incoming:
    """A value being received: `bytes` of `size` have arrived; `refuse` ends the transfer."""

    user: str
    id: int
    kind: str  # "text", "json", "bytes" or "blob"
    size: int
    name: str | None = None
    mime: str | None = None
    _data: bytearray = field(default_factory=bytearray, repr=False)
    _told: int = field(default=0, repr=False)  # bytes acknowledged
    _refuse: Callable[[int, str], None] | None = field(default=None, repr=False)

    def refuse(self) -> None:
        """Stop the transfer; its sender gets "cancelled". Does nothing if it is complete."""
        if self._refuse is not None:
            self._refuse(self.id, "cancelled")

    @property
    def bytes(self) -> int:
        """The bytes that have arrived."""
        return len(self._data)


class Inbound:
    """Transfers from `user`. `text` sends answers; `progress` and `taken` are callbacks."""

    def __init__(
        self,
        user: str,
        *,
        text: Callable[[dict[str, Any]], None],
        progress: Callable[[Incoming], None],
        taken: Callable[[Any], None],
        max_bytes: int = MAX_SIZE,
    ) -> None:
        self._user = user
        self._text = text
        self._progress = progress
        self._taken = taken
        self._max = max_bytes
        self._running: dict[int, Incoming] = {}
        self._last = 0

    def start(self, message: dict[str, Any]) -> bool:
        """Handle a `Start`, or refuse it; return False if its id is not a new one."""
        identity = number(message.get("Id"))
        if identity is None or not self._last < identity <= MAX_ID:
            return False
        self._last = identity
        if code := self._fault(message):
            self._refuse(identity, code)
            return True
        transfer = Incoming(
            self._user,
            identity,
            message["Kind"],
            message["Size"],
            message.get("Name"),
            message.get("Mime"),
            _refuse=self._refuse,
        )
        self._running[identity] = transfer
        self._progress(transfer)
        if not transfer.size and identity in self._running:
            self._complete(transfer)
        return True

    def _fault(self, message: dict[str, Any]) -> str | None:
        kind, size = message.get("Kind"), number(message.get("Size"))
        if kind not in (TEXT, JSON, BYTES, BLOB) or size is None or size < 0:
            return "malformed"
        for key in ("Name", "Mime"):
            value = message.get(key)
            if value is not None and not (kind == BLOB and _is_name(value)):
                return "malformed"
        if size > self._max:
            return "too-large"
        together = sum(each.size for each in self._running.values())
        if len(self._running) >= MAX_TRANSFERS or together + size > MAX_TOGETHER:
            return "too-many"
        return None

    def piece(self, data: bytes) -> bool:
        """Handle a piece, or refuse its transfer; return False for a wrong size or unknown id."""
        if not HEADER < len(data) <= MAX_MESSAGE:
            return False
        identity, offset = struct.unpack_from("!II", data)
        transfer = self._running.get(identity)
        if transfer is None:
            return bool(0 < identity <= self._last)  # for a transfer that has ended
        if offset != transfer.bytes:
            self._refuse(identity, "out-of-order")
        elif transfer.bytes + len(data) - HEADER > transfer.size:
            self._refuse(identity, "too-large")
        else:
            transfer._data += memoryview(data)[HEADER:]
            self._arrived(transfer)
        return True

    def _arrived(self, transfer: Incoming) -> None:
        if transfer.bytes == transfer.size:
            self._complete(transfer)
        elif transfer.bytes - transfer._told >= ACK:
            self._acknowledge(transfer)

    def _complete(self, transfer: Incoming) -> None:
        try:
            value = decode(transfer.kind, transfer._data, transfer.name, transfer.mime)
        except ValueError:
            self._refuse(transfer.id, "malformed")
            return
        del self._running[transfer.id]
        transfer._refuse = None
        self._acknowledge(transfer)
        self._taken(value)

    def _acknowledge(self, transfer: Incoming) -> None:
        transfer._told = transfer.bytes
        self._text({"Type": "Ack", "Id": transfer.id, "Bytes": transfer.bytes})
        self._progress(transfer)

    def cancel(self, identity: int) -> bool:
        """Handle a `Cancel`; return False for an unknown id."""
        if (transfer := self._running.pop(identity, None)) is not None:
            transfer._refuse = None
        return identity <= self._last

    def _refuse(self, identity: int, code: str) -> None:
        if (transfer := self._running.pop(identity, None)) is not None:
            transfer._refuse = None
        self._text({"Type": "Refuse", "Id": identity, "Code": code})


def _is_name(value: object) -> bool:
    try:
        return isinstance(value, str) and is_short(value)
    except ValueError:
        return False


def number(value: object) -> int | None:
    """Return a JSON value if it is an integer, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
