"""The history of one room: recent events, for members that resume.

Pure: clocks are arguments. A room has a history while a member holds a ticket, the digest of its
resume secret.
"""

from __future__ import annotations

import dataclasses
import marshal
import struct
import sys
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from videre.engines import Missed
from videre.engines.events import Event, Joined, Left, Sent
from videre.ids import Digest, SeatId, UserId

# Seconds that a dead connection may go unnoticed (protocol.md, "disconnect"): packets sent in that
# time may be asked for again.
UNNOTICED = 40.0

# Bytes of a reference to an entry.
_REFERENCE = 8

# marshal's format with the least overhead that writes every text as UTF-8.
_FORMAT = 2

_TIME = struct.Struct("=d")

# What a history keeps of each kind of event: what its packets are made of.
_FIELDS: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    Joined: attrgetter("user", "announcement"),
    Left: attrgetter("user", "heir"),
    Sent: attrgetter("user", "text", "to"),
}
_KINDS = {kind: number for number, kind in enumerate(_FIELDS)}
_ANY = SeatId("")  # a history keeps no seats
_MAKE: tuple[Callable[..., Event], ...] = (
    lambda user, announcement: Joined(user, _ANY, announcement),
    lambda user, heir: Left(user, _ANY, "", heir=heir),
    lambda user, text, to: Sent(user, _ANY, text, to),
)


@dataclasses.dataclass(slots=True)
class Ticket:
    """One member's right to resume."""

    digest: Digest
    before: int  # History._total, less the packets sent to the member since its last welcome


class History:
    """The latest events of one room, and the tickets of members that may ask for them.

    Each entry is one bytes object: Python objects, or text beyond ASCII, would take several times
    the memory. An entry's whole memory is counted.
    """

    __slots__ = ("_entries", "_max_bytes", "_total", "bytes", "tickets")

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes  # of memory; None: no limit
        self._entries: deque[bytes] = deque()
        self.bytes = 0  # of memory, all entries
        self._total = 0  # packets, except those to named members only
        self.tickets: dict[UserId, Ticket] = {}  # by user

    def issue(self, user: UserId, digest: Digest, count: int = 0) -> None:
        """Give a member a ticket, dated back by the `count` packets that it has yet to receive."""
        self.tickets[user] = Ticket(digest, self._total - count)

    def record(self, event: Joined | Left | Sent, now: float) -> None:
        """Record an event at `now`; forget the oldest beyond the size limit.

        The cost does not grow with the tickets: a packet for all is counted once.
        """
        if not isinstance(event, Sent):
            self._total += event.packets
        elif event.to is None:
            self._total += 1
            if event.user in self.tickets:
                self.tickets[event.user].before += 1
        else:
            for user in event.to:
                if user in self.tickets and user != event.user:
                    self.tickets[user].before -= 1
        entry = _packed(event, now)
        self._entries.append(entry)
        self.bytes += _size(entry)
        if self._max_bytes is not None and self.bytes > self._max_bytes:
            self.shorten(self._max_bytes)

    def shorten(self, most: int) -> None:
        """Forget the oldest events until `most` bytes are left."""
        while self.bytes > most:
            self._drop()

    def forget(self, before: float, at_most: int | None = None) -> bool:
        """Forget events before a time, up to `at_most`; return whether all of them are gone."""
        entries, left = self._entries, len(self._entries) if at_most is None else at_most
        while entries and _TIME.unpack_from(entries[0])[0] < before:
            if left <= 0:
                return False
            left -= 1
            self._drop()
        return True

    def _drop(self) -> None:
        self.bytes -= _size(self._entries.popleft())

    def missed(self, user: UserId, received: int) -> Missed | None:
        """Return what a member with a ticket missed; None if any of it is not kept.

        `received` is the number of packets that it got since its last welcome.
        """
        count = max(0, self._total - self.tickets[user].before - received)
        found: list[Event] = []
        missing = count
        for entry in reversed(self._entries) if count <= 2 * len(self._entries) else ():
            if missing <= 0:
                break
            event = _unpacked(entry)
            if event.concerns(user):
                found.append(event)
                missing -= event.packets
        found.reverse()
        return None if missing > 0 else Missed(count, found)


def _packed(event: Joined | Left | Sent, now: float) -> bytes:
    kind = type(event)
    return _TIME.pack(now) + marshal.dumps((_KINDS[kind], *_FIELDS[kind](event)), _FORMAT)


def _unpacked(entry: bytes) -> Event:
    kind, *fields = marshal.loads(memoryview(entry)[_TIME.size :])  # noqa: S302  # our own
    event: Event = _MAKE[kind](*fields)
    return event


def _size(entry: bytes) -> int:
    return sys.getsizeof(entry) + _REFERENCE
