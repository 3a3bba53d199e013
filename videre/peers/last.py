"""The last broadcast of a seat: what its sender called it, for a client that comes back."""

from __future__ import annotations

from collections.abc import Awaitable

from videre import packets
from videre.packets import Packet
from videre.rooms.room import Seat


def called(seat: Seat, packet: Packet) -> str:
    """Return the id of a broadcast, as JSON; "" if it is the one that the seat remembers."""
    last = packets.called(packet.header)
    return "" if last == seat.last else last


def note(seat: Seat, last: str, pending: Awaitable[None] | None) -> Awaitable[None] | None:
    """Remember the id of the last broadcast that was carried out, if it changed."""
    if not last:
        return pending
    if pending is not None:
        return _note_later(seat, last, pending)
    seat.last = last
    return None


async def _note_later(seat: Seat, last: str, pending: Awaitable[None]) -> None:
    await pending
    seat.last = last
