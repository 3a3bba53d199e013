"""The seats of one node, and the messages of the rooms that they are in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from videre.engines import REPLACED
from videre.engines.events import Dropped, Found, Joined, Left, Moved
from videre.engines.redis.asking import Asking
from videre.engines.redis.doubts import Doubts
from videre.engines.redis.faults import retrieve
from videre.engines.redis.messages import NODE_LOST, event_of
from videre.engines.redis.node import Node, logger
from videre.engines.redis.notes import Notes
from videre.engines.redis.store import Message, parse
from videre.engines.redis.view import Answer, OwnSeat, Position, View
from videre.errors import CloseCode, EngineError, PeerError
from videre.ids import RoomId, SeatId, UserId
from videre.reasons import LeaveReason

# Early messages of a room kept until its state is known; that takes a few ms.
MOST_EARLY = 256


class Seats:
    """Applies the messages of each room, in order, and calls the listener.

    `doubt` is how many seconds the node believes in members that a store with lost data does not
    have; `grace` how many it keeps a lost seat.
    """

    def __init__(self, node: Node, notes: Notes, *, doubt: float, grace: float) -> None:
        self._node = node
        self._notes = notes
        self.doubts = Doubts(node, doubt)
        self._grace = grace
        self._graces: dict[SeatId, asyncio.TimerHandle] = {}  # by seat
        self.ask = Asking(node, self._believe).ask

    # Seats.

    def lose(self, room: RoomId, user: UserId, seat: SeatId) -> None:
        """See Engine.lose. The store knows lost seats by their tickets alone."""
        own = self._node.own.get(seat)
        if own is None or (own.room, own.user) != (room, user) or own.ticket is None:
            return
        self.begin_grace(own)

    async def leave(
        self, room: RoomId, user: UserId, seat: SeatId | None, reason: str, code: int | None = None
    ) -> None:
        """See Engine.leave. An outage of the store only delays it."""
        own = None if seat is None else self._node.own.get(seat)
        if own is not None:
            own.leaving = True
        elif seat is None:
            self._node.require()
        told = "" if code is None else str(int(code))
        answer = await self._node.or_later(room, "leave", user, seat or "", reason, told)
        if answer is None:
            return
        view = self._node.views.get(room)
        if own is not None and (view is None or own.seat not in view.own):
            self.disown(own)  # it was adopted: no message may report its end
        elif answer[0] == "ok" and view is not None:
            with contextlib.suppress(EngineError):  # it is done, even if its message is lost
                await view.reached(int(answer[1]))
        elif own is not None and view is not None and view.known:
            self._catch_up(view)  # either a message reports its end, or the store has lost the room

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
            self.drop_if_idle(view)

    async def _look(self, room: RoomId) -> None:
        """Note a room as one where this node may have seats, then subscribe to it."""
        try:
            await self._notes.note(room)
            await self._node.store.subscribe(room)
        except BaseException as error:
            self._node.owe(room)
            known = isinstance(error, EngineError)
            self._node.unsound(error if known else EngineError("a room may not be heard"))
            raise

    def drop_if_idle(self, view: View) -> None:
        """Drop a view if this node neither has nor wants seats in the room."""
        if not view.own and not view.interest and self._node.views.get(view.room) is view:
            self._drop(view)

    def _drop(self, view: View) -> None:
        del self._node.views[view.room]
        view.end()
        self._node.listener.hear(view.room, Dropped())
        self._notes.stop_hearing(view.room)

    def disown(self, own: OwnSeat) -> None:
        """Forget a seat that is gone or another node's."""
        self._node.drop(own)
        if (timer := self._graces.pop(own.seat, None)) is not None:
            timer.cancel()
        if (view := self._node.views.get(own.room)) is not None:
            self.drop_if_idle(view)
        else:
            self._notes.release(own.room)

    @contextlib.contextmanager
    def asked(self, own: OwnSeat) -> Iterator[None]:
        """Hold a seat while a step requests it; drop the seat if the step fails.

        A PeerError means that the store refused it; after any other error, the outcome is unknown.
        """
        self._node.take(own)
        try:
            yield
        except PeerError:
            self.disown(own)
            raise
        except BaseException:
            self._node.owe(own.room)
            if own.place and own.seat in self._node.own:  # it was granted
                own.leaving = True
            else:
                self.disown(own)
            raise

    def begin_grace(self, own: OwnSeat) -> None:
        """Start the grace of a seat, after which it is given up."""
        if own.seat not in self._graces:
            loop = asyncio.get_running_loop()
            self._graces[own.seat] = loop.call_later(self._grace, self._grace_over, own)

    def _grace_over(self, own: OwnSeat) -> None:
        self._graces.pop(own.seat, None)
        self._node.jobs.spawn(self.leave(own.room, own.user, own.seat, LeaveReason.GRACE_OVER))

    def forget_all(self) -> None:
        """Drop all seats, which the other nodes have given up, and close their sessions."""
        node = self._node
        for view in list(node.views.values()):
            node.listener.hear(view.room, Found(()))
            self._drop(view)
        self.end()

    def end(self) -> None:
        """Forget everything, without calling the listener."""
        for timer in self._graces.values():
            timer.cancel()
        self._graces.clear()
        for view in self._node.views.values():
            view.end()
        self._node.views.clear()
        self._node.drop_all()
        self._node.owed.clear()

    # Messages.

    def heard(self, room: RoomId, message: Message) -> None:
        """Handle a room's message; fill a gap in the numbers before applying it."""
        view = self._node.views.get(room)
        if view is None:
            return
        line, body = message
        number, before = int(line[0]), line[-1]
        if line[1] == "broken":
            logger.error(
                "the store has lost a key of a room, evicted or deleted: its seats are restored"
            )
            self._catch_up(view)
            return
        view.heard = max(view.heard, number)
        if line[1] != "state" and number > view.number:
            if view.known and before == str(view.number) and not view.catching:
                self._apply(view, line, body)
            else:
                self._keep_early(view, message)
        if view.told is not None and view.told.number <= view.heard:
            self._believe(view, view.told)

    def _keep_early(self, view: View, message: Message) -> None:
        """Keep a message until its turn."""
        view.early.append(message)
        if view.known:
            self._catch_up(view)
        elif not view.strayed and len(view.early) > MOST_EARLY:
            view.early.clear()  # once a state is believed, the log has what follows it

    def _believe(self, view: View, state: Answer) -> None:
        """Believe a state. Known members it lacks are from before the store lost its data."""
        view.told = None
        if view.born not in ("", state.born):
            self._node.lost += 1
            view.fail(int(state.born or 0) or None)
        if view.strayed:
            for message in sorted(view.early, key=lambda early: int(early[0][0])):
                if view.number < int(message[0][0]) <= state.number and not view.over:
                    self._apply(view, *message)
            if view.over:
                return
        view.become(state)
        gone = [own for own in view.own.values() if view.lacks(own)]
        lost = view.doubted & {own.user for own in gone}
        view.doubted -= lost
        self._node.listener.hear(view.room, view.find_without(lost))
        for own in gone:
            self.disown(own)
        self.doubts.watch(view)
        early, view.early = view.early, []
        for message in early:
            self.heard(view.room, message)

    def _apply(self, view: View, line: list[Any], body: str) -> None:
        """Apply a message, and call the listener."""
        listener, kind = self._node.listener, line[1]
        view.number = int(line[0])
        if kind == "restored":
            self._restored(view, line)
        else:
            event = event_of(line, body)
            if isinstance(event, Joined):
                self._replaced(view, event.user)
                view.follow(event, line[4], float(line[5]))
            elif isinstance(event, Left):
                event.heir = view.state.heir(event.user)  # of the believed members
                view.follow(event)
            elif isinstance(event, Moved):
                view.follow(event, line[5])
            listener.hear(view.room, event)
            if view.doubted and isinstance(event, Joined):  # they may have later places
                listener.hear(view.room, view.find(view.state.members))
        view.advance()
        if kind in ("left", "moved") and (own := self._node.own.get(line[3])) is not None:
            self.disown(own)
            if line[4] == NODE_LOST or line[6] == CloseCode.ENGINE_UNAVAILABLE:
                # Take no more steps.
                self._node.unsound(EngineError("the other nodes gave up this node"))

    def _restored(self, view: View, line: list[Any]) -> None:
        seats = {user: seat for user, seat, _ in line[3]}
        for user, seat, number in line[3]:
            view.place(user, seat, Position(line[2], float(number)))
        view.doubted -= seats.keys()
        self._node.listener.hear(view.room, view.find(view.state.members | seats))
        for user, seat in seats.items():
            self._superseded(view, user, seat)

    def _superseded(self, view: View, user: UserId, seat: SeatId) -> None:
        """Forget older seats of a user here; their sessions were closed for the new one."""
        for own in [each for each in view.own.values() if each.user == user and each.place]:
            if own.seat != seat:
                self._node.owe(view.room)  # the store may have it by now
                self.disown(own)

    def _replaced(self, view: View, user: UserId) -> None:
        """Give up a seat that the store no longer has, when its user joins again."""
        if (seat := view.state.members.get(user)) is None:
            return
        left = Left(user, seat, *REPLACED, heir=view.state.heir(user))
        view.follow(left)
        view.doubted.discard(user)
        self._node.listener.hear(view.room, left)
        if (own := self._node.own.get(seat)) is not None:
            self.disown(own)

    def broken(self) -> None:
        """Record that messages may have been lost."""
        self._node.deaf = True
        self._node.breaks += 1
        for view in self._node.views.values():
            view.told = None
            view.fail()
        self._node.trouble.set()

    def _catch_up(self, view: View) -> None:
        if not view.catching:
            view.catching = True
            self._node.jobs.spawn(self.fetch(view))

    async def fetch(self, view: View) -> None:
        """Fetch and apply the missed messages."""
        view.catching, states = True, view.states
        try:
            answer = await self._node.step(view.room, "since", str(view.number), view.born)
        except EngineError:
            self._node.owed.add(view.room)  # it may not even have been tried
            self._node.trouble.set()
            raise
        finally:
            view.catching = False
        if view.over:  # its room may have another view by now, which has heard them
            return
        early, view.early = view.early, []
        if view.states != states:  # a state was heard meanwhile
            answer = ["ok", []]
        elif view.strayed and answer[0] == "ok":  # another look found the loss meanwhile
            answer = ["lost", answer[1]]
        if answer[0] == "lost":
            # Wait for the state that follows the restoring of the seats. Packets that members sent
            # through a store with lost data are for this node's members too.
            view.known, view.strayed = False, True
            view.early = [*map(parse, answer[1]), *early]
            self._node.owe(view.room)
        elif answer[0] == "trimmed":
            self._come_anew(view)
        else:
            for message in [*map(parse, reversed(answer[1])), *early]:
                if message[0][-1] == str(view.number):
                    self._apply(view, *message)
            if early and int(early[-1][0][0]) > view.number:
                self._catch_up(view)

    def _come_anew(self, view: View) -> None:
        """Make this node's members of a room reconnect: nobody can say what they missed."""
        own = list(view.own.values())
        view.known = False
        view.doubted.clear()
        self._node.listener.hear(view.room, view.find({}))
        for each in own:
            each.leaving = True
            self._node.jobs.spawn(self.leave(view.room, each.user, each.seat, LeaveReason.ENGINE))
        self._node.owe(view.room)
