"""The steps of a `connect`: delay, token, seat.

An address with too many refused tokens waits; the token is checked; a seat is resumed, newly taken
or confirmed.
"""

from __future__ import annotations

from videre import packets, tally
from videre.auth import Grant
from videre.engines import Gap
from videre.errors import EngineError, TokenExpired, Unauthorized, WrongUser
from videre.packets import Packet
from videre.payload import around_payload
from videre.peers.connect_options import connect_options
from videre.peers.context import Context
from videre.peers.holder import Holder
from videre.rooms.room import Seat


async def enter(peer: Holder, context: Context, packet: Packet) -> Seat | None:
    """Return the seat that a `connect` obtains; None if the peer keeps its own or has gone.

    Raises PeerError and EngineError; then the peer keeps what it has.
    """
    entry = _Entry(peer, context, packet)
    seconds = context.penalties.delay(peer.address, context.clock())
    if not seconds:
        return await entry.seat()
    with context.penalties.delayed(peer.address):
        await peer.wait(seconds)
        return None if peer.parting else await entry.seat()


class _Entry:
    """One `connect` in progress."""

    def __init__(self, peer: Holder, context: Context, packet: Packet) -> None:
        self._peer = peer
        self._context = context
        self._rooms = context.rooms
        self._packet = packet

    def _count(self) -> None:
        """Count a failure of the peer's address."""
        self._context.penalties.record(self._peer.address, self._context.clock())

    async def seat(self) -> Seat | None:
        """Check the peer's token, and get it a seat."""
        peer, packet, held = self._peer, self._packet, self._peer.seat
        if held is not None and held.room != packet.room:
            held = None
        elif held is not None and held.user != packet.user:
            raise WrongUser("Header.UserId: this session has connected as another user")
        self._options = connect_options(packet.payload)
        self._grant = self._check()
        self._announcement = around_payload(packet.text)
        seat = await (self._take() if held is None else self._repeat(held))
        if seat is not None:
            peer.pay(seat.greeted)
            peer.accept(self._grant)
        return seat

    def _check(self) -> Grant:
        packet, context, token = self._packet, self._context, self._options.token
        try:
            return context.auth.grant(token, packet.user, packet.room, context.unix_time())
        except (Unauthorized, TokenExpired):
            if token is not None:
                self._count()
            raise

    async def _repeat(self, held: Seat) -> Seat | None:
        """Confirm the peer's seat; nothing changes for the others."""
        self._peer.accept(self._grant)
        if self._options.welcome or held.welcome is not None:
            return await self._rooms.renew(held, self._announcement)
        role = packets.ROLE[self._rooms.is_initiator(held)]
        self._peer.send("connect", role.join(self._announcement))
        return None

    async def _take(self) -> Seat:
        """Resume the peer's seat; take a new one if there is none to resume, or it has a gap."""
        packet, peer, resume = self._packet, self._peer, self._options.resume
        lost = None if resume is None else await self._resume(*resume)
        if isinstance(lost, Seat):
            return lost
        # The new seat comes before the old one is given up: a refused join costs the peer nothing.
        # After a gap it replaces the lost seat, whose secret the peer has shown.
        seat = await self._rooms.join(
            packet.user,
            packet.room,
            peer.connection,
            self._announcement,
            capacity=self._grant.capacity,
            welcome=self._options.greeting,
            replace=lost is not None,
        )
        peer.pay(tally.size(packet.text) * seat.replica.weight)
        return seat

    async def _resume(self, secret: str, received: int) -> Seat | Gap | None:
        packet, results = self._packet, self._rooms.tally.resumes
        try:
            found = await self._rooms.resume(
                packet.user,
                packet.room,
                self._peer.connection,
                self._announcement,
                secret=secret,
                received=received,
            )
        except Unauthorized:
            results["refused"] += 1
            self._count()
            raise
        except EngineError:
            results["failed"] += 1
            raise
        results["gone" if found is None else "gap" if isinstance(found, Gap) else "resumed"] += 1
        return found
