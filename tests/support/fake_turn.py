"""A TURN server over UDP that grants allocations, until it falls silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aioice import stun
from aioice.turn import make_integrity_key
from aiortc import RTCIceServer

USER, PASSWORD, REALM = "user", "password", "example.com"


class FakeTurn(asyncio.DatagramProtocol):
    """Answers every request with success, once it has credentials."""

    def __init__(self) -> None:
        self.is_silent = False
        self._deletions: set[bytes] = set()  # by transaction: a client repeats what is slow

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        """Keep the socket."""
        self._transport = transport

    @property
    def deleted(self) -> int:
        """The number of allocations that were deleted."""
        return len(self._deletions)

    @property
    def server(self) -> RTCIceServer:
        """The server, for a configuration."""
        host, port = self._transport.get_extra_info("sockname")
        return RTCIceServer([f"turn:{host}:{port}"], username=USER, credential=PASSWORD)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Answer a request."""
        request = stun.parse_message(data)
        if self.is_silent or request.message_class != stun.Class.REQUEST:
            return
        knows = "USERNAME" in request.attributes
        answer = stun.Message(
            request.message_method,
            stun.Class.RESPONSE if knows else stun.Class.ERROR,
            request.transaction_id,
        )
        if not knows:
            answer.attributes["ERROR-CODE"] = (401, "Unauthorized")
            answer.attributes |= {"NONCE": b"nonce", "REALM": REALM}
        else:
            lifetime = request.attributes.get("LIFETIME", 600)
            if lifetime == 0:
                self._deletions.add(request.transaction_id)
            answer.attributes["LIFETIME"] = lifetime
            answer.attributes["XOR-MAPPED-ADDRESS"] = address
            answer.attributes["XOR-RELAYED-ADDRESS"] = ("127.0.0.1", 9)
            answer.add_message_integrity(make_integrity_key(USER, REALM, PASSWORD))
        self._transport.sendto(bytes(answer), address)


@asynccontextmanager
async def fake_turn() -> AsyncIterator[FakeTurn]:
    """Run such a server."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(FakeTurn, ("127.0.0.1", 0))
    try:
        yield server
    finally:
        transport.close()
