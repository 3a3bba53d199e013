"""The manager: the sessions of one prefix, from their opening to their being forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import sockjs
from aiohttp import web

from videre.limits import TokenBucket
from videre.settings import Options
from videre.tally import Tally
from videre.transport.bodies import Body
from videre.transport.clients import Origins, Proxies
from videre.transport.framing import Framer, Quoter
from videre.transport.holdings import Holdings
from videre.transport.session import Accept, Handler, Session, logger

if TYPE_CHECKING:
    from videre.transport.http import HTTPSession
    from videre.transport.websocket import WebSocketSession

# Addresses whose pace is remembered; the longest unused are forgotten first.
MAX_PACED_ADDRESSES = 10_000

# Seconds between two sweeps at least: shorter delays than ten of these are rounded up.
LEAST_INTERVAL = 0.05

# Sessions whose backlog is counted in one turn of the loop: some 2 ms.
COUNTED_AT_ONCE = 5_000

# Sessions that one turn of the loop deals with: some 10 ms where each of them is written to, or has
# others hear that it leaves.
SWEPT_AT_ONCE = 1000
CLOSED_AT_ONCE = 500
FINISHED_AT_ONCE = 250

# Seconds between two looks at whether all clients have answered a close.
ANSWERS_LOOKED_AT = 0.01

# Seconds that a client has to answer a close frame. Clients answer within a round trip; who does
# not is cut off.
GOODBYE = 1.0


class Manager(sockjs.SessionManager):  # type: ignore[misc]  # the plugin has no types
    """Keeps sessions, looks for dead ones, and closes all of them in the end.

    `sessions` are those that a URL names; WebSocket sessions are no part of it, so that no URL
    reaches them. What has to happen after a time happens in sweeps, and times are counted in
    sweeps: a clock may be set and a process may be stopped for a minute, but a client is only
    given up after it had that many chances to be heard.
    """

    def __init__(
        self, name: str, app: web.Application, accept: Accept, options: Options, tally: Tally
    ) -> None:
        super().__init__(name, app, accept, options.heartbeat, options.disconnect_delay)
        self.sessions: dict[str, HTTPSession] = {}
        self.websockets: set[WebSocketSession] = set()  # until their connections are gone
        self.accept = accept
        self.tally = tally
        self.open_sessions = 0
        self.inboxes: Holdings[Session] = Holdings()  # bytes that wait for handlers, about
        self.bodies: Holdings[Body] = Holdings()  # bytes of requests that are on their way
        self.closing = False  # no session is opened any more
        self.retry_after = 1  # what who asks for one is told then, in seconds
        self.configure(options)
        # A tenth of the time that a polling client may stay away: noticed 10 % late at the most.
        self.interval = max(LEAST_INTERVAL, min(options.disconnect_delay, options.heartbeat) / 10)
        self.heartbeat_sweeps = math.ceil(options.heartbeat / self.interval)
        self.lost_sweeps = math.ceil(1.5 * options.heartbeat / self.interval)
        self.absent_sweeps = math.ceil(options.disconnect_delay / self.interval)
        self.goodbye_sweeps = math.ceil(GOODBYE / self.interval)
        self._addresses: Counter[str] = Counter()  # open sessions of each address
        self._sweeper: asyncio.TimerHandle | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        #: Sessions with something to write while it is collected; None while nothing is.
        self.cork: list[WebSocketSession] | None = None
        self.quote = Quoter()
        self._framers: dict[tuple[bool, bool], Framer] = {}
        self._round: list[HTTPSession | WebSocketSession] = []  # those that are still to be swept
        self._ending: deque[tuple[Session, str, bool]] = deque()  # those that are to be finished
        self._held_back = False  # whether none is finished, until all are closed
        self._deserted: asyncio.Future[None] | None = None  # a drain waits for the last session

    def configure(self, options: Options) -> None:
        """Go by other options from now on: what makes the routes and the sweeps stays as it was.

        Of open sessions, those of what they may send and have waiting are known to all, and those
        of their opening to new ones alone.
        """
        self.options = options
        self.origins = Origins(options.origins)
        self.proxies = Proxies(options.trusted_proxies)
        self._buckets: dict[str, TokenBucket] = {}

    def admits(self, address: str) -> bool:
        """Tell whether a client from `address` may open a session now, and count it if not."""
        refusal = self._refusal(address)
        if refusal is not None:
            self.tally.refused[refusal] += 1
        return refusal is None

    def _refusal(self, address: str) -> str | None:
        """Return why no session may be opened, of tally.REFUSALS; None if one may."""
        options = self.options
        if 0 < options.max_connections <= self.open_sessions:
            return "connections"
        limit = options.max_connections_per_address
        if limit and self._addresses[address] >= limit:
            return "connections-per-address"
        rate = options.connects_per_second_per_address
        return None if rate is None or self._paces(address, rate) else "connects-per-second"

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

    def _paces(self, address: str, rate: float) -> bool:
        """Tell whether an address opens sessions no faster than it may, and count this one."""
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            bucket = TokenBucket(rate, max(1, int(rate)))
            if len(self._buckets) >= MAX_PACED_ADDRESSES:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[address] = bucket  # last in order: the first is the longest unused
        return bucket.take(asyncio.get_running_loop().time())

    def add(self, session: Session) -> None:
        """Count a session that opens."""
        self.open_sessions += 1
        self.tally.opened[session.transport] += 1
        self._addresses[session.address] += 1
        if self._sweeper is None:
            self._sweep_later()

    def forget(self, session: Session) -> None:
        """Count a session that has ended; what its connection still has to hear goes on."""
        self.open_sessions -= 1
        self.tally.ended[session.transport] += 1
        self._addresses[session.address] -= 1
        if not self._addresses[session.address]:
            del self._addresses[session.address]
        if self._deserted is not None and not self.open_sessions and not self._deserted.done():
            self._deserted.set_result(None)

    def handlers(self) -> Iterator[Handler]:
        """Yield the handler of each session that is open now; others may come and go meanwhile."""
        for session in [*self.websockets, *self.sessions.values()]:
            if session.handler is not None:
                yield session.handler

    def gone(self, session: WebSocketSession) -> None:
        """Let go of a WebSocket session whose connection is no more."""
        self.websockets.discard(session)

    def unlink(self, session: HTTPSession) -> None:
        """Let go of a session whose URL shall not be answered any more."""
        self.sessions.pop(session.id, None)

    def framer(self, *, sockjs: bool, deflate: bool) -> Framer:
        """Return what frames the packets of all WebSocket sessions of one kind."""
        return self._framers.setdefault((sockjs, deflate), Framer(sockjs=sockjs, deflate=deflate))

    def uncork(self) -> None:
        """Write what WebSocket sessions have collected, and collect no more."""
        corked, self.cork = self.cork, None
        for session in corked or ():
            session.flush()

    def run(self, job: Coroutine[Any, Any, None]) -> None:
        """Run what a session cannot wait for; `job` handles its own errors."""
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    # Sweeps.

    def _sweep_later(self) -> None:
        self._sweeper = asyncio.get_running_loop().call_later(self.interval, self._sweep)

    def _sweep(self) -> None:
        """Begin a round: all sessions that there are now, in slices, within one interval."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._round = list(self._all())
        slices = max(1, math.ceil(len(self._round) / SWEPT_AT_ONCE))
        self._sweep_slice(self.interval / slices)

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
                    logger.exception("a session could not be looked after")
        del self._round[-SWEPT_AT_ONCE:]

    def _all(self) -> Iterator[HTTPSession | WebSocketSession]:
        yield from self.websockets
        yield from self.sessions.values()

    # The end.

    def refuse(self, seconds: float) -> None:
        """Open no session any more; who asks for one is told to try again in so many seconds."""
        self.closing = True
        self.retry_after = max(1, math.ceil(seconds))

    async def deserted(self, seconds: float) -> None:
        """Return when no session is open any more, or after so many seconds."""
        if not self.open_sessions:
            return
        self._deserted = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._deserted, seconds)

    def finish_soon(self, session: Session, reason: str, *, clean: bool) -> None:
        """Finish a session once the caller, maybe a room's loop, is done; in slices."""
        self._ending.append((session, reason, clean))
        if len(self._ending) == 1 and not self._held_back:
            asyncio.get_running_loop().call_soon(self._finish_some)

    def _finish_some(self) -> None:
        if self._held_back:
            return
        for _ in range(min(FINISHED_AT_ONCE, len(self._ending))):
            session, reason, clean = self._ending[0]
            session.finish(reason, clean=clean)
            self._ending.popleft()
        if self._ending:
            asyncio.get_running_loop().call_soon(self._finish_some)

    async def shutdown(self, code: int, reason: str) -> None:
        """Close every session with a code and wait for the clients' answers, GOODBYE s at most.

        Nobody is told that others leave: all are closed before the first one's end is noticed.
        """
        self.closing = True
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
        receivers = (session.receiver for session in self.sessions.values())
        gone = all(receiver is None or receiver.gone for receiver in receivers)
        return bool(self.websockets or self._ending) or not gone

    async def _in_slices(self, size: int, do: Callable[[Any], object]) -> None:
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
        if self._jobs:
            _, late = await asyncio.wait(self._jobs, timeout=GOODBYE)
            for job in late:
                job.cancel()


def _stop(session: Session) -> None:
    session.finish("stopped", clean=False)
    session.cut()
