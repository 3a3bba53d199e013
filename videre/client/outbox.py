"""The outbox: recent broadcasts, kept to resend those lost with the connection."""

from __future__ import annotations

from collections import OrderedDict

# Bytes of packets kept. That is more than a connection loses: the system's buffers bound what a
# dead connection accepts.
MAX_BYTES = 1024 * 1024


class Outbox:
    """Broadcasts in sending order, by their ids, which increase."""

    def __init__(self) -> None:
        # Not a dict: finding its first key is slow after many deletions at the front.
        self._texts: OrderedDict[int, str] = OrderedDict()
        self._bytes = 0
        self._confirmed = 0

    def add(self, identity: int, text: str) -> None:
        """Keep a packet that is about to be sent."""
        self._texts[identity] = text
        self._bytes += len(text)
        while self._bytes > MAX_BYTES and len(self._texts) > 1:
            self._drop(next(iter(self._texts)))

    def confirm(self, identity: int) -> None:
        """Drop all packets up to this id: the server has them."""
        self._confirmed = max(self._confirmed, identity)
        while self._texts and (first := next(iter(self._texts))) <= identity:
            self._drop(first)

    def discard(self, identity: object) -> None:
        """Drop a packet, if it is kept."""
        if isinstance(identity, int) and identity in self._texts:
            self._drop(identity)

    def clear(self) -> None:
        """Drop all packets, whether they arrived or not."""
        self._texts.clear()
        self._bytes = 0

    def has_sent(self, identity: int) -> bool:
        """Tell whether the server has a packet, or it was resent, as far as is known."""
        return identity <= self._confirmed or identity in self._texts

    def resume(self, last: int | None) -> None:
        """Keep only packets after the id `last`; if it is None (unknown), drop all."""
        if last is None:
            self.clear()
        else:
            self.confirm(last)

    def take_from(self, identity: int) -> list[str]:
        """Remove and return the packets from this id on."""
        taken = [each for each in self._texts if each >= identity]
        return [self._drop(each) for each in taken]

    def text(self, identity: object) -> str | None:
        """Return a packet by its id, None if it is not kept."""
        return self._texts.get(identity) if isinstance(identity, int) else None

    def texts(self, since: int = 0) -> list[str]:
        """Return the packets to resend, from the id `since` on."""
        return [text for identity, text in self._texts.items() if identity >= since]

    def _drop(self, identity: int) -> str:
        text = self._texts.pop(identity)
        self._bytes -= len(text)
        return text
