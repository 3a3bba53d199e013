"""The history of one room: recent events, for members that resume.

Pure: clocks are arguments. A room has a history while a member holds a ticket, the digest of its
resume secret.
"""

from __future__ import annotations

import dataclasses
import struct
import sys
from collections import deque

from videre.engines import Event, Told

# Seconds that a dead connection may go unnoticed (protocol.md, "disconnect"): packets sent in that
# time may be asked for again.
UNNOTICED = 40.0


# Bytes of a reference to an entry.
_REFERENCE = 8

_EVENTS: tuple[Event, ...] = ("sent", "joined", "left", "promoted")
_HEAD = struct.Struct("=dB")  # when it happened, and which event
_PROMOTED = _EVENTS.index("promoted")


@dataclasses.dataclass(slots=True)
class Ticket:
    """One member's right to resume."""

    digest: str
    before: int  # packets of the room not sent to the member since its last welcome
    lost: bool = False
    seen: int | None = None  # once lost: how many may have arrived; None: unknown


class History:
    """The latest events of one room, and the tickets of members that may ask for them.

    Each entry is one bytes object: Python objects, or text beyond ASCII, would take several times
    the memory. An entry's whole memory is counted.
    """

    __slots__ = ("_bytes", "_entries", "_max_bytes", "_total", "tickets")

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes  # of memory; None: no limit
        self._entries: deque[bytes] = deque()
        self._bytes = 0
        self._total = 0  # packets, except those to named members only
        self.tickets: dict[str, Ticket] = {}  # by user

    def issue(self, user: str, digest: str, count: int = 0) -> None:
        """Give a member a ticket, with `count` packets sent since."""
        self.tickets[user] = Ticket(digest, self._total - count)

    def count(self, user: str) -> int:
        """Return how many packets the room has sent to a member with a ticket since its welcome."""
        return self._total - self.tickets[user].before

    def record(self, told: Told, now: float) -> None:
        """Record an event at `now`; forget the oldest beyond the size limit.

        The cost does not grow with the tickets: an event for all is counted once.
        """
        tickets = self.tickets
        if told.to is None:
            self._total += 1
            if told.event != "promoted" and told.user in tickets:
                tickets[told.user].before += 1
        else:
            for user in told.to:
                if user in tickets and user != told.user:
                    tickets[user].before -= 1
        entry = _packed(told, now)
        self._entries.append(entry)
        self._bytes += _size(entry)
        if self._max_bytes is not None:
            while self._bytes > self._max_bytes:
                self._drop()

    def forget(self, before: float, at_most: int | None = None) -> bool:
        """Forget events before a time, up to `at_most`; return whether all of them are gone."""
        entries, left = self._entries, len(self._entries) if at_most is None else at_most
        while entries and _HEAD.unpack_from(entries[0])[0] < before:
            if left <= 0:
                return False
            left -= 1
            self._drop()
        return True

    def _drop(self) -> None:
        self._bytes -= _size(self._entries.popleft())

    def missed(self, user: str, received: int | None) -> list[Told] | None:
        """Return the events missed by a member with a ticket, in order; None if any is not kept.

        `received` is the number of packets it says it got since its last welcome. If None, a packet
        that may have arrived is not repeated.
        """
        ticket, sent = self.tickets[user], self.count(user)
        if received is None:
            received = ticket.seen if ticket.lost else sent
            if received is None:
                return None
        count = sent - received
        if count > len(self._entries):
            return None
        found: list[Told] = []
        name = user.encode(errors="surrogatepass")
        for entry in reversed(self._entries):
            if len(found) >= count:
                break
            if _concerns(entry, name):
                found.append(_unpacked(entry))
        if len(found) < count:
            return None
        found.reverse()
        return found


# An entry is its _HEAD, the user, the receivers and the texts, separated by NULs: neither names nor
# JSON contain one. No receivers means all; otherwise each name has a \x01 before and after it.


def _packed(told: Told, now: float) -> bytes:
    to = "" if told.to is None else "\x01" + "".join(f"{user}\x01" for user in told.to)
    texts = [text.encode(errors="surrogatepass") for text in told.texts]
    head = _HEAD.pack(now, _EVENTS.index(told.event))
    names = f"{told.user}\0{to}\0".encode(errors="surrogatepass")
    return b"".join((head, names, b"\0".join(texts)))


def _names(entry: bytes) -> tuple[bytes, bytes, int]:
    """Return the user, the receivers, and where the texts begin."""
    middle = entry.index(0, _HEAD.size)
    end = entry.index(0, middle + 1)
    return entry[_HEAD.size : middle], entry[middle + 1 : end], end + 1


def _concerns(entry: bytes, name: bytes) -> bool:
    """Return the same as Told.concerns."""
    if entry[_HEAD.size - 1] == _PROMOTED:
        return True
    user, to, _ = _names(entry)
    return name != user and (not to or b"\x01%b\x01" % name in to)


def _unpacked(entry: bytes) -> Told:
    event = _EVENTS[entry[_HEAD.size - 1]]
    user, to, begin = _names(entry)
    text = entry[begin:]
    texts = text.split(b"\0") if event == "joined" else [text] if event == "sent" else []
    names = to.decode(errors="surrogatepass").split("\x01")[1:-1] if to else None
    return Told(
        event,
        user.decode(errors="surrogatepass"),
        tuple(each.decode(errors="surrogatepass") for each in texts),
        None if names is None else tuple(names),
    )


def entry_bytes(told: Told) -> int:
    """Return the bytes of memory that one event takes in a history."""
    return _size(_packed(told, 0.0))


def _size(entry: bytes) -> int:
    return sys.getsizeof(entry) + _REFERENCE
