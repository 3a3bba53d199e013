"""The memory engine as if it were remote: it answers later, or not at all."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from videre.engines import Listener, Resumption
from videre.engines.events import Announcement
from videre.engines.memory import MemoryEngine
from videre.engines.nodes import Seen
from videre.errors import EngineError
from videre.settings import JoinPolicy


class LaterEngine:
    """Every method works one turn after it is first awaited.

    While `down`, the methods in `down_for` fail: at their start, a turn later, or afterwards.
    """

    in_process = False

    def __init__(self, **settings: Any) -> None:
        self._memory = MemoryEngine(**settings)
        self.down: Literal["at once", "later", "when done"] | None = None
        self.down_for = {"join", "leave", "remove", "publish", "members"}

    @property
    def fault(self) -> str:
        """See Engine.fault."""
        return "down" if self.down else ""

    async def start(self, listener: Listener) -> None:
        """See Engine.start."""
        await self._work(self._memory.start, listener)

    async def join(
        self,
        room: str,
        user: str,
        seat: str,
        announcement: Announcement,
        policy: JoinPolicy,
        ticket: str | None = None,
    ) -> None:
        """See Engine.join."""
        await self._work(self._memory.join, room, user, seat, announcement, policy, ticket)

    async def renew(self, room: str, user: str, seat: str, to: str, ticket: str) -> None:
        """See Engine.renew."""
        await self._work(self._memory.renew, room, user, seat, to, ticket)

    def lose(self, room: str, user: str, seat: str) -> None:
        """See Engine.lose."""
        self._memory.lose(room, user, seat)

    async def resume(
        self, room: str, user: str, to: str, shown: str, ticket: str, received: int
    ) -> Resumption:
        """See Engine.resume."""
        step = self._memory.resume
        found: Resumption = await self._work(step, room, user, to, shown, ticket, received)
        return found

    async def leave(self, room: str, user: str, seat: str, reason: str) -> None:
        """See Engine.leave."""
        await self._work(self._memory.leave, room, user, seat, reason)

    async def remove(self, room: str, user: str, words: str) -> bool:
        """See Engine.remove."""
        removed: bool = await self._work(self._memory.remove, room, user, words)
        return removed

    def publish(
        self, room: str, seat: str, text: str, to: Sequence[str] | None = None, packet_id: str = ""
    ) -> Awaitable[None]:
        """See Engine.publish."""
        self._check("at once", "publish")
        return self._end(self._memory.publish, (room, seat, text, to, packet_id))

    async def members(self, room: str) -> list[str]:
        """See Engine.members."""
        found: list[str] = await self._work(self._memory.members, room)
        return found

    async def rooms(self, after: str | None, limit: int) -> list[str]:
        """See Engine.rooms."""
        found: list[str] = await self._work(self._memory.rooms, after, limit)
        return found

    def nodes(self) -> list[Seen]:
        """See Engine.nodes."""
        return self._memory.nodes()

    async def close(self) -> None:
        """See Engine.close."""
        await self._work(self._memory.close)

    async def _work(self, method: Callable[..., Any], *arguments: Any) -> Any:
        self._check("at once", method.__name__)
        return await self._end(method, arguments)

    async def _end(self, method: Callable[..., Any], arguments: Any) -> Any:
        await asyncio.sleep(0)  # one turn, needs no loop
        self._check("later", method.__name__)
        result = method(*arguments)
        if inspect.isawaitable(result):
            result = await result
        self._check("when done", method.__name__)
        return result

    def _check(self, when: str, method: str) -> None:
        if self.down == when and method in self.down_for:
            raise EngineError("The engine is down")
