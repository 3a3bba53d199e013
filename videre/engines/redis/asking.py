"""Steps that are answered with a room's state, where the node does not know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from videre.engines.redis.node import Node
from videre.engines.redis.view import State, View

# Where in the answer to a step the room's state stands, if it does.
STATE_AT = {"join": 2, "resume": 4, "restore": 2}


class Asking:
    """Takes such steps. `believe` is called with a view, and a state whose time has come."""

    def __init__(self, node: Node, believe: Callable[[View, State], None]) -> None:
        self._node = node
        self._believe = believe

    async def ask(self, view: View, op: str, take: Callable[[str], Sequence[str]]) -> Any:
        """Take a step; `take` returns its arguments, for what is known (View.known_as).

        While the state is not known one at a time asks: what the others are told of comes after
        it. Raises EngineError.
        """
        async with view.turn_to_ask():
            if not view.known:
                return await self._ask(view, op, take)
        return await self._ask(view, op, take)

    async def _ask(self, view: View, op: str, take: Callable[[str], Sequence[str]]) -> Any:
        breaks = self._node.breaks
        answer = await self._node.step(view.room, op, *take(view.known_as))
        if breaks == self._node.breaks:  # else messages before the state may have been lost
            for state in answer[STATE_AT[op] :]:
                self._tell(view, State.of(*state))
        return answer

    def _tell(self, view: View, state: State) -> None:
        """Take in a state: it is believed when all messages before it have come."""
        if view.over or (view.known and view.born == state.born):
            return
        if view.told is None or view.told.born != state.born:
            view.told = state
        if view.told.number <= view.heard:
            self._believe(view, view.told)
