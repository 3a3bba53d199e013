"""Passes each packet from the server to the part of the client that handles it."""

from __future__ import annotations

from videre.client import wire
from videre.client.connection import Connection
from videre.client.inbox import Inbox
from videre.client.joining import Joining
from videre.client.requests import Requests
from videre.client.sender import Sender
from videre.client.wire import Packet
from videre.errors import PeerError, RateLimited


class Dispatcher:
    """Handles the packets that arrive while the client has its seat."""

    def __init__(self, joining: Joining, sender: Sender, requests: Requests, inbox: Inbox) -> None:
        self._joining = joining
        self._seat = joining.seat
        self._sender = sender
        self._requests = requests
        self._inbox = inbox

    async def handle(self, connection: Connection, packet: Packet, size: int) -> None:
        """Handle a packet of `size` bytes, any but a `goaway`."""
        answer: Packet | PeerError = packet
        match packet.event:
            case wire.PING:
                self._seat.users = packet.value()
                if isinstance(packet.id, int):  # the server has got all that was sent before it
                    self._sender.confirm(packet.id)
            case wire.ICE:
                self._seat.offered(packet.value())
            case wire.WELCOME:  # answers a fresh token
                self._seat.welcome(packet.value())
            case wire.ERROR:
                answer = wire.error_of(packet)
                answer.packet_id = self._sender.first_id(packet.id)
                if isinstance(answer, RateLimited) and self._sender.refused(packet.id):
                    return
                if packet.id not in self._requests:
                    await self._refused(connection, answer)
            case _:
                if event := self._seat.apply(packet):
                    self._inbox.put(event, size)
                return
        self._requests.answer(packet.id, answer)

    async def _refused(self, connection: Connection, error: PeerError) -> None:
        if self._joining.can_renew(error):
            await self._joining.renew(connection)
        else:
            self._inbox.put(error)
