"""The memory engine, as one that works elsewhere: it answers later, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from videre.engines import Announcement, Listener, Resumption
from videre.engines.memory import MemoryEngine
from videre.errors import EngineError
from videre.settings import JoinPolicy


class LaterEngine:
    """Every method returns an awaitable, which works one turn after it was first waited for.

    While `down`, the methods in `down_for` fail: as they are called, or from the awaitable.
    """

    def __init__(self, **settings: Any) -> None:
        self._memory = MemoryEngine(**settings)
        self.down: Literal["at once", "later"] | None = None
        self.down_for = {"join", "leave", "publish", "members"}

    @property
    def ready(self) -> bool:
        """See Engine.ready."""
        return self.down is None

    @property
    def fault(self) -> str:
        """See Engine.fault."""
        return ""

    def start(self, listener: Listener) -> Awaitable[None]:
        """See Engine.start."""
        return self._later(self._memory.start, listener)

    def join(
        self,
        room: str,
        user: str,
        seat: str,
        announcement: Announcement,
        policy: JoinPolicy,
        ticket: str | None = None,
    ) -> Awaitable[None]:
        """See Engine.join."""
        return self._later(self._memory.join, room, user, seat, announcement, policy, ticket)

    def renew(self, room: str, user: str, seat: str, to: str, ticket: str) -> Awaitable[None]:
        """See Engine.renew."""
        return self._later(self._memory.renew, room, user, seat, to, ticket)

    def lose(self, room: str, user: str, seat: str, seen: int | None) -> Awaitable[None]:
        """See Engine.lose."""
        return self._later(self._memory.lose, room, user, seat, seen)

    def resume(
        self, room: str, user: str, to: str, shown: str, ticket: str, received: int | None
    ) -> Awaitable[Resumption]:
        """See Engine.resume."""
        return self._later(self._memory.resume, room, user, to, shown, ticket, received)

    def leave(
        self, room: str, user: str, seat: str | None, reason: str, code: int | None = None
    ) -> Awaitable[None]:
        """See Engine.leave."""
        return self._later(self._memory.leave, room, user, seat, reason, code)

    def publish(
        self, room: str, seat: str, text: str, to: Sequence[str] | None = None, packet_id: str = ""
    ) -> Awaitable[None]:
        """See Engine.publish."""
        return self._later(self._memory.publish, room, seat, text, to, packet_id)

    def members(self, room: str) -> Awaitable[list[str]]:
        """See Engine.members."""
        return self._later(self._memory.members, room)

    def rooms(self, after: str | None, limit: int) -> Awaitable[list[str]]:
        """See Engine.rooms."""
        return self._later(self._memory.rooms, after, limit)

    def close(self) -> Awaitable[None]:
        """See Engine.close."""
        return self._later(self._memory.close)

    def _later(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Awaitable[Any]:
        self._check("at once", method.__name__)
        return self._work(method, arguments, named)

    async def _work(self, method: Callable[..., Any], arguments: Any, named: Any) -> Any:
        await asyncio.sleep(0)  # one turn, needs no loop
        self._check("later", method.__name__)
        return method(*arguments, **named)

    def _check(self, when: str, method: str) -> None:
        if self.down == when and method in self.down_for:
            raise EngineError("The engine is down")
