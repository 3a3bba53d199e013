"""The holder of a seat: one session's place in the rooms, and the connection to its client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from videre import packets
from videre.auth import Grant
from videre.errors import (
    CloseCode,
    EngineError,
    PacketTooLarge,
    PeerError,
    TokenExpired,
    Unavailable,
)
from videre.interfaces import Connection, Pause, Timer
from videre.limits import LONGEST_DELAY, Throttle, throttle
from videre.packets import Event, Packet
from videre.peers.context import Context
from videre.peers.eagerly import eagerly
from videre.reasons import End, LeaveReason
from videre.rooms.room import HELD, Seat

# After this many bad packets in a row, a client is broken or hostile (protocol.md, "Bad input").
MAX_BAD_PACKETS = 10


class Holder:
    """A session that may hold a seat; `connection` leads to the client. See Peer for its packets.

    `name` is the session's name in the log.
    """

    __slots__ = (
        "_bad",
        "_context",
        "_deadline",
        "_join_by",
        "_pause",
        "_rooms",
        "_seat",
        "_tally",
        "_throttle",
        "_trace",
        "address",
        "connection",
        "gone",
        "name",
        "parting",
    )

    def __init__(
        self, connection: Connection, context: Context, address: str = "", name: str = ""
    ) -> None:
        self.connection = connection
        self.name = name
        self._context = context
        self._rooms = context.rooms
        self._tally = context.rooms.tally
        self.address = address
        self._seat: Seat | None = None
        self.parting = False  # the client has said goodbye, or has gone
        self.gone = False
        self._pause: Pause | None = None
        self._bad = 0  # bad packets in a row
        self._throttle: Throttle | None = None
        self.refresh()
        # When it must have joined a room, or sent a fresh token.
        self._deadline: Timer | None = None
        seconds = context.limits.join_timeout
        # When the join timeout ends, by the clock; None: there is none, or it was paused before.
        self._join_by = None if seconds is None else context.clock() + seconds
        self._call_after(seconds, self._idled)

    def refresh(self) -> None:
        """Reload limits and trace from the context; they may change at any time."""
        self._trace = self._context.trace
        self._throttle = throttle(self._context.limits)

    def pay(self, size: int) -> None:
        """Charge the session for bytes its packet caused, beyond its own."""
        if self._throttle is not None:
            self._throttle.charge(size, self._context.clock())

    # To the client.

    def send(self, event: str, text: str) -> None:
        """Send an answer."""
        self._tally.sent[event].add(text)
        self.connection.send(text)

    def refuse(self, error: PeerError | EngineError, packet: Packet | None = None) -> None:
        """Send the client an error about `packet`."""
        if isinstance(error, EngineError):
            error = Unavailable(str(error))
        header = error.header if packet is None else packet.header
        user, room, packet_id = packets.claimed(header)
        if (seat := self.seat) is not None:
            user, room = seat.user, seat.room
        self._tally.errors[error.code] += 1
        self.send("error", packets.write_error(error, user, room, packet_id))
        self._context.log("error", code=error.code, user=user, room=room, session=self.name)
        if error.bad:
            self._bad += 1
            if self._bad >= MAX_BAD_PACKETS:
                self.close(CloseCode.BAD_PACKETS)

    def too_large(self) -> None:
        """Report a packet that was too large to be read."""
        self.refuse(PacketTooLarge("The frame was too large to be read"))

    def go_away(self, seconds: float) -> None:
        """Tell the client to reconnect in `seconds`: the server is draining."""
        seat = self.seat
        user, room = ("", "") if seat is None else (seat.user, seat.room)
        payload = {"RetryAfter": round(seconds * 1000)}
        self.send("goaway", packets.write_json(Event.GOAWAY, user, room, payload))

    def close(self, code: CloseCode) -> None:
        """Close the session."""
        self.connection.close(code, code.reason)

    # The seat.

    @property
    def seat(self) -> Seat | None:
        """Its seat; None outside of any room, or if the seat was taken from it."""
        seat = self._seat
        if seat is not None and seat.state is not HELD:
            seat = self._seat = None
        return seat

    @property
    def seated(self) -> bool:
        """See transport's Handler."""
        return self.seat is not None

    async def sit(self, seat: Seat) -> None:
        """Sit in a seat that the engine granted; give up a seat in another room."""
        if self.gone:
            await self._rooms.leave(seat, LeaveReason.CONNECTION_LOST)
            return
        held, self._seat = self.seat, seat
        self._context.log("session-seated", session=self.name, user=seat.user, room=seat.room)
        if held is not None and held is not seat:
            await self._rooms.leave(held, LeaveReason.MOVED)

    def leaving(self) -> None:
        """See transport's Handler: delay the client's last packets no more."""
        self.parting = True
        if self._pause is not None:
            self._pause.end()

    def closed(self, end: End) -> Awaitable[None] | None:
        """Give up the seat; keep a resumable one if the client may come back (see End.clean)."""
        self.gone = True
        self.leaving()
        self._context.log("session-ended", session=self.name, **end.fields())
        self._call_after(None, self._idled)
        seat = self.seat
        if seat is None:
            return None
        if end.clean:
            return self._begin(self._rooms.leave(seat, end.reason))
        return self._begin(self._rooms.lose(seat, end, self.address))

    def _begin(self, work: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
        """Do the work of an engine that never waits at once; return any other, to be awaited."""
        return eagerly(work) if self._rooms.in_process else work

    # Deadlines: a session must join a room in time, and send a fresh token before its grant ends.

    async def wait(self, seconds: float) -> None:
        """Wait before a `connect`, or until the client leaves.

        The first wait does not count towards JoinTimeout: it is ours, not the client's. Further
        ones do, or wrong tokens would keep a session open without end.
        """
        join_by, self._join_by = self._join_by, None
        began = self._context.clock()
        if join_by is not None:
            self._call_after(None, self._idled)
        if not self.parting:
            self._pause = self._context.pause(seconds)
            await self._pause
            self._pause = None
        if join_by is not None:
            self._call_after(join_by - began, self._idled)

    def accept(self, grant: Grant) -> None:
        """Replace the deadline by the end of a token's grant."""
        self._join_by = None
        expires = grant.expires
        left = None if expires is None else expires - self._context.unix_time()
        self._call_after(left, self._expired)

    def _call_after(self, seconds: float | None, call: Callable[[], None]) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if seconds is None or self.gone:
            self._deadline = None
        else:
            self._deadline = self._context.later(seconds, call)

    def _idled(self) -> None:
        if self.seat is None:
            self.close(CloseCode.NO_PACKET)

    def _expired(self) -> None:
        if self.seat is not None:
            self.refuse(TokenExpired("Connect to the room again with a fresh token"))
            self._call_after(self._context.leeway, self._outlasted)

    def _outlasted(self) -> None:
        # A connect that waits was sent in time; the delay is ours.
        if self._pause is None:
            self._end_grant()
        else:
            self._call_after(LONGEST_DELAY, self._end_grant)

    def _end_grant(self) -> None:
        if self.seat is not None:
            self.close(CloseCode.UNAUTHORIZED)
