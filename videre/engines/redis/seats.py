"""The seats of one node, and its views of the rooms that they are in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from videre.engines.events import Dropped, Found
from videre.engines.redis.faults import retrieve
from videre.engines.redis.node import Node
from videre.engines.redis.notes import Notes
from videre.engines.redis.outage import StoreFull
from videre.engines.redis.view import OwnSeat, View
from videre.errors import EngineError, PeerError
from videre.ids import RoomId
from videre.reasons import LeaveReason


class Seats:
    """Takes seats and forgets them.

    A room has a view while this node has or wants seats there, apart from adopted ones.
    """

    def __init__(self, node: Node, notes: Notes) -> None:
        self._node = node
        self._notes = notes

    @contextlib.asynccontextmanager
    async def interest(self, room: RoomId) -> AsyncIterator[View]:
        """Provide a view of a room that lasts at least as long as this context."""
        view = self._node.views.get(room)
        if view is None:
            view = self._node.views[room] = View(room, asyncio.create_task(self._look(room)))
            view.looking.add_done_callback(retrieve)
        view.interest += 1
        try:
            await asyncio.shield(view.looking)
            if self._node.views.get(room) is not view:  # the node was condemned
                raise EngineError("The rooms cannot be reached")
            yield view
        finally:
            view.interest -= 1
            self._drop_if_idle(view)

    async def _look(self, room: RoomId) -> None:
        """Note a room as one where this node may have seats, then subscribe to it."""
        try:
            await self._notes.note(room)
            await self._node.store.subscribe(room)
        except BaseException as error:
            self._node.owe(room)
            known = isinstance(error, EngineError)
            self._node.unsound(error if known else EngineError("messages of a room may be lost"))
            raise

    def _drop_if_idle(self, view: View) -> None:
        """Drop a view if this node neither has nor wants seats in the room."""
        if not view.own and not view.interest and self._node.views.get(view.room) is view:
            self._drop(view)

    def _drop(self, view: View) -> None:
        del self._node.views[view.room]
        view.end()
        self._node.listener.hear(view.room, Dropped())
        self._notes.stop_hearing(view.room)

    @contextlib.contextmanager
    def asked(self, own: OwnSeat, view: View) -> Iterator[None]:
        """Hold a seat while a step requests it; drop the seat if the step fails.

        A PeerError or StoreFull means that the store refused it; after any other error, the outcome
        is unknown.
        """
        self._node.take(own)
        view.own[own.seat] = own
        try:
            yield
        except (PeerError, StoreFull):
            self.disown(own)
            raise
        except BaseException:
            self._node.owe(own.room)
            if own.place and own.seat in self._node.own:  # it was granted
                own.leaving = LeaveReason.ENGINE
            else:
                self.disown(own)
            raise

    def disown(self, own: OwnSeat) -> None:
        """Forget a seat that is gone or another node's."""
        self._node.drop(own)
        if (view := self._node.views.get(own.room)) is not None:
            self._drop_if_idle(view)
        else:
            self._notes.release(own.room)

    def forget_all(self) -> None:
        """Drop all seats, which the other nodes have given up, and close their sessions."""
        node = self._node
        for view in list(node.views.values()):
            node.listener.hear(view.room, Found(()))
            self._drop(view)
        self.end()

    def end(self) -> None:
        """Forget everything, without calling the listener."""
        for view in self._node.views.values():
            view.end()
        self._node.views.clear()
        self._node.drop_all()
        self._node.owed.clear()
