"""What a message of a room changes: the view, this node's seats, what the listener hears."""

from __future__ import annotations

from typing import Any

from videre.engines import REPLACED
from videre.engines.events import Joined, Left, Moved
from videre.engines.redis.messages import NODE_LOST, event_of
from videre.engines.redis.node import Node
from videre.engines.redis.seats import Seats
from videre.engines.redis.view import OVER, Position, View
from videre.errors import CloseCode, EngineError
from videre.ids import SeatId, UserId


class Applying:
    """Applies the messages of rooms, whose order is Following's concern."""

    def __init__(self, node: Node, seats: Seats) -> None:
        self._node = node
        self._seats = seats

    def apply(self, view: View, line: list[Any], body: str) -> None:
        """Apply a message, and call the listener; do nothing in a view that is over."""
        if view.state is OVER:
            return  # its last seat here went with an earlier message
        listener, kind = self._node.listener, line[1]
        view.number = int(line[0])
        gone: SeatId | None = None
        if kind == "restored":
            self._restored(view, line)
        else:
            event = event_of(line, body)
            if isinstance(event, Joined):
                gone = self._replaced(view, event.user)
                view.follow(event, line[4], float(line[5]))
            elif isinstance(event, Left):
                gone = event.seat
                self._inherit(view, event)
                view.follow(event)
            elif isinstance(event, Moved):
                gone = event.seat
                view.follow(event, line[5])
            listener.hear(view.room, event)
            if view.doubted and isinstance(event, Joined):  # doubted ones may have later places
                listener.hear(view.room, view.find(view.believed.members))
        view.advance()
        if gone is not None and (own := self._node.own.get(gone)) is not None:
            self._seats.disown(own)  # last, because it may end the view
            code = CloseCode.ENGINE_UNAVAILABLE
            if line[4:6] == [NODE_LOST, code] or line[6] == code:  # left, or moved by a burial
                # Take no more steps.
                self._node.unsound(EngineError("the other nodes declared this node dead"))

    def _inherit(self, view: View, event: Left) -> None:
        """Let the first of the believed members inherit, who may be a doubted one."""
        heir = view.believed.heir(event.user)
        if heir != event.heir:
            self._node.owe_counts(view)
        event.heir = heir

    def _restored(self, view: View, line: list[Any]) -> None:
        seats = {user: seat for user, seat, _ in line[3]}
        if not all(view.believed.holds(user, seat) for user, seat in seats.items()):
            self._node.owe_counts(view)  # of members that had been given up
        for user, seat, number in line[3]:
            view.place(user, seat, Position(line[2], float(number)))
        view.doubted -= seats.keys()
        self._node.listener.hear(view.room, view.find(view.believed.members | seats))
        # Older seats of these users here: their sessions were closed for the new ones.
        held = [own for own in view.own.values() if own.place]
        for own in [own for own in held if seats.get(own.user, own.seat) != own.seat]:
            self._node.owe(view.room)  # the store may have it by now
            self._seats.disown(own)

    def _replaced(self, view: View, user: UserId) -> SeatId | None:
        """Give up a seat that the store no longer has, when its user joins again; return it."""
        if (seat := view.believed.members.get(user)) is None:
            return None
        left = Left(user, seat, *REPLACED, heir=view.believed.heir(user))
        view.follow(left)
        view.doubted.discard(user)
        self._node.listener.hear(view.room, left)
        self._node.owe_counts(view)
        return seat
