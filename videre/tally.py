"""The tally: counters of what one namespace has done since it started.

The rules and the transport count here, at the cost of an addition; `videre.metrics` turns it into
metrics on request. All keys come from fixed sets; clients choose none of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

from videre import errors
from videre.errors import PeerError
from videre.interfaces import Later, Timer
from videre.packets import CLIENT_EVENTS, Event
from videre.reasons import LeaveReason

#: Stands for packets whose event is unreadable, or not a client's.
OTHER = "other"

#: The transports of sessions, by their SockJS names.
TRANSPORTS = (
    "websocket",
    "websocket-raw",
    "xhr-streaming",
    "xhr-polling",
    "eventsource",
    "htmlfile",
    "jsonp-polling",
)

#: The codes of error packets.
ERROR_CODES = tuple(
    each.code
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, PeerError) and each is not PeerError
)

#: Outcomes of a resume: the seat was `resumed`; a new one was given, because packets are missing
#: (`gap`) or the seat is `gone`; the secret was wrong (`refused`); the engine was unreachable
#: (`failed`).
RESUME_RESULTS = ("resumed", "gap", "gone", "refused", "failed")

#: Why a request to open a session was refused.
REFUSALS = ("origin", "connections", "connections-per-address", "connects-per-second", "stopping")

#: The steps of a store (engines/redis/room.lua), and `rooms`, a page of their list.
STEPS = (
    *("join", "renew", "resume", "leave", "publish", "members", "rooms"),
    *("since", "restore", "reap"),
)

#: Upper bounds in seconds, from one turn of the event loop to delays that people notice.
SECONDS = (
    *(0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)

#: Seconds between two samples of the lag: it shows any longer block of the loop, at no cost.
LAG_INTERVAL = 0.5

#: Upper bounds of the lag in seconds; below a millisecond, timers themselves are inexact.
LAG_SECONDS = (0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

#: One of this many received chunks is timed, with the packets in it; timing costs 2 us.
TIMED = 64


def size(text: str) -> int:
    """Return a packet's size in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


class Flow:
    """Packets of one event in one direction, and their bytes of UTF-8 without framing."""

    __slots__ = ("bytes", "packets")

    def __init__(self) -> None:
        self.packets = 0
        self.bytes = 0

    def add(self, text: str, copies: int = 1) -> None:
        """Count a packet that is sent `copies` times."""
        self.packets += copies
        self.bytes += copies * size(text)


class Histogram:
    """Counts of values by their upper bound in `bounds`; the last count is of those above all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Iterable[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """The number of values observed."""
        return sum(self.counts)


class RelayTimer:
    """Times the broadcasts of one in TIMED chunks, from arrival to the write to the last member.

    The transport calls `begin` when bytes arrive, and `end` when everything they caused at once has
    been written to the sockets. A broadcast that goes through a store takes `arrived` along, and
    the store's engine calls `observe` when it has been written to the members on this node.
    """

    __slots__ = ("_clock", "arrived", "left", "seconds", "written")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.arrived: float | None = None  # when the chunk being handled arrived; None: not timed
        self.left = TIMED  # chunks until the next timed one, inclusive
        self.written = 0  # broadcasts delivered since the chunk arrived
        self.seconds = Histogram()

    def begin(self, arrived: float | None = None) -> None:
        """Start timing a chunk that arrived now or, if it had to wait, at `arrived`."""
        if arrived is None:
            self.left = TIMED
            arrived = self._clock()
        self.arrived = arrived
        self.written = 0

    def end(self) -> None:
        """Stop timing: all that can be written at once is written."""
        arrived, self.arrived = self.arrived, None
        if arrived is not None and self.written:
            self.observe(arrived, self.written)

    def observe(self, arrived: float, broadcasts: int = 1) -> None:
        """Record that broadcasts that arrived at time `arrived` are written now."""
        self.seconds.observe(self._clock() - arrived, broadcasts)


class Lag:
    """How late the event loop runs callbacks, sampled from `start` to `stop`.

    `clock` is monotonic; it and `later` are in seconds.
    """

    def __init__(self, clock: Callable[[], float], later: Later) -> None:
        self._clock = clock
        self._later = later
        self._timer: Timer | None = None
        self._due = 0.0
        self.seconds = Histogram(LAG_SECONDS)

    def start(self) -> None:
        """Start sampling."""
        self._due = self._clock() + LAG_INTERVAL
        self._timer = self._later(LAG_INTERVAL, self._sample)

    def stop(self) -> None:
        """Stop sampling."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _sample(self) -> None:
        self.seconds.observe(max(0.0, self._clock() - self._due))
        self.start()


class Tally:
    """What one namespace has done. `clock` is monotonic, in seconds.

    Dictionaries have all their keys from the start.
    """

    __slots__ = (
        "clock",
        "ended",
        "errors",
        "failures",
        "joins",
        "leaves",
        "opened",
        "promotions",
        "received",
        "refused",
        "relays",
        "resumes",
        "sent",
        "slow_consumers",
        "steps",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        #: Packets from clients and to them, by event. A packet sent to five counts five times.
        self.received = {str(event): Flow() for event in (*CLIENT_EVENTS, OTHER)}
        self.sent = {str(event): Flow() for event in Event}
        #: Error packets sent, by code.
        self.errors = dict.fromkeys(ERROR_CODES, 0)
        #: Seats taken on this node, and given up, by LeaveReason.
        self.joins = 0
        self.leaves = {reason.value: 0 for reason in LeaveReason}
        #: Members on this node that were promoted to initiator.
        self.promotions = 0
        #: Attempts to resume a seat, by RESUME_RESULTS.
        self.resumes = dict.fromkeys(RESUME_RESULTS, 0)
        #: Sessions opened and ended, by TRANSPORTS; the difference is open.
        self.opened = dict.fromkeys(TRANSPORTS, 0)
        self.ended = dict.fromkeys(TRANSPORTS, 0)
        #: Sessions closed with 4002 because their client did not read.
        self.slow_consumers = 0
        #: Refused requests to open a session, by REFUSALS.
        self.refused = dict.fromkeys(REFUSALS, 0)
        #: Seconds from receiving a broadcast to its last write.
        self.relays = RelayTimer(clock)
        #: Seconds that each of a store's STEPS takes, and how many failed.
        self.steps = {step: Histogram() for step in STEPS}
        self.failures = dict.fromkeys(STEPS, 0)
