"""The outbox: broadcasts that may be lost with the connection, to be sent again if they were."""

from __future__ import annotations

from collections import OrderedDict

from videre.client.connection import Connection

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

    async def repeat(self, connection: Connection, last: int | None) -> None:
        """Send again what went after the packet `last`; None: it is not known what was lost."""
        if last is None:
            self.clear()
            return
        self.confirm(last)
        for text in self.texts():
            await connection.send(text)  # if it is closed, there will be another time

    def texts(self) -> list[str]:
        """Return what is to be sent again."""
        return list(self._texts.values())

    def _drop(self, identity: int) -> None:
        self._bytes -= len(self._texts.pop(identity))
