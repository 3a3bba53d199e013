"""The ids of rooms, users and seats, and digests of secrets: strings that must not be mixed up.

They are plain strings at run time. A type checker keeps them apart.
"""

from __future__ import annotations

from typing import NewType

#: A room's name, `Header.RoomId`. It is a secret: anyone who knows it may enter.
RoomId = NewType("RoomId", str)

#: A user's name in a room, `Header.UserId`. Rooms may share it; a room has it once.
UserId = NewType("UserId", str)

#: The id of a seat, one user's place in one room. It is never used again.
SeatId = NewType("SeatId", str)

#: The hash of a resume secret. The engine stores only this.
Digest = NewType("Digest", str)
