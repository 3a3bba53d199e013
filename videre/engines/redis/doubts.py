"""Doubted members, unknown to a store that lost data: how long a node believes in them."""

from __future__ import annotations

import asyncio

from videre.engines.redis.node import Node
from videre.engines.redis.view import View
from videre.ids import RoomId


class Doubts:
    """Gives the nodes of doubted members `seconds` to restore them.

    Then this node's next beat, which has just read which nodes are still restoring, drops the
    doubted members whose nodes are not.
    """

    def __init__(self, node: Node, seconds: float) -> None:
        self._node = node
        self._seconds = seconds
        self._due: set[RoomId] = set()  # rooms with doubts whose time is over

    def watch(self, view: View, *, again: bool = False) -> None:
        """Start the timer of a room's doubted members, if any; `again`: a quarter as long."""
        self._due.discard(view.room)  # an earlier time may be over, and its beat still to come
        if view.doubting is not None:
            view.doubting.cancel()
        if view.doubted:
            loop, seconds = asyncio.get_running_loop(), self._seconds / (4 if again else 1)
            view.doubting = loop.call_later(seconds, self._expire, view)

    def _expire(self, view: View) -> None:
        if self._node.views.get(view.room) is view:
            self._due.add(view.room)
            self._node.trouble.set()

    def end(self) -> None:
        """End the doubts whose time is over. `Node.restoring` must be fresh."""
        if not self._node.ready:
            return
        due, self._due = self._due, set()
        for room in sorted(due):
            if (view := self._node.views.get(room)) is not None:
                self._end(view)

    def _end(self, view: View) -> None:
        if (found := view.dispel(self._node.restoring)) is not None:
            self._node.listener.hear(view.room, found)
            self._node.owe_counts(view)
        self.watch(view, again=True)
