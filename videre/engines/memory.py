"""The engine of a single process: rooms in a dictionary, every method done when it returns."""

from __future__ import annotations

from collections.abc import Sequence

from videre.engines import REPLACED, Announcement, Listener, Terms
from videre.errors import RoomFull, UserTaken


class MemoryEngine:
    """Keep the rooms of one process. Costs O(1) for whatever happens, whatever the room's size."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[str, str]] = {}  # room -> user -> seat, in joining order
        self._listener: Listener

    def start(self, listener: Listener) -> None:
        """See Engine.start."""
        self._listener = listener

    def join(
        self, room: str, user: str, seat: str, announcement: Announcement, terms: Terms
    ) -> None:
        """See Engine.join."""
        seats = self._rooms.get(room)
        held = None if seats is None else seats.get(user)
        if held is not None:
            if not terms.replace:
                raise UserTaken("Header.UserId: is in the room already")
            self.leave(room, user, held, *REPLACED)
        elif seats is None:
            if terms.max_rooms is not None and len(self._rooms) >= terms.max_rooms:
                raise RoomFull("There are as many rooms as there may be")
        elif terms.capacity is not None and len(seats) >= terms.capacity:
            raise RoomFull("The room has as many members as it may have")
        self._rooms.setdefault(room, {})[user] = seat
        self._listener.joined(room, user, seat, announcement)

    def leave(
        self, room: str, user: str, seat: str | None, reason: str, code: int | None = None
    ) -> None:
        """See Engine.leave."""
        seats = self._rooms.get(room)
        held = None if seats is None else seats.get(user)
        if seats is None or held is None or seat not in (held, None):
            return
        del seats[user]
        if not seats:
            del self._rooms[room]
        self._listener.left(room, user, held, reason, code)

    def publish(self, room: str, seat: str, text: str, to: Sequence[str] | None = None) -> None:
        """See Engine.publish."""
        self._listener.sent(room, seat, text, to)

    def members(self, room: str) -> list[str]:
        """See Engine.members."""
        return list(self._rooms.get(room, ()))

    def rooms(self) -> list[str]:
        """See Engine.rooms."""
        return list(self._rooms)

    def close(self) -> None:
        """See Engine.close."""
        self._rooms.clear()
