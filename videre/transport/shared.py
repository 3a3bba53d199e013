"""State shared by all sessions of one prefix, on any transport."""

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
from videre.transport.holdings import Holder, Holdings

# Minimum seconds between two sweeps; delays shorter than ten sweeps are rounded up.
LEAST_INTERVAL = 0.05

# Seconds for a client to answer a close frame. Clients answer within a round trip; the others are
# cut off.
GOODBYE = 1.0


class Handler(Protocol):
    """The application's side of a session."""

    @property
    def seated(self) -> bool:
        """Whether the client has a seat; if not, fewer bytes may wait."""

    def receive(self, text: str) -> Awaitable[None] | None:
        """Handle a message; the next one waits for the returned awaitable, if any."""

    def too_large(self) -> None:
        """Note that the client sent a message too large to read; the session is closed next."""

    def leaving(self) -> None:
        """Note that the client has closed: `closed` follows once its messages are handled."""

    def closed(self, end: End) -> Awaitable[None] | None:
        """Handle the end of the session. Called exactly once."""


class Corked(Protocol):
    """A session that collects its writes."""

    def flush(self) -> None:
        """Write what was collected."""


class Payer(Holder, Protocol):
    """Holds messages that a client has sent, and can be made to drop them."""

    def shed(self) -> None:
        """Drop these messages, and close the session."""


class Shared:
    """Options, counts and caches that sessions read.

    Timeouts are counted in sweeps, not by a clock: a clock may be set, and a process may be stopped
    for a minute. A client is given up only after several sweeps, each a chance for it to be heard.
    """

    def __init__(self, options: Options, tally: Tally, accept: Callable[[Any], Handler]) -> None:
        self.options = options  # replaced by a reload of the configuration
        self.tally = tally
        self.accept = accept  # see session.Accept
        self.jobs = Jobs()  # work that sessions cannot wait for
        self.inboxes: Holdings[Payer] = Holdings()  # approximate bytes waiting for handlers
        self.bodies: Holdings[Body] = Holdings()  # bytes of request bodies in flight
        self.incoming: Holdings[Payer] = Holdings()  # bytes of unfinished WebSocket messages
        # A tenth of the time that a polling client may stay away, so its absence is noticed at most
        # 10 % late.
        self.interval = max(LEAST_INTERVAL, min(options.disconnect_delay, options.heartbeat) / 10)
        self.heartbeat_sweeps = math.ceil(options.heartbeat / self.interval)
        self.lost_sweeps = math.ceil(1.5 * options.heartbeat / self.interval)
        self.absent_sweeps = math.ceil(options.disconnect_delay / self.interval)
        self.goodbye_sweeps = math.ceil(GOODBYE / self.interval)
        #: Sessions with collected writes; None while writes are not collected.
        self.cork: list[Corked] | None = None
        self.quote = Quoter()
        self._framers = {
            (sockjs, deflate): Framer(sockjs=sockjs, deflate=deflate)
            for sockjs in (False, True)
            for deflate in (False, True)
        }

    def framer(self, *, sockjs: bool, deflate: bool) -> Framer:
        """Return the Framer that all WebSocket sessions of one kind share."""
        return self._framers[sockjs, deflate]

    def uncork(self) -> None:
        """Write what the WebSocket sessions have collected, and stop collecting."""
        corked, self.cork = self.cork, None
        for session in corked or ():
            session.flush()
