"""The history of one room: what its members were told lately, for those that come back to it.

Pure: clocks are arguments. A room has a history while a member holds a ticket, the digest of the
secret that it can resume with.
"""

from __future__ import annotations

import dataclasses
from collections import deque

from videre.engines import Told

# Seconds by which a dead connection may go unnoticed (protocol.md, "disconnect"): what was sent in
# that time may be asked for again.
UNNOTICED = 40.0


@dataclasses.dataclass(slots=True)
class Ticket:
    """One member's right to come back."""

    digest: str
    count: int = 0  # packets that the member was sent by the room since its last welcome
    lost: bool = False
    seen: int | None = None  # once lost: how many may have arrived; None: not known


class History:
    """What happened in one room, the last of it, and who may ask for it."""

    __slots__ = ("_bytes", "_entries", "_max_bytes", "tickets")

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes  # of UTF-8; None: no limit
        self._entries: deque[tuple[Told, float]] = deque()  # and when each was told
        self._bytes = 0
        self.tickets: dict[str, Ticket] = {}  # by user

    def issue(self, user: str, digest: str) -> None:
        """Give a member a ticket: it counts as having got all so far."""
        self.tickets[user] = Ticket(digest)

    def record(self, told: Told, now: float) -> None:
        """Take down what the members are told at `now`; forget what is too much."""
        for user, ticket in self.tickets.items():
            if told.concerns(user):
                ticket.count += 1
        self._entries.append((told, now))
        self._bytes += _size(told)
        if self._max_bytes is not None:
            while self._bytes > self._max_bytes:
                self._drop()

    def forget(self, before: float) -> None:
        """Forget what was told before a time."""
        while self._entries and self._entries[0][1] < before:
            self._drop()

    def _drop(self) -> None:
        told, _ = self._entries.popleft()
        self._bytes -= _size(told)

    def missed(self, user: str, received: int | None) -> list[Told] | None:
        """Return what a member with a ticket has missed, in order; None if any is not kept.

        `received` is the number of packets that it says to have got since its last welcome. If it
        does not say, a packet that may have arrived is not repeated.
        """
        ticket = self.tickets[user]
        if received is None:
            received = ticket.seen if ticket.lost else ticket.count
            if received is None:
                return None
        count = ticket.count - received
        found: list[Told] = []
        for told, _ in reversed(self._entries):
            if len(found) >= count:
                break
            if told.concerns(user):
                found.append(told)
        if len(found) < count:
            return None
        found.reverse()
        return found


def _size(told: Told) -> int:
    return sum(map(_bytes, told.texts))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
