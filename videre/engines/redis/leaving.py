"""The ends of seats: left, lost, or removed by others."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from videre.engines.redis.following import Following
from videre.engines.redis.node import Node
from videre.engines.redis.seats import Seats
from videre.engines.redis.view import OwnSeat, View
from videre.errors import CloseCode, EngineError
from videre.ids import RoomId, SeatId, UserId
from videre.reasons import LeaveReason


class Leaving:
    """Ends seats. A lost one is kept for `grace` seconds."""

    def __init__(self, node: Node, seats: Seats, following: Following, *, grace: float) -> None:
        self._node = node
        self._seats = seats
        self._following = following
        self._grace = grace

    async def leave(self, room: RoomId, user: UserId, seat: SeatId, reason: str) -> None:
        """See Engine.leave. An outage of the store only delays it."""
        own = self._node.own.get(seat)
        if own is not None:
            own.leaving = reason
        answer = await self._node.or_later(room, "leave", user, seat, reason, "")
        if answer is None:
            return
        view = self._node.views.get(room)
        if own is not None and (view is None or own.seat not in view.own):
            self._seats.disown(own)  # it was adopted: perhaps no message reports its end
        elif answer[0] == "ok":
            await _heard(view, answer)
        elif own is not None and view is not None:
            # Either a message reports its end, or the store has lost the room.
            self._following.catch_up(view)

    async def remove(self, room: RoomId, user: UserId, words: str) -> bool:
        """See Engine.remove."""
        node = self._node
        node.require("leave")
        view, server = node.require_whole(room), node.server
        if view is not None:
            node.require_settled(room)
        known = "" if view is None else view.known_as
        code = str(int(CloseCode.REMOVED))
        answer = await node.step(room, "leave", user, "", words, code, known)
        node.require_known(room, answer[0])
        if answer[0] != "ok":
            if view is None:
                await node.require_same(server)
            return False
        await _heard(node.views.get(room), answer)
        return True

    def lose(self, room: RoomId, user: UserId, seat: SeatId) -> None:
        """See Engine.lose. The store is not told: any seat with a ticket can be resumed there."""
        own = self._node.own.get(seat)
        if own is None or (own.room, own.user) != (room, user) or own.ticket is None:
            return
        self.begin_grace(own)

    def begin_grace(self, own: OwnSeat) -> None:
        """Start the grace of a seat, after which it is given up."""
        if own.grace is None:
            loop = asyncio.get_running_loop()
            own.grace = loop.call_later(self._grace, self._grace_over, own)

    def _grace_over(self, own: OwnSeat) -> None:
        own.grace = None
        self._node.jobs.spawn(self.leave(own.room, own.user, own.seat, LeaveReason.GRACE_OVER))


async def _heard(view: View | None, answer: Any) -> None:
    """Wait until this node has heard that a seat ended; it has, even if the message is lost."""
    if view is not None:
        with contextlib.suppress(EngineError):
            await view.reached(int(answer[1]))
