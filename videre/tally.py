"""The tally: what one namespace has done since it began, as plain counters.

The rules and the transport count here, at the cost of an addition; `videre.metrics` makes metrics
of it when somebody asks. All that is a key in it comes from a fixed set: nothing that a client
chooses does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable

from videre import errors
from videre.errors import PeerError
from videre.interfaces import Later, Timer
from videre.packets import CLIENT_EVENTS, Event
from videre.reasons import LeaveReason

#: Stands for packets whose event could not be read, or is none of a client's.
OTHER = "other"

#: What carries sessions, by the SockJS names.
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

#: What becomes of a resume: the seat is had again; a new one, since packets are missing (`gap`) or
#: the seat is `gone`; the secret is not good (`refused`); or the engine cannot be reached.
RESUME_RESULTS = ("resumed", "gap", "gone", "refused", "failed")

#: Why a request that would open a session is refused.
REFUSALS = ("origin", "connections", "connections-per-address", "connects-per-second", "stopping")

#: The steps of an engine, by the names of its methods.
STEPS = ("join", "renew", "lose", "resume", "leave", "publish", "members", "rooms")

#: Upper bounds in seconds, from what takes one turn of the event loop to what people notice.
SECONDS = (
    *(0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)

#: Seconds between two samples of the lag: a loop that hangs for longer is seen, at no cost.
LAG_INTERVAL = 0.5

#: Upper bounds in seconds of the lag: below a millisecond, timers themselves are not exact.
LAG_SECONDS = (0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

#: One of so many chunks off the wire is timed, and with it the packets in it: it costs 2 us.
TIMED = 64

# Packets that may be on their way through the engine, timed; more are not.
MAX_UNDER_WAY = 1_000


def size(text: str) -> int:
    """Return the bytes of UTF-8 that a packet has."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


class Flow:
    """Packets of one event in one direction, and their bytes of UTF-8, without any framing."""

    __slots__ = ("bytes", "packets")

    def __init__(self) -> None:
        self.packets = 0
        self.bytes = 0

    def add(self, text: str, copies: int = 1) -> None:
        """Count a packet that goes to so many."""
        self.packets += copies
        self.bytes += copies * size(text)


class Histogram:
    """How often a value was up to each of some `bounds`, above the one before, or above all."""

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
        """How many values were observed."""
        return sum(self.counts)


class RelayTimer:
    """Times broadcasts, of one in TIMED chunks: from their arrival to the write to the last member.

    The transport begins when bytes arrive, and ends when all that they caused on the spot has been
    written to the sockets. A broadcast that goes through a store meanwhile is under way, and has
    its own end: when the members on this node have been written to.
    """

    __slots__ = ("_clock", "arrived", "left", "seconds", "under_way", "written")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.arrived: float | None = None  # when what is being handled arrived; None: not timed
        self.left = TIMED  # chunks until the next that is timed, this one included
        # When what is timed and on its way to a store arrived, by the sender's seat and its text.
        self.under_way: dict[tuple[str, str], float] = {}
        self.written = 0  # broadcasts since then that have been handed to all
        self.seconds = Histogram()

    def begin(self, arrived: float | None = None) -> None:
        """Begin to time what has just arrived, or, since it had to wait, did so at a time."""
        if arrived is None:
            self.left = TIMED
            arrived = self._clock()
        self.arrived = arrived
        self.written = 0

    def end(self) -> None:
        """Take the time, if one is taken: what can be written at once has been written."""
        arrived, self.arrived = self.arrived, None
        if arrived is not None and self.written:
            self.seconds.observe(self._clock() - arrived, self.written)

    def set_out(self, seat: str, text: str) -> None:
        """Hear that a broadcast that is timed goes to a store."""
        if self.arrived is None:
            return
        if len(self.under_way) >= MAX_UNDER_WAY:  # of a store whose messages are not heard
            self.under_way.clear()
        self.under_way[seat, text] = self.arrived

    def give_up(self, seat: str, text: str) -> None:
        """Hear that a broadcast will not come back from the store."""
        self.under_way.pop((seat, text), None)

    def reached(self, seat: str, text: str) -> None:
        """Hear that a broadcast, timed or not, has been handed to the members on this node."""
        arrived = self.under_way.pop((seat, text), None)
        if arrived is not None:
            self.seconds.observe(self._clock() - arrived)


class Lag:
    """How much later than it was due the event loop calls back, sampled from `start` to `stop`.

    `clock` is monotonic, in seconds, as `later` is.
    """

    def __init__(self, clock: Callable[[], float], later: Later) -> None:
        self._clock = clock
        self._later = later
        self._timer: Timer | None = None
        self._due = 0.0
        self.seconds = Histogram(LAG_SECONDS)

    def start(self) -> None:
        """Begin to take samples."""
        self._due = self._clock() + LAG_INTERVAL
        self._timer = self._later(LAG_INTERVAL, self._sample)

    def stop(self) -> None:
        """Take no more samples."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _sample(self) -> None:
        self.seconds.observe(max(0.0, self._clock() - self._due))
        self.start()


class Tally:
    """What one namespace has done. `clock` is monotonic, in seconds.

    Dictionaries have all their keys from the beginning.
    """

    __slots__ = (
        "broadcasts",
        "clock",
        "ended",
        "errors",
        "failures",
        "joins",
        "leaves",
        "opened",
        "pings",
        "promotions",
        "received",
        "refused",
        "relays",
        "resumes",
        "sent",
        "size",
        "slow_consumers",
        "steps",
        "text",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        #: Packets from clients and to them, by event. What is sent to five counts five times.
        self.received = {str(event): Flow() for event in (*CLIENT_EVENTS, OTHER)}
        self.sent = {str(event): Flow() for event in Event}
        #: Of `received`, what comes most.
        self.broadcasts, self.pings = self.received["broadcast"], self.received["ping"]
        #: The last broadcast's bytes are asked for twice, when it comes and when it goes.
        self.text: str | None = None
        self.size = 0
        #: Error packets sent, by code.
        self.errors = dict.fromkeys(ERROR_CODES, 0)
        #: Seats taken on this node, and given up, by LeaveReason.
        self.joins = 0
        self.leaves = {reason.value: 0 for reason in LeaveReason}
        #: Members of this node that became their room's initiator when another left.
        self.promotions = 0
        #: Attempts to resume a seat, by RESUME_RESULTS.
        self.resumes = dict.fromkeys(RESUME_RESULTS, 0)
        #: Sessions opened and ended, by TRANSPORTS: those that are open are the difference.
        self.opened = dict.fromkeys(TRANSPORTS, 0)
        self.ended = dict.fromkeys(TRANSPORTS, 0)
        #: Sessions closed with 4002, since their client did not read.
        self.slow_consumers = 0
        #: Requests that would have opened a session, by REFUSALS.
        self.refused = dict.fromkeys(REFUSALS, 0)
        #: The time from receive to last write.
        self.relays = RelayTimer(clock)
        #: The seconds that each of the engine's STEPS takes, and how many failed.
        self.steps = {step: Histogram() for step in STEPS}
        self.failures = dict.fromkeys(STEPS, 0)
