"""What all sessions of one prefix share, whatever carries them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from videre.jobs import Jobs
from videre.reasons import End
from videre.settings import Options
from videre.tally import Tally
from videre.transport.bodies import Body
from videre.transport.framing import Framer, Quoter
from videre.transport.holdings import Holdings

# Seconds between two sweeps at least: shorter delays than ten of these are rounded up.
LEAST_INTERVAL = 0.05

# Seconds that a client has to answer a close frame. Clients answer within a round trip; those that
# do not are cut off.
GOODBYE = 1.0


class Handler(Protocol):
    """What the application makes of a session."""

    @property
    def seated(self) -> bool:
        """Whether the client has a seat: others may have less waiting."""

    def receive(self, text: str) -> Awaitable[None] | None:
        """Take a message; the next one waits until an awaitable that is returned is done."""

    def too_large(self) -> None:
        """Hear that the client sent what was too large to be read; the session is closed next."""

    def closed(self, end: End) -> Awaitable[None] | None:
        """Hear of the session's end, exactly once."""


class Corked(Protocol):
    """A session that collects what it has to write."""

    def flush(self) -> None:
        """Write what was collected."""


class Waiting(Protocol):
    """A session whose messages wait for its handler."""

    address: str

    def shed(self) -> None:
        """Forget what waits, and close the session."""


class Shared:
    """Options, counts and caches: sessions read them, and nobody hears of it.

    Times are counted in sweeps: a clock may be set and a process may be stopped for a minute, but
    a client is only given up after it had that many chances to be heard.
    """

    def __init__(self, options: Options, tally: Tally, accept: Callable[[Any], Handler]) -> None:
        self.options = options  # replaced when the configuration is reloaded
        self.tally = tally
        self.accept = accept  # see session.Accept
        self.jobs = Jobs()  # what sessions cannot wait for
        self.inboxes: Holdings[Waiting] = Holdings()  # bytes that wait for handlers, about
        self.bodies: Holdings[Body] = Holdings()  # bytes of requests that are on their way
        # A tenth of the time that a polling client may stay away: noticed 10 % late at the most.
        self.interval = max(LEAST_INTERVAL, min(options.disconnect_delay, options.heartbeat) / 10)
        self.heartbeat_sweeps = math.ceil(options.heartbeat / self.interval)
        self.lost_sweeps = math.ceil(1.5 * options.heartbeat / self.interval)
        self.absent_sweeps = math.ceil(options.disconnect_delay / self.interval)
        self.goodbye_sweeps = math.ceil(GOODBYE / self.interval)
        #: Sessions with something to write while it is collected; None while nothing is.
        self.cork: list[Corked] | None = None
        self.quote = Quoter()
        self._framers: dict[tuple[bool, bool], Framer] = {}

    def framer(self, *, sockjs: bool, deflate: bool) -> Framer:
        """Return what frames the packets of all WebSocket sessions of one kind."""
        return self._framers.setdefault((sockjs, deflate), Framer(sockjs=sockjs, deflate=deflate))

    def uncork(self) -> None:
        """Write what WebSocket sessions have collected, and collect no more."""
        corked, self.cork = self.cork, None
        for session in corked or ():
            session.flush()
