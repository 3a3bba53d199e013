"""Notes in the store of the rooms where a node may have seats.

A node notes a room before it takes its first seat there, and removes the note after the last.
"""

from __future__ import annotations

import asyncio

from videre.engines.redis.node import NO_LEASE, Node
from videre.errors import EngineError
from videre.ids import RoomId


class Notes:
    """Keeps one node's notes and subscriptions in step with its seats."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._unnoting: dict[RoomId, asyncio.Future[None]] = {}

    async def note(self, room: RoomId) -> None:
        """Note in the store that this node may have seats in a room."""
        await self._unnoted(room)
        if not await self._node.store.node("note", self._node.name, room):
            self._node.trouble.set()
            raise EngineError(NO_LEASE)

    async def _unnoted(self, room: RoomId) -> None:
        while (unnoting := self._unnoting.get(room)) is not None:
            await asyncio.wait([unnoting])

    def release(self, room: RoomId) -> None:
        """Remove the note of a room, if this node has no seats there."""
        if not self._keeps(room):
            self.stop_hearing(room)

    def stop_hearing(self, room: RoomId) -> None:
        """Unsubscribe from a room without a view; remove its note if no seats remain."""
        self._node.jobs.spawn(self._stop_hearing(room))

    async def _stop_hearing(self, room: RoomId) -> None:
        await self._unnoted(room)
        done = self._unnoting[room] = asyncio.get_running_loop().create_future()
        try:
            if room not in self._node.views:
                await self._node.store.unsubscribe(room)
            if not self._keeps(room):
                await self._node.unnote(self._node.name, room)
        except EngineError as error:
            self._node.owe(room)
            self._node.unsound(error)
        finally:
            done.set_result(None)
            del self._unnoting[room]

    def _keeps(self, room: RoomId) -> bool:
        """Return whether this node has seats in a room, or may have after earlier steps."""
        node = self._node
        return node.closing or room in node.owed or room in node.late or self.has(room)

    def has(self, room: RoomId) -> bool:
        """Return whether this node has or wants seats in a room."""
        node = self._node
        return room in node.views or room in node.adopting or bool(node.own_in(room))
