"""Rooms: members, the initiator, delivery, resume, and the application's hooks."""

from videre.rooms.room import Seat
from videre.rooms.rooms import Rooms

__all__ = ["Rooms", "Seat"]
