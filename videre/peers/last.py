"""The id of a seat's last broadcast, which a resuming client gets."""

from __future__ import annotations

from collections.abc import Awaitable

from videre import packets
from videre.packets import Packet
from videre.rooms.room import Seat


def new_id(seat: Seat, packet: Packet) -> str:
    """Return the id of a broadcast, as JSON; "" if the seat already remembers it."""
    packet_id = packets.id_text(packet.header)
    return "" if packet_id == seat.last_id else packet_id


def note(seat: Seat, packet_id: str, pending: Awaitable[None] | None) -> Awaitable[None] | None:
    """Remember the id of the sender's last broadcast, if it changed."""
    if not packet_id:
        return pending
    if pending is not None:
        return _note_later(seat, packet_id, pending)
    seat.last_id = packet_id
    return None


async def _note_later(seat: Seat, packet_id: str, pending: Awaitable[None]) -> None:
    await pending
    seat.last_id = packet_id
