"""The outbox: broadcasts that may be lost with the connection, to be sent again if they were."""

from __future__ import annotations

from collections import OrderedDict

# Bytes of packets that are kept. More than a connection loses fits in: what a dead one takes is
# bounded by the buffers of the system.
MAX_BYTES = 1024 * 1024


class Outbox:
    """Broadcasts in the order in which they were sent, by their ids, which are rising numbers."""

    def __init__(self) -> None:
        # The first of a dict is slow to find where many before it were dropped.
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
        """Let go of the packets up to this one: the server has them."""
        self._confirmed = max(self._confirmed, identity)
        while self._texts and (first := next(iter(self._texts))) <= identity:
            self._drop(first)

    def clear(self) -> None:
        """Let go of all: they may have arrived or not."""
        self._texts.clear()
        self._bytes = 0

    def has_sent(self, identity: int) -> bool:
        """Tell whether a packet is with the server, or was sent again as far as is known."""
        return identity <= self._confirmed or identity in self._texts

    def resume(self, last: int | None) -> None:
        """Keep what went after the packet `last`; None: it is not known what was lost."""
        if last is None:
            self.clear()
        else:
            self.confirm(last)

    def take_from(self, identity: int) -> list[str]:
        """Let go of the packets from this one on, and return them."""
        taken = [each for each in self._texts if each >= identity]
        return [self._drop(each) for each in taken]

    def text(self, identity: object) -> str | None:
        """Return a packet by its id, None if it is not kept."""
        return self._texts.get(identity) if isinstance(identity, int) else None

    def texts(self, since: int = 0) -> list[str]:
        """Return what is to be sent again, from the id `since` on."""
        return [text for identity, text in self._texts.items() if identity >= since]

    def _drop(self, identity: int) -> str:
        text = self._texts.pop(identity)
        self._bytes -= len(text)
        return text
