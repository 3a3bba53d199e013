"""The order of each room's messages: which is next, which is missing, which state to believe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from videre.engines.redis.applying import Applying
from videre.engines.redis.doubts import Doubts
from videre.engines.redis.node import Node
from videre.engines.redis.seats import Seats
from videre.engines.redis.store import Message, parse
from videre.engines.redis.view import KNOWN, OVER, STRAYED, UNKNOWN, Answer, View
from videre.errors import EngineError
from videre.ids import RoomId
from videre.reasons import LeaveReason

# Early messages of a room kept until its state is known; that takes a few ms.
MOST_EARLY = 256

# Index of the room's state in the answer to a step, if the answer has one: a step whose node does
# not know the state asks for it.
STATE_AT = {"join": 2, "resume": 4, "restore": 3}


class Following:
    """Follows each room: applies its messages in order, and fills gaps from the log.

    `doubt` is how many seconds the node believes in members that a store with lost data does not
    have.
    """

    def __init__(self, node: Node, seats: Seats, *, doubt: float) -> None:
        self._node = node
        self._seats = seats
        self._apply = Applying(node, seats).apply
        self.doubts = Doubts(node, doubt)
        self.broken_rooms: set[RoomId] = set()  # rooms that lost a key, since last logged

    def heard(self, room: RoomId, message: Message) -> None:
        """Handle a room's message; fill a gap in the numbers before applying it."""
        view = self._node.views.get(room)
        if view is None:
            return
        line, body = message
        number, before = int(line[0]), line[-1]
        if line[1] == "broken":
            self.broken_rooms.add(room)
            self._fetch_soon(view)
            return
        view.heard = max(view.heard, number)
        if line[1] != "state" and number > view.number:
            if view.state is KNOWN and before == str(view.number) and not view.catching:
                self._apply(view, line, body)
            else:
                self._keep_early(view, message)
        if view.told is not None and view.told.number <= view.heard:
            self._believe(view, view.told)

    def _keep_early(self, view: View, message: Message) -> None:
        """Keep a message until its turn."""
        view.early.append(message)
        self.catch_up(view)
        if view.state is UNKNOWN and len(view.early) > MOST_EARLY:
            view.early.clear()  # once a state is believed, the log has what follows it

    async def ask(self, view: View, op: str, take: Callable[[str], Sequence[str]]) -> Any:
        """Take a step; `take` returns its arguments for the known state (View.known_as).

        While the state is unknown, only one of these steps is under way at a time: its answer has
        the state, and the next ones need not ask for it. Raises EngineError.
        """
        async with view.turn_to_ask():
            if view.state is not KNOWN:
                return await self._ask(view, op, take)
        return await self._ask(view, op, take)

    async def _ask(self, view: View, op: str, take: Callable[[str], Sequence[str]]) -> Any:
        breaks = self._node.breaks
        answer = await self._node.step(view.room, op, *take(view.known_as))
        if breaks == self._node.breaks:  # else messages before the state may have been lost
            for state in answer[STATE_AT[op] :]:
                self._tell(view, Answer.of(*state))
        return answer

    def _tell(self, view: View, state: Answer) -> None:
        """Take in a state; it is believed once all messages before it have arrived."""
        if view.state is OVER or (view.state is KNOWN and view.born == state.born):
            return
        if view.told is None or view.told.born != state.born:
            view.told = state
        if view.told.number <= view.heard:
            self._believe(view, view.told)

    def _believe(self, view: View, state: Answer) -> None:
        """Believe a state. Known members it lacks are from before the store lost its data."""
        view.told = None
        if view.born not in ("", state.born):
            self._node.lost += 1
            view.fail(int(state.born or 0) or None)
        if view.state is STRAYED:
            for message in sorted(view.early, key=lambda early: int(early[0][0])):
                if view.number < int(message[0][0]) <= state.number:
                    self._apply(view, *message)
        if view.state is OVER:
            return
        view.believe(state)
        gone = [own for own in view.own.values() if view.lacks(own)]
        lost = view.doubted & {own.user for own in gone}
        view.doubted -= lost
        self._node.listener.hear(view.room, view.find_without(lost))
        for own in gone:
            self._seats.disown(own)
        self.doubts.watch(view)
        early, view.early = view.early, []
        for message in early:
            self.heard(view.room, message)

    def broken(self) -> None:
        """Record that messages may have been lost."""
        self._node.deaf = True
        self._node.breaks += 1
        for view in self._node.views.values():
            view.told = None
            view.fail()
        self._node.trouble.set()

    def catch_up(self, view: View) -> None:
        """Ask the log for what a known room's view lacks."""
        if view.state is KNOWN:
            self._fetch_soon(view)

    def _fetch_soon(self, view: View) -> None:
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
        if view.state is OVER:  # its room may have another view by now, which has heard them
            return
        early, view.early = view.early, []
        if view.states != states:  # a state was heard meanwhile
            answer = ["ok", []]
        elif view.state is STRAYED and answer[0] == "ok":  # another look found the loss meanwhile
            answer = ["lost", answer[1]]
        if answer[0] == "lost":
            # Wait for the state that follows the restoring of the seats. Packets that members sent
            # through a store with lost data are for this node's members too.
            view.become(STRAYED)
            view.early = [*map(parse, answer[1]), *early]
            self._node.owe(view.room)
        elif answer[0] == "trimmed":
            self._make_reconnect(view)
        else:
            for message in [*map(parse, reversed(answer[1])), *early]:
                if message[0][-1] == str(view.number):
                    self._apply(view, *message)
            if view.state is not OVER and early and int(early[-1][0][0]) > view.number:
                self._fetch_soon(view)

    def _make_reconnect(self, view: View) -> None:
        """Make this node's members of a room reconnect: nobody can say what they missed."""
        own = list(view.own.values())
        view.become(UNKNOWN)
        view.doubted.clear()
        self._node.listener.hear(view.room, view.find({}))
        for each in own:
            each.leaving = LeaveReason.ENGINE
            left = (each.user, each.seat, LeaveReason.ENGINE, "")
            self._node.jobs.spawn(self._node.or_later(view.room, "leave", *left))
        self._node.owe(view.room)
