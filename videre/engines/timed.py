"""An engine wrapper that times steps and counts failures."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

from videre.engines import Engine, Listener, Resumption
from videre.engines.events import Announcement, Event, Sent
from videre.errors import EngineError, PeerError
from videre.settings import JoinPolicy
from videre.tally import RelayTimer, Tally

Found = TypeVar("Found")


class TimedEngine:
    """Wraps `engine`, and reports to a tally how long each step took, or that it failed.

    An answered step counts even if the answer is a refusal; a failed step has no time.
    """

    def __init__(self, engine: Engine, tally: Tally) -> None:
        self._engine = engine
        self._tally = tally
        self.in_process = engine.in_process
        self._is_store = not engine.in_process
        #: Publishes without timing where possible. A step done at once takes no longer than reading
        #: a clock; one that goes to a store is always timed.
        self.publish_quickly = self.publish if self._is_store else engine.publish

    @property
    def ready(self) -> bool:
        """See Engine.ready."""
        return self._engine.ready

    @property
    def fault(self) -> str:
        """See Engine.fault."""
        return self._engine.fault

    async def start(self, listener: Listener) -> None:
        """See Engine.start."""
        await self._engine.start(
            _Hearing(listener, self._tally.relays) if self._is_store else listener
        )

    async def close(self) -> None:
        """See Engine.close."""
        await self._engine.close()

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
        step = self._engine.join(room, user, seat, announcement, policy, ticket)
        await self._answered("join", self._tally.clock(), step)

    async def renew(self, room: str, user: str, seat: str, to: str, ticket: str) -> None:
        """See Engine.renew."""
        step = self._engine.renew(room, user, seat, to, ticket)
        await self._answered("renew", self._tally.clock(), step)

    def lose(self, room: str, user: str, seat: str) -> None:
        """See Engine.lose."""
        self._time("lose", lambda: self._engine.lose(room, user, seat))

    async def resume(
        self, room: str, user: str, to: str, shown: str, ticket: str, received: int
    ) -> Resumption:
        """See Engine.resume."""
        step = self._engine.resume(room, user, to, shown, ticket, received)
        return await self._answered("resume", self._tally.clock(), step)

    def leave(
        self, room: str, user: str, seat: str | None, reason: str, code: int | None = None
    ) -> Awaitable[None] | None:
        """See Engine.leave."""
        return self._time("leave", lambda: self._engine.leave(room, user, seat, reason, code))

    def publish(
        self, room: str, seat: str, text: str, to: Sequence[str] | None = None, packet_id: str = ""
    ) -> Awaitable[None] | None:
        """See Engine.publish."""
        return self._time("publish", lambda: self._engine.publish(room, seat, text, to, packet_id))

    def relay(
        self, room: str, seat: str, text: str, to: Sequence[str] | None, packet_id: str
    ) -> Awaitable[None] | None:
        """Publish a newly arrived packet, timed until all members have it (see RelayTimer)."""
        relays = self._tally.relays
        if self._is_store:
            relays.set_out(seat, text)
        pending = self.publish(room, seat, text, to, packet_id)
        if pending is not None:
            return self._relayed(seat, text, pending)
        relays.written += 1
        return None

    async def _relayed(self, seat: str, text: str, pending: Awaitable[None]) -> None:
        try:
            await pending
        except BaseException:
            self._tally.relays.give_up(seat, text)
            raise

    async def members(self, room: str) -> list[str]:
        """See Engine.members."""
        return await self._answered("members", self._tally.clock(), self._engine.members(room))

    async def rooms(self, after: str | None, limit: int) -> list[str]:
        """See Engine.rooms."""
        step = self._engine.rooms(after, limit)
        return await self._answered("rooms", self._tally.clock(), step)

    def _time(self, step: str, take: Callable[[], Found]) -> Found:
        began = self._tally.clock()
        try:
            found = take()
        except EngineError:
            self._tally.failures[step] += 1
            raise
        except PeerError:
            self._note(step, began)
            raise
        if isinstance(found, Awaitable):
            return cast("Found", self._answered(step, began, found))
        self._note(step, began)
        return found

    async def _answered(self, step: str, began: float, pending: Awaitable[Found]) -> Found:
        try:
            found = await pending
        except EngineError:
            self._tally.failures[step] += 1
            raise
        except PeerError:
            self._note(step, began)
            raise
        self._note(step, began)
        return found

    def _note(self, step: str, began: float) -> None:
        self._tally.steps[step].observe(self._tally.clock() - began)


class _Hearing:
    """A listener that also ends the timing of a broadcast once it is delivered."""

    def __init__(self, listener: Listener, relays: RelayTimer) -> None:
        self._hear = listener.hear
        self._relays = relays

    def hear(self, room: str, event: Event) -> None:
        self._hear(room, event)
        if self._relays.under_way and isinstance(event, Sent):
            self._relays.reached(event.seat, event.text)
