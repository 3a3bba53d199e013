"""The steps of a `connect`: delay, token, seat.

An address with too many refused tokens waits; the token is checked; a seat is resumed, newly taken
or confirmed. Steps that need not wait run at once; after a wait for the engine, the next step
continues.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from videre import packets, tally
from videre.auth import Grant
from videre.engines import Gap
from videre.errors import EngineError, TokenExpired, Unauthorized, WrongUser
from videre.interfaces import Connection
from videre.packets import Packet
from videre.payload import around_payload
from videre.peers.connect_options import connect_options
from videre.peers.context import Context
from videre.peers.deadline import Deadline
from videre.reasons import LeaveReason
from videre.rooms.room import Seat

Pending = Awaitable[None] | None


class Visitor(Protocol):
    """The session that wants to enter."""

    address: str
    connection: Connection
    deadline: Deadline
    gone: bool

    @property
    def seat(self) -> Seat | None:
        """Its seat, if any."""

    def sit(self, seat: Seat) -> Pending:
        """Take a seat, and give up the one in another room."""

    def pay(self, size: int) -> None:
        """Charge it for bytes its packet caused, beyond its own."""


def enter(visitor: Visitor, context: Context, packet: Packet) -> Pending:
    """Carry out a `connect`, at once or when the result is awaited. Raises PeerError."""
    entry = _Entry(visitor, context, packet)
    delay = context.penalties.delay(visitor.address, context.clock())
    return entry.after(delay) if delay > 0 else entry.begin()


class _Entry:
    """One `connect` in progress."""

    def __init__(self, visitor: Visitor, context: Context, packet: Packet) -> None:
        self._visitor = visitor
        self._context = context
        self._rooms = context.rooms
        self._packet = packet
        self._counted = False  # as a failure, before its outcome is known
        self._grant = Grant()

    async def after(self, delay: float) -> None:
        """Begin after `delay` seconds, unless the visitor leaves meanwhile."""
        context, visitor = self._context, self._visitor
        # Counted when the wait begins, so that parallel tries are delayed more and more too.
        context.penalties.record(visitor.address, context.clock())
        self._counted = True
        outside = visitor.seat is None
        if outside:
            visitor.deadline.cancel()  # the delay is ours, not the client's
        try:
            await context.sleep(delay, lambda: visitor.gone)
            if not visitor.gone and (pending := self.begin()) is not None:
                await pending
        finally:
            if outside and visitor.seat is None and not visitor.gone:
                visitor.deadline.enter()

    def begin(self) -> Pending:
        """Check the visitor's token, and give it a seat."""
        packet, held, context = self._packet, self._visitor.seat, self._context
        here = held is not None and held.room == packet.room
        if here and held is not None and held.user != packet.user:
            raise WrongUser("Header.UserId: this session has connected as another user")
        self._options = options = connect_options(packet.payload)
        try:
            self._grant = context.auth.grant(
                options.token, packet.user, packet.room, context.unix_time()
            )
        except (Unauthorized, TokenExpired):
            if options.token is not None:
                self._count()
            raise
        self._announcement = around_payload(packet.text)
        if here and held is not None:
            return self._repeat(held)
        return self._join(None) if options.resume is None else self._resume(options.resume)

    def _count(self) -> None:
        """Count a failure of the visitor's address, once."""
        if not self._counted:
            self._context.penalties.record(self._visitor.address, self._context.clock())

    def _repeat(self, held: Seat) -> Pending:
        """Confirm the visitor's seat; nothing changes for the others."""
        visitor = self._visitor
        visitor.deadline.renew(self._grant)
        role = packets.ROLE[self._rooms.is_initiator(held)]
        echo = role.join(self._announcement)
        self._rooms.tally.sent["connect"].add(echo)
        visitor.connection.send(echo)
        if not self._options.welcome and held.welcome is None:
            return None
        seat, pending = self._rooms.renew(held)
        return _then(pending, lambda: self._seated(seat))

    def _resume(self, secret: str) -> Pending:
        """Resume the visitor's seat; give it a new one if that is gone or has a gap."""
        packet = self._packet
        try:
            found = self._rooms.resume(
                packet.user,
                packet.room,
                self._visitor.connection,
                self._announcement,
                secret=secret,
                received=self._options.received,
            )
        except (Unauthorized, EngineError) as error:
            self._resume_failed(error)
            raise
        if isinstance(found, Awaitable):
            return self._resumed_later(found)
        return self._resumed(found)

    async def _resumed_later(self, pending: Awaitable[Seat | Gap | None]) -> None:
        try:
            found = await pending
        except (Unauthorized, EngineError) as error:
            self._resume_failed(error)
            raise
        if (more := self._resumed(found)) is not None:
            await more

    def _resume_failed(self, error: Unauthorized | EngineError) -> None:
        is_wrong = isinstance(error, Unauthorized)
        self._rooms.tally.resumes["refused" if is_wrong else "failed"] += 1
        if is_wrong:
            self._count()

    def _resumed(self, found: Seat | Gap | None) -> Pending:
        resumes = self._rooms.tally.resumes
        if isinstance(found, Seat):
            resumes["resumed"] += 1
            return self._seated(found)
        resumes["gone" if found is None else "gap"] += 1
        return self._join(found)

    def _join(self, gap: Gap | None) -> Pending:
        """Take a new seat; after a `gap` it replaces the old one, whose secret it has shown."""
        # The new seat comes before the old one is given up: a refused join costs the peer nothing.
        seat, pending = self._rooms.join(
            self._packet.user,
            self._packet.room,
            self._visitor.connection,
            self._announcement,
            capacity=self._grant.capacity,
            welcome=self._options.greeting,
            replace=gap is not None,
        )
        return _then(pending, lambda: self._joined(seat))

    def _joined(self, seat: Seat) -> Pending:
        self._visitor.pay(tally.size(self._packet.text) * seat.replica.weight)
        return self._seated(seat)

    def _seated(self, seat: Seat) -> Pending:
        if self._visitor.gone:
            return self._rooms.leave(seat, LeaveReason.CONNECTION_LOST)
        self._visitor.pay(seat.greeted)
        self._visitor.deadline.renew(self._grant)
        return self._visitor.sit(seat)


def _then(pending: Pending, step: Callable[[], Pending]) -> Pending:
    """Run the next step: now, or after `pending`."""
    return step() if pending is None else _later(pending, step)


async def _later(pending: Awaitable[None], step: Callable[[], Pending]) -> None:
    await pending
    if (more := step()) is not None:
        await more
