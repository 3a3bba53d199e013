"""Steps whose answer includes the room's state if the node does not know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from videre.engines.redis.node import Node
from videre.engines.redis.view import Answer, View

# Index of the room's state in the answer to a step, if the answer has one.
STATE_AT = {"join": 2, "resume": 4, "restore": 2}


class Asking:
    """Takes such steps. `believe` is called with a view and a state that is due."""

    def __init__(self, node: Node, believe: Callable[[View, Answer], None]) -> None:
        self._node = node
        self._believe = believe

    async def ask(self, view: View, op: str, take: Callable[[str], Sequence[str]]) -> Any:
        """Take a step; `take` returns its arguments for the known state (View.known_as).

        While the state is unknown, steps ask one at a time: what the others hear follows the state.
        Raises EngineError.
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
                self._tell(view, Answer.of(*state))
        return answer

    def _tell(self, view: View, state: Answer) -> None:
        """Take in a state; it is believed once all messages before it have arrived."""
        if view.over or (view.known and view.born == state.born):
            return
        if view.told is None or view.told.born != state.born:
            view.told = state
        if view.told.number <= view.heard:
            self._believe(view, view.told)
