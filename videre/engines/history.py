"""The history of one room: what its members were told lately, for those that come back to it.

Pure: clocks are arguments. A room has a history while a member holds a ticket, the digest of the
secret that it can resume with.
"""

from __future__ import annotations

import dataclasses
import struct
import sys
from collections import deque

from videre.engines import Event, Told

# Seconds by which a dead connection may go unnoticed (protocol.md, "disconnect"): what was sent in
# that time may be asked for again.
UNNOTICED = 40.0


# Bytes of a reference to an entry.
_REFERENCE = 8

_EVENTS: tuple[Event, ...] = ("sent", "joined", "left", "promoted")
_HEAD = struct.Struct("=dB")  # when it was told, and which event
_PROMOTED = _EVENTS.index("promoted")


@dataclasses.dataclass(slots=True)
class Ticket:
    """One member's right to come back."""

    digest: str
    before: int  # packets of the room that the member was not sent since its last welcome
    lost: bool = False
    seen: int | None = None  # once lost: how many may have arrived; None: not known


class History:
    """What happened in one room, the last of it, and who may ask for it.

    Each entry is one bytes object: as objects of Python, or with text that is not ASCII, it would
    take several times the memory. What an entry takes is counted whole.
    """

    __slots__ = ("_bytes", "_entries", "_max_bytes", "_total", "tickets")

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes  # of memory; None: no limit
        self._entries: deque[bytes] = deque()
        self._bytes = 0
        self._total = 0  # packets, apart from those for some members alone
        self.tickets: dict[str, Ticket] = {}  # by user

    def issue(self, user: str, digest: str, count: int = 0) -> None:
        """Give a member a ticket: it counts as having been sent so many packets since."""
        self.tickets[user] = Ticket(digest, self._total - count)

    def count(self, user: str) -> int:
        """Return how many packets a member with a ticket was sent by the room since its welcome."""
        return self._total - self.tickets[user].before

    def record(self, told: Told, now: float) -> None:
        """Write down what the members are told at `now`; forget what is too much.

        Costs no more for many tickets: what all are told is counted once.
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
        """Forget what was told before a time, so many entries at most; tell whether that is all."""
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
        """Return what a member with a ticket has missed, in order; None if any is not kept.

        `received` is the number of packets that it says to have got since its last welcome. If it
        does not say, a packet that may have arrived is not repeated.
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


# An entry is its _HEAD, the user, to whom it was sent, and the texts, with a NUL between each two:
# neither a name nor JSON holds one. To whom: nothing stands for all, else each name has a \x01
# before and after it.


def _packed(told: Told, now: float) -> bytes:
    to = "" if told.to is None else "\x01" + "".join(f"{user}\x01" for user in told.to)
    texts = [text.encode(errors="surrogatepass") for text in told.texts]
    head = _HEAD.pack(now, _EVENTS.index(told.event))
    names = f"{told.user}\0{to}\0".encode(errors="surrogatepass")
    return b"".join((head, names, b"\0".join(texts)))


def _names(entry: bytes) -> tuple[bytes, bytes, int]:
    """Return the user, to whom it was sent, and where the texts begin."""
    middle = entry.index(0, _HEAD.size)
    end = entry.index(0, middle + 1)
    return entry[_HEAD.size : middle], entry[middle + 1 : end], end + 1


def _concerns(entry: bytes, name: bytes) -> bool:
    """Tell the same as Told.concerns."""
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
    """Return the bytes of memory that one thing takes in a history."""
    return _size(_packed(told, 0.0))


def _size(entry: bytes) -> int:
    return sys.getsizeof(entry) + _REFERENCE
