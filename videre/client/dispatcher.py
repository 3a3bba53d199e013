"""Passes each packet from the server to the part of the client that handles it."""

from __future__ import annotations

import asyncio

from videre.client import wire
from videre.client.connection import Connection
from videre.client.inbox import Inbox
from videre.client.joining import Joining
from videre.client.requests import Requests
from videre.client.sender import Sender
from videre.client.wire import Packet
from videre.errors import PeerError, RateLimited, Unavailable


class Dispatcher:
    """Handles the packets that arrive while the client has its seat."""

    def __init__(self, joining: Joining, sender: Sender, requests: Requests, inbox: Inbox) -> None:
        self._joining = joining
        self._seat = joining.seat
        self._sender = sender
        self._requests = requests
        self._inbox = inbox
        self._renewing: asyncio.Task[None] | None = None
        self._renewal: int | None = None  # the id of the last connect packet with a fresh token
        self._fault: Exception | None = None  # of the application's token function

    def handle(self, connection: Connection, packet: Packet, size: int) -> None:
        """Handle a packet of `size` bytes, any but a `goaway`."""
        answer: Packet | PeerError = packet
        match packet.event:
            case wire.PING:
                self._sender.answered(size)
                self._seat.users = dict.fromkeys(packet.value())
                if isinstance(packet.id, int):
                    self._sender.confirm(packet.id)
            case wire.ICE:
                self._seat.offered(packet.value())
            case wire.WELCOME:  # answers a fresh token
                self._seat.welcome(packet.value())
            case wire.ERROR:
                answer = wire.error_of(packet)
                # Only a notice, which answers no packet, leads to a renewal. If the answer to a
                # renewal did, a function that keeps returning an expired token would be called
                # without a pause.
                if packet.id is None and self._joining.can_renew(answer):
                    self._start_renewal(connection)
                    return
                is_to_renewal = packet.id == self._renewal
                answer.packet_id = None if is_to_renewal else self._sender.first_id(packet.id)
                limited, is_asked = isinstance(answer, RateLimited), packet.id in self._requests
                again = limited or (isinstance(answer, Unavailable) and not is_asked)
                if again and self._sender.refused(packet.id, limited=limited):
                    return
                if not is_asked:
                    self._sender.give_up(packet.id)
                    self._inbox.put(answer)
            case _:
                if event := self._seat.apply(packet):
                    self._inbox.put(event, size)
                return
        self._requests.answer(packet.id, answer)

    def _start_renewal(self, connection: Connection) -> None:
        if self._renewing is None or self._renewing.done():
            # The client receives meanwhile: a token may take its time.
            self._renewing = asyncio.create_task(self._renew(connection))

    async def _renew(self, connection: Connection) -> None:
        try:
            self._renewal = await self._joining.renew(connection)
        except Exception as error:
            self._fault = error
            await connection.close()

    async def end(self) -> None:
        """Note that the connection is lost; raise what the token function has raised."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        if self._fault is not None:
            raise self._fault
