"""The manager: the sessions of one prefix, from their opening to their being forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator

import sockjs
from aiohttp import web

from videre.reasons import STOPPED, End
from videre.settings import Options
from videre.tally import Tally
from videre.transport.admission import Admission
from videre.transport.session import Accept, Session, logger
from videre.transport.shared import GOODBYE, Handler, Shared

# Sessions whose backlog is counted in one turn of the loop: some 2 ms.
COUNTED_AT_ONCE = 5_000

# Sessions that one turn of the loop deals with: some 10 ms where each of them is written to, or has
# others hear that it leaves.
SWEPT_AT_ONCE = 1000
CLOSED_AT_ONCE = 500
FINISHED_AT_ONCE = 250

# Seconds between two looks at whether all clients have answered a close.
ANSWERS_LOOKED_AT = 0.01


class Manager(sockjs.SessionManager):  # type: ignore[misc]  # the plugin has no types
    """Keeps sessions, looks for dead ones, and closes all of them in the end: a Keeper.

    `sessions` are those that a URL names; WebSocket sessions are no part of it, so that no URL
    reaches them. What has to happen after a time happens in sweeps.
    """

    def __init__(
        self, name: str, app: web.Application, accept: Accept, options: Options, tally: Tally
    ) -> None:
        super().__init__(name, app, accept, options.heartbeat, options.disconnect_delay)
        self.sessions: dict[str, Session] = {}
        self.websockets: set[Session] = set()  # until their connections are gone
        self.tally = tally
        self.shared = Shared(options, tally, accept)
        self.admission = Admission(options, tally)
        self._sweeper: asyncio.TimerHandle | None = None
        self._round: list[Session] = []  # those that are still to be swept
        self._ending: deque[tuple[Session, End]] = deque()  # those that are to be finished
        self._held_back = False  # whether none is finished, until all are closed
        self._drained: asyncio.Future[None] | None = None  # a drain waits for the last session

    @property
    def options(self) -> Options:
        """What `configure` was given last."""
        return self.shared.options

    @property
    def open_sessions(self) -> int:
        """How many sessions are open."""
        return self.admission.open_sessions

    def configure(self, options: Options) -> None:
        """Go by other options from now on: what makes the routes and the sweeps stays as it was.

        Size and backlog limits apply to open sessions at once; admission limits only to new ones.
        """
        self.shared.options = options
        self.admission.configure(options)

    @property
    def backlog(self) -> int:
        """The bytes that wait for clients to read them, of all sessions. Costs O(sessions)."""
        return sum(session.backlog for session in self._all())

    async def measure_backlog(self) -> int:
        """Return the backlog, found in slices: others have their turns meanwhile."""
        total, sessions = 0, [*self.websockets, *self.sessions.values()]
        for start in range(0, len(sessions), COUNTED_AT_ONCE):
            total += sum(each.backlog for each in sessions[start : start + COUNTED_AT_ONCE])
            await asyncio.sleep(0)
        return total

    # For sessions: see session.Keeper.

    def opened(self, session: Session) -> None:
        """See Keeper.opened."""
        if session.id:
            self.sessions[session.id] = session
        else:
            self.websockets.add(session)
        self.tally.opened[session.transport] += 1
        self.admission.opened(session.address)
        if self._sweeper is None:
            self._sweep_later()

    def detached(self, session: Session, end: End) -> None:
        """See Keeper.detached: sessions are finished in slices."""
        self._ending.append((session, end))
        if len(self._ending) == 1 and not self._held_back:
            asyncio.get_running_loop().call_soon(self._finish_some)

    def ended(self, session: Session) -> None:
        """See Keeper.ended."""
        self.tally.ended[session.transport] += 1
        self.admission.ended(session.address)
        if self._drained is not None and not self.open_sessions and not self._drained.done():
            self._drained.set_result(None)

    def released(self, session: Session) -> None:
        """See Keeper.released."""
        if session.id:
            self.sessions.pop(session.id, None)
        else:
            self.websockets.discard(session)

    def handlers(self) -> Iterator[Handler]:
        """Yield the handler of each session that is open now; others may come and go meanwhile."""
        for session in [*self.websockets, *self.sessions.values()]:
            if session.handler is not None:
                yield session.handler

    # Sweeps.

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(self.shared.interval, self._sweep)

    def _sweep(self) -> None:
        """Begin a round: all sessions that there are now, in slices, within one interval."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._round = list(self._all())
        slices = max(1, math.ceil(len(self._round) / SWEPT_AT_ONCE))
        self._sweep_slice(self.shared.interval / slices)

    def _sweep_slice(self, pause: float) -> None:
        loop = asyncio.get_running_loop()
        more = len(self._round) > SWEPT_AT_ONCE
        self._sweeper = loop.call_later(
            pause, *((self._sweep_slice, pause) if more else (self._sweep,))
        )
        for session in self._round[-SWEPT_AT_ONCE:]:
            if session in self.websockets or self.sessions.get(session.id) is session:
                try:
                    session.sweep()
                except Exception:
                    logger.exception("sweeping a session failed")
        del self._round[-SWEPT_AT_ONCE:]

    def _all(self) -> Iterator[Session]:
        yield from self.websockets
        yield from self.sessions.values()

    # The end.

    async def drained(self, seconds: float) -> None:
        """Return when no session is open any more, or after so many seconds."""
        if not self.open_sessions:
            return
        self._drained = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained, seconds)

    def _finish_some(self) -> None:
        if self._held_back:
            return
        for _ in range(min(FINISHED_AT_ONCE, len(self._ending))):
            session, end = self._ending[0]
            session.finish(end)
            self._ending.popleft()
        if self._ending:
            asyncio.get_running_loop().call_soon(self._finish_some)

    async def shutdown(self, code: int, reason: str) -> None:
        """Close every session with a code and wait for the clients' answers, GOODBYE s at most.

        Nobody is told that others leave: all are closed before the first one's end is noticed.
        """
        self.admission.close()
        self._held_back = True
        try:
            await self._in_slices(CLOSED_AT_ONCE, lambda session: session.close(code, reason))
        finally:
            self._held_back = False
            self._finish_some()
        end = asyncio.get_running_loop().time() + GOODBYE
        while asyncio.get_running_loop().time() < end and self._heard():  # noqa: ASYNC110
            await asyncio.sleep(ANSWERS_LOOKED_AT)  # cheaper than each being told
        await self._in_slices(CLOSED_AT_ONCE, lambda session: session.cut())

    def _heard(self) -> bool:
        """Tell whether the connection of any session is still there."""
        return bool(self._ending) or any(session.is_receiving for session in self._all())

    async def _in_slices(self, size: int, do: Callable[[Session], object]) -> None:
        """Do something with every session that there is now, others having their turn meanwhile."""
        for number, session in enumerate(list(self._all()), 1):
            do(session)
            if number % size == 0:
                await asyncio.sleep(0)

    async def stop(self, _app: web.Application | None = None) -> None:
        """Let go of everything; `shutdown` has said the goodbyes."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        await self._in_slices(FINISHED_AT_ONCE, _stop)
        self.sessions.clear()
        await self.shared.jobs.wait(GOODBYE)
        await self.shared.jobs.end()


def _stop(session: Session) -> None:
    session.finish(STOPPED)
    session.cut()
