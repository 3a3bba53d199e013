"""How broadcasts go: in order, no faster than the server allows, and again if they were dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from videre.client import wire
from videre.client.connection import Connection
from videre.client.outbox import Outbox
from videre.client.pacer import Pacer

# Receivers of a packet that its sender is charged no more for (protocol.md, 5), and so many more
# for each of which it is charged once more.
FREE, CHARGED = 8, 8


class Sender:
    """The broadcasts of one client; `ids` numbers its packets, `others` counts who may get one."""

    def __init__(self, ids: Iterator[int], others: Callable[[], int]) -> None:
        self._ids = ids
        self._others = others
        self._pacer = Pacer()
        self._outbox = Outbox()
        self._again: deque[str] = deque()  # goes before anything new
        self._turn = asyncio.Lock()  # of who sends next: it is fair
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._flushing: set[asyncio.Task[None]] = set()

    def resume(self, last: int | None) -> None:
        """Hear which broadcast the server got last, before the connection; None: nobody knows."""
        self._outbox.resume(last)

    def begin(self, connection: Connection, limits: Mapping[str, Any] | None) -> None:
        """Use a connection to a server with these limits; what was lost goes first."""
        self._connection = connection
        self._lost = asyncio.Event()
        self._pacer.begin(limits, asyncio.get_running_loop().time())
        self._repeat()

    def end(self) -> None:
        """Have no connection any more."""
        self._connection = None
        self._again.clear()
        self._lost.set()

    def confirm(self, identity: int) -> None:
        """Hear that the server has all up to this packet."""
        self._outbox.confirm(identity)

    def has_sent(self, identity: int) -> bool:
        """Tell whether a packet is with the server, or was sent again as far as is known."""
        return self._outbox.has_sent(identity)

    def first_id(self, identity: object) -> object:
        """Return the id that a packet had at first, which its sender knows it by."""
        text = self._outbox.text(identity)
        return identity if text is None else wire.first_id(text)

    async def send(
        self, connection: Connection, make: Callable[[int], str], copies: int
    ) -> tuple[int | None, bool]:
        """Send a packet, made for its id, when its turn has come.

        Returns its id, None if it was not sent, and whether it may be on its way: it is not if the
        connection has ended meanwhile.
        """
        async with self._turn:
            text, cost = make(0), 0
            while True:
                if not await self._send_again(connection):
                    return None, False
                cost = _cost(text, copies)
                if not await self._paused(cost):
                    break
            identity = next(self._ids)
            text = make(identity)
            self._pacer.take(cost)
            self._outbox.add(identity, text)
            return identity, await connection.send(text)

    def refused(self, identity: object) -> bool:
        """Hear that a packet came too fast; tell whether it is sent again.

        What went after it may have been dropped without a word. All of it is sent again, and who
        has got it already knows it by `Again`.
        """
        self._pacer.refused(asyncio.get_running_loop().time())
        if not isinstance(identity, int) or self._outbox.text(identity) is None:
            return False
        for text in self._outbox.take_from(identity):
            number = next(self._ids)
            self._outbox.add(number, wire.renumber(text, number))
        self._repeat(identity)
        return True

    def _repeat(self, since: int = 0) -> None:
        """Send what is in the outbox again, from the id `since` on."""
        self._again = deque(self._outbox.texts(since))
        if self._again and self._connection is not None:
            task = asyncio.create_task(self._flush(self._connection))
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)

    async def _flush(self, connection: Connection) -> None:
        async with self._turn:
            await self._send_again(connection)

    async def _send_again(self, connection: Connection) -> bool:
        """Send all that goes before anything new; tell whether the connection is still there."""
        while connection is self._connection and self._again:
            cost = _cost(self._again[0], self._others())
            if await self._paused(cost):
                continue
            self._pacer.take(cost)
            if not await connection.send(self._again.popleft()):
                return False
        return connection is self._connection

    async def _paused(self, cost: int) -> bool:
        """Wait while a packet may not go, or until the connection is lost; tell whether it did."""
        seconds = self._pacer.wait(cost, asyncio.get_running_loop().time())
        if not seconds:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._lost.wait()
        except TimeoutError:
            pass  # now it may go
        return True


def _cost(text: str, copies: int) -> int:
    """Return the bytes that a packet is charged for."""
    return len(text.encode()) * (1 + max(0, copies - FREE + CHARGED - 1) // CHARGED)
