"""Rooms: members, the initiator, delivery, resume, and the application's hooks."""

from videre.rooms.room import Seat
from videre.rooms.rooms import MAX_REASON, Rooms

__all__ = ["MAX_REASON", "Rooms", "Seat"]
