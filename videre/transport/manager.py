"""The manager: all sessions of one prefix, from opening to release."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import sockjs
from aiohttp import web

from videre.reasons import STOPPED, End
from videre.settings import Options
from videre.tally import Tally
from videre.transport.admission import Admission
from videre.transport.holdings import Holdings
from videre.transport.session import Accept, Session, logger
from videre.transport.shared import GOODBYE, Handler, Shared

# Sessions whose backlog is counted in one turn of the loop: about 2 ms.
COUNTED_AT_ONCE = 5_000

# Sessions handled in one turn of the loop: about 10 ms if each is written to, or others hear that
# it leaves.
SWEPT_AT_ONCE = 1000
CLOSED_AT_ONCE = 500
CONFIGURED_AT_ONCE = 1000
FINISHED_AT_ONCE = 250

# Bytes that may wait for clients that do not read, all together. Each has its own limit; but a
# thousand slow ones may take a gigabyte. Above this the largest are closed, at the next sweep.
MAX_BACKLOGS = 256 * 1024 * 1024

# Seconds between checks whether all clients have answered a close.
ANSWERS_LOOKED_AT = 0.01


class Manager(sockjs.SessionManager):  # type: ignore[misc]  # the plugin has no types
    """Keeps sessions, sweeps out dead ones, and closes all at the end: a Keeper.

    `sessions` holds those that a URL names. WebSocket sessions are kept apart, so that no URL
    reaches them. All timeouts are handled in sweeps.
    """

    def __init__(
        self, name: str, app: web.Application, accept: Accept, options: Options, tally: Tally
    ) -> None:
        super().__init__(name, app, accept, options.heartbeat, options.disconnect_delay)
        self.sessions: dict[str, Session] = {}
        self.websockets: set[Session] = set()  # until their connections have gone
        self.tally = tally
        self.shared = Shared(options, tally, accept)
        self.admission = Admission(options, tally)
        self._sweeper: asyncio.TimerHandle | None = None
        self._round: list[Session] = []  # sessions still to sweep
        self._backlogs: Holdings[Session] = Holdings()  # seen in this round
        self._ending: deque[tuple[Session, End]] = deque()  # sessions to finish
        self._held_back = False  # finish none until all are closed
        self._drained: asyncio.Future[None] | None = None  # for drains to wait on

    @property
    def options(self) -> Options:
        """The options last given to `configure`."""
        return self.shared.options

    @property
    def open_sessions(self) -> int:
        """The number of open sessions."""
        return self.admission.open_sessions

    def configure(self, options: Options) -> None:
        """Apply new options; routes and sweep intervals stay as they were.

        Admission limits apply only to new sessions; size and backlog limits apply to open ones too:
        to the first at once, and to the others, if there are many, in the next turns of the loop.
        """
        self.shared.options = options
        self.admission.configure(options)
        sessions = [*self._all()]
        for session in sessions[:CONFIGURED_AT_ONCE]:
            session.configure()
        if rest := sessions[CONFIGURED_AT_ONCE:]:
            self.shared.jobs.spawn(
                _in_slices(rest, CONFIGURED_AT_ONCE, lambda session: session.configure())
            )

    @property
    def backlog(self) -> int:
        """The bytes of all sessions that clients have not read yet. Costs O(sessions)."""
        return sum(session.backlog for session in self._all())

    async def measure_backlog(self) -> int:
        """Return the backlog, counted in slices, so that other tasks can run in between."""
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
        """Yield the handler of each session open now; sessions may come and go meanwhile."""
        for session in [*self.websockets, *self.sessions.values()]:
            if session.handler is not None:
                yield session.handler

    # Sweeps.

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(self.shared.interval, self._sweep)

    def _sweep(self) -> None:
        """Begin a round: sweep all current sessions, in slices, within one interval."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._shed()
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
                    if waiting := session.backlog:
                        self._backlogs.add(session, waiting)
                except Exception:
                    logger.exception("sweeping a session failed")
        del self._round[-SWEPT_AT_ONCE:]

    def _shed(self) -> None:
        """Close the largest slow consumers if the last round has seen too much waiting."""
        backlogs, self._backlogs = self._backlogs, Holdings()
        limit = self.options.max_backlog_bytes
        if limit is not None and (excess := backlogs.total - max(MAX_BACKLOGS, 2 * limit)) > 0:
            for session in backlogs.heaviest(excess):
                session.close_slow()

    def _all(self) -> Iterator[Session]:
        yield from self.websockets
        yield from self.sessions.values()

    # The end.

    async def drained(self, seconds: float) -> None:
        """Wait until no session is open, at most `seconds`; several may wait at a time."""
        if not self.open_sessions:
            return
        if self._drained is None or self._drained.done():
            self._drained = asyncio.get_running_loop().create_future()
        await asyncio.wait((self._drained,), timeout=max(0.0, seconds))

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
        """Close every session with a code and wait for the clients' answers, at most GOODBYE s.

        All are closed before the first end is handled, so no client hears that the others leave.
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
            await asyncio.sleep(ANSWERS_LOOKED_AT)  # cheaper than a notification for each session
        await self._in_slices(CLOSED_AT_ONCE, lambda session: session.cut())

    def _heard(self) -> bool:
        """Tell whether any session still has a connection."""
        return bool(self._ending) or any(session.is_receiving for session in self._all())

    async def _in_slices(self, size: int, do: Callable[[Session], object]) -> None:
        """Apply `do` to every current session, `size` in one turn of the loop."""
        await _in_slices([*self._all()], size, do)

    async def stop(self, _app: web.Application | None = None) -> None:
        """End all sessions and jobs; `shutdown` has sent the close frames."""
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


async def _in_slices(
    sessions: Sequence[Session], size: int, do: Callable[[Session], object]
) -> None:
    for number, session in enumerate(sessions, 1):
        do(session)
        if number % size == 0:
            await asyncio.sleep(0)
