"""Sends broadcasts in order and within the server's limits; resends those that were dropped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from videre.client import wire
from videre.client.connection import Connection
from videre.client.outbox import Outbox
from videre.client.pacer import Pacer

# The server charges a packet once for its first FREE receivers, and once more for each further
# CHARGED or part of them: twice for nine (protocol.md, 5).
FREE, CHARGED = 8, 8

# Seconds until a broadcast that the store of the rooms could not take is sent again.
OUTAGE = 1.0


class Sender:
    """One client's broadcasts; `ids` numbers its packets, `others` counts possible receivers."""

    def __init__(self, ids: Iterator[int], others: Callable[[], int]) -> None:
        self._ids = ids
        self._others = others
        self._pacer = Pacer()
        self._outbox = Outbox()
        self._again: deque[str] = deque()  # to be sent before any new packet
        self._repeated = 0  # answers to requests up to this id confirm nothing
        self._superseded = 0  # broadcasts up to this id that were refused have another one now
        self._turn = asyncio.Lock()  # the right to send next, in order of request
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._flushing: set[asyncio.Task[None]] = set()

    def resume(self, last: int | None) -> None:
        """Note the last broadcast that the server got (None: unknown). Call before `begin`."""
        self._outbox.resume(last)

    def begin(self, connection: Connection, limits: Mapping[str, Any] | None) -> None:
        """Use a connection to a server with these limits; first, resend what was lost."""
        self._connection = connection
        self._lost = asyncio.Event()
        self._pacer.begin(limits, asyncio.get_running_loop().time())
        self._repeat()

    def end(self) -> None:
        """Note that there is no connection."""
        self._connection = None
        self._again.clear()
        self._repeated = next(self._ids)
        self._lost.set()

    def confirm(self, identity: int) -> None:
        """Note the answer to the request with this id: the server has all that was sent before.

        A broadcast to be repeated may have a lower id, and still be sent later.
        """
        if not self._again and identity > self._repeated:
            self._outbox.confirm(identity)

    def has_sent(self, identity: int) -> bool:
        """Tell whether the server has a packet, or it was resent, as far as is known."""
        return self._outbox.has_sent(identity)

    def first_id(self, identity: object) -> object:
        """Return the first id of a packet, the one that `send` returned."""
        text = self._outbox.text(identity)
        return identity if text is None else wire.first_id(text)

    async def send(
        self, connection: Connection, make: Callable[[int], str], copies: int
    ) -> tuple[int | None, bool]:
        """Wait for a turn, then send the packet that `make` returns for its id.

        Returns the id, or None if the connection ended before the packet was sent, and whether it
        may be on its way.
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

    def refused(self, identity: object, *, limited: bool) -> bool:
        """Handle a refused packet: it exceeds a rate (`limited`), or the store is unavailable.

        Returns whether it will be resent.

        The server may have silently dropped packets after a limited one, so all broadcasts from it
        on are resent, even if it is a request itself. Receivers recognize repeats by `Again`.
        """
        now = asyncio.get_running_loop().time()
        is_ours = self._outbox.text(identity) is not None
        if limited:
            self._pacer.refused(now)
        elif is_ours:
            self._pacer.pause(now + OUTAGE)
        else:
            return isinstance(identity, int) and identity <= self._superseded
        if not isinstance(identity, int) or (self._again and not is_ours):
            return False
        self._superseded = next(self._ids)
        for text in self._outbox.take_from(identity):
            number = next(self._ids)
            self._outbox.add(number, wire.renumber(text, number))
        self._repeat(identity)
        return is_ours

    def give_up(self, identity: object) -> None:
        """Never repeat a packet, if it is ours: the server has refused it for good."""
        self._outbox.discard(identity)

    def answered(self, size: int) -> None:
        """Count the bytes of an answer to a request: the server charges them, too."""
        self._pacer.take(size, packets=0)

    def _repeat(self, since: int = 0) -> None:
        """Resend the outbox, from the id `since` on."""
        self._again = deque(self._outbox.texts(since))
        if self._again and self._connection is not None:
            task = asyncio.create_task(self._flush(self._connection))
            self._flushing.add(task)
            task.add_done_callback(self._flushing.discard)

    async def _flush(self, connection: Connection) -> None:
        async with self._turn:
            await self._send_again(connection)

    async def _send_again(self, connection: Connection) -> bool:
        """Send all packets to be repeated; tell whether the connection is still the current one."""
        while connection is self._connection and self._again:
            cost = _cost(self._again[0], self._others())
            if await self._paused(cost):
                continue
            self._pacer.take(cost)
            text, self._repeated = self._again.popleft(), next(self._ids)
            if not await connection.send(text):
                return False
        return connection is self._connection

    async def _paused(self, cost: int) -> bool:
        """Wait until a packet may be sent or the connection is lost; tell whether it waited."""
        seconds = self._pacer.wait(cost, asyncio.get_running_loop().time())
        if not seconds:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._lost.wait()
        except TimeoutError:
            pass  # it may be sent now
        return True


def _cost(text: str, copies: int) -> int:
    """Return the bytes that the server charges for a packet."""
    return len(text.encode()) * (1 + max(0, copies - FREE + CHARGED - 1) // CHARGED)
