"""Dead nodes: notice them by their leases, give up their seats, adopt the resumable ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from videre.engines.redis.leases import BEATS, Leases
from videre.engines.redis.leaving import Leaving
from videre.engines.redis.node import LATE_SECONDS, Node
from videre.engines.redis.notes import Notes
from videre.engines.redis.view import OwnSeat
from videre.ids import Digest, RoomId, SeatId, UserId

# Members that one reap step looks at: at most 3 ms, during which the store serves nobody else.
REAPED_AT_ONCE = 100

#: Does something for each of many rooms, and renews this node's lease meanwhile.
Each = Callable[[Sequence[RoomId], Callable[[RoomId], Awaitable[None]]], Awaitable[None]]


class Burying:
    """Buries dead nodes. `timeout` is how long a lease lasts, in seconds."""

    def __init__(self, node: Node, notes: Notes, leaving: Leaving, *, timeout: float) -> None:
        self._node = node
        self._notes = notes
        self._leaving = leaving
        self._timeout = timeout
        self.leases = Leases(longest=2 * timeout / BEATS)  # of all nodes
        self.past: dict[str, tuple[float, set[RoomId]]] = {}  # own names: when they died, and rooms

    def died(self, rooms: set[RoomId]) -> None:
        """Record that this node's name is dead, and where it may have seats."""
        self.past[self._node.name] = asyncio.get_running_loop().time(), rooms

    async def bury_dead(self, condemned: Sequence[str], each: Each) -> None:
        """Bury the nodes that others condemned, and those whose leases have ended.

        A node that was cut off itself gives the others time to renew first.
        """
        since, now = self._node.sound_since, asyncio.get_running_loop().time()
        if since is None or now - since < self._timeout:
            return
        ended = dict.fromkeys(condemned, "") | dict(self.leases.ended())
        for node in sorted(ended.keys() - {self._node.name}):
            await self._bury(node, ended[node], each)

    async def _bury(self, node: str, lease: str, each: Each) -> None:
        """Give up the seats of a node whose lease has ended; adopt the resumable ones."""
        if not await self._node.store.node("condemn", node, lease):
            return
        await self._reap(node, set(), each)
        await self._node.store.node("buried", node)

    async def bury_past(self, each: Each) -> None:
        """Give up seats granted to this node's old names after they were buried.

        The node may have asked for them before it knew of this, and the store may have granted
        them late.
        """
        now = asyncio.get_running_loop().time()
        for name, (died, rooms) in list(self.past.items()):
            await self._reap(name, rooms, each)
            if now - died > LATE_SECONDS:
                del self.past[name]

    async def _reap(self, node: str, rooms: set[RoomId], each: Each) -> None:
        """Give up a node's seats in all rooms noted for it, and in `rooms`."""
        noted = sorted({*await self._node.store.noted(node), *rooms})
        await each(noted, partial(self._reap_room, node))

    async def _reap_room(self, node: str, room: RoomId) -> None:
        self._node.adopting.add(room)
        try:
            await self._notes.note(room)  # before a seat there may become ours
            start = "-inf"
            while start:
                start = await self._reap_some(room, node, start)
        finally:
            self.adopted(room)
        self._notes.release(room)
        await self._node.unnote(node, room)

    async def _reap_some(self, room: RoomId, node: str, start: str) -> str:
        """Reap one slice of members; return where to continue, "" at the end."""
        _, adopted, after = await self._node.step(
            room, "reap", node, self._node.name, start, str(REAPED_AT_ONCE)
        )
        self.adopt(room, adopted)
        return str(after)

    def adopted(self, room: RoomId) -> None:
        """Record that a room's adopted seats are known, unless an earlier step may still adopt."""
        if room not in self._node.late:
            self._node.adopting.discard(room)

    def adopt(self, room: RoomId, adopted: Sequence[tuple[UserId, SeatId, Digest, str]]) -> None:
        """Take in seats that a step of the store has moved to this node, and begin their grace."""
        for user, seat, ticket, place in adopted:
            own = OwnSeat(seat, user, room, ticket, float(place))
            self._leaving.begin_grace(self._node.take(own))
