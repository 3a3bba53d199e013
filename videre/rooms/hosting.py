"""What the hosting application may do with rooms: hear of members, list, remove and send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from videre import packets
from videre.engines import Engine
from videre.engines.events import SERVER_SEAT
from videre.engines.nodes import Seen
from videre.errors import MAX_REASON
from videre.ids import RoomId, UserId
from videre.rooms.hooks import Hooks, OnJoin, OnLeave

# Names of rooms to request at a time when all are wanted.
PAGE = 1000


class Hosting:
    """The rooms of one namespace, for the hosting application. Rooms adds what peers need.

    Its methods raise ValueError for a room or user with a lone surrogate, which is no text.
    """

    def __init__(self, engine: Engine, hooks: Hooks) -> None:
        self._engine = engine
        self._hooks = hooks

    def on_join(self, hook: OnJoin) -> OnJoin:
        """Call `hook(room, user)` for each user that joins; usable as a decorator.

        It may be async. It is called once for each member, after its connect was answered, on the
        node it is connected to. Its exceptions are logged and go no further.
        """
        self._hooks.on_join.append(hook)
        return hook

    def on_leave(self, hook: OnLeave) -> OnLeave:
        """Call `hook(room, user, reason)` for each seat that is given up; see `on_join`.

        For a lost connection, it is called after the grace; for a seat that ended with its node,
        not at all. `reason` is a LeaveReason, or the reason passed to `kick`.
        """
        self._hooks.on_leave.append(hook)
        return hook

    async def rooms(self, *, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return the rooms with members, sorted; with `limit`, the first `limit` after `after`."""
        _check(after or "")
        if limit is not None:
            return await self._engine.rooms(after, limit)
        found: list[str] = []
        while len(page := await self._engine.rooms(after, PAGE)) == PAGE:
            found += page
            after = page[-1]
        return found + page

    def nodes(self) -> list[Seen]:
        """Return the living nodes that share the rooms, as this one saw them last."""
        return self._engine.nodes()

    async def members(self, room: str) -> list[str]:
        """Return a room's user ids in joining order; empty for an unknown room."""
        _check(room)
        return await self._engine.members(RoomId(room))

    async def kick(self, room: str, user: str, reason: str = "Removed") -> bool:
        """Remove a user: the others get a disconnect, its session is closed with 4504.

        `reason` goes into the close frame; raises ValueError if it has more than 123 bytes of
        UTF-8. Returns False if the user is not in the room. Raises EngineError.
        """
        if len(reason.encode()) > MAX_REASON:
            raise ValueError(f"the reason has more than {MAX_REASON} bytes")
        _check(room, user)
        return await self._engine.remove(RoomId(room), UserId(user), reason)

    async def send(
        self, room: str, payload: Any, *, to: str | Sequence[str] | None = None, sender: str = ""
    ) -> None:
        """Broadcast `payload`, a JSON value, to the members of a room, or to those in `to`.

        `to` is one user or several; those not in the room are skipped. `sender` is the packet's
        UserId. Raises TypeError if `payload` is not JSON, and EngineError.
        """
        _check(sender, room)
        text = packets.write_broadcast(sender, room, payload)
        users = None
        if to is not None:
            users = tuple(map(UserId, dict.fromkeys([to] if isinstance(to, str) else to)))
            _check(*users)
            if not users:
                return
        if (pending := self._engine.publish(RoomId(room), SERVER_SEAT, text, users)) is not None:
            await pending


def _check(*names: str) -> None:
    """Raise ValueError for names that no member can have, and no store can take."""
    "".join(names).encode()
