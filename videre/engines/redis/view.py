"""A node's view of one room: its members, and the last message applied."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from videre.engines.events import Event, Found, Joined, Left, Moved
from videre.engines.state import RoomState
from videre.errors import EngineError
from videre.ids import Digest, RoomId, SeatId, UserId

# Seconds to wait for a message: longer than it takes to notice a lost subscription.
HEARD_SECONDS = 10.0


@dataclasses.dataclass
class OwnSeat:
    """A seat of this node: of a session, lost by one, or adopted from a dead node."""

    seat: SeatId
    user: UserId
    room: RoomId
    ticket: Digest | None
    place: float = 0.0  # in joining order; 0: not known yet
    last_id: str = "null"  # of its last packet, see Engine.publish
    adopted: bool = False  # from a dead node: it needs no messages
    leaving: bool = False


@dataclasses.dataclass(frozen=True)
class Position:
    """Where a member's seat is, and its place in joining order."""

    node: str
    number: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """The members of a room, as the store answers (room.lua, `state`)."""

    number: int  # of the last message before it; 0: no such room
    born: str  # the room's first number; "": no such room
    seats: dict[UserId, SeatId]
    positions: dict[UserId, Position]

    @classmethod
    def of(cls, number: str, born: str, seats: Sequence[str]) -> Answer:
        """Parse an answer; `seats` alternates users and their stored seats."""
        users = map(UserId, seats[::2])
        kept = {user: each.split("\n") for user, each in zip(users, seats[1::2], strict=True)}
        positions = {user: Position(node, float(at)) for user, (_, node, at) in kept.items()}
        held = {user: SeatId(each[0]) for user, each in kept.items()}
        return cls(int(number), born, held, positions)


class View:
    """One room, as its messages describe it."""

    def __init__(self, room: RoomId, looking: asyncio.Task[None]) -> None:
        self.room = room
        self.looking = looking  # until the room is noted and subscribed
        self.interest = 0  # steps in progress that want a seat
        self.own: dict[SeatId, OwnSeat] = {}
        self.known = False  # whether a state is believed
        self.states = 0  # number of states believed
        self._asking = asyncio.Lock()  # one step at a time asks for the state
        self.heard = 0  # the number of the last message received
        self.told: Answer | None = None  # a state answered before its messages arrived
        self.born = ""  # the room's first number; a different one means that the store lost data
        self.number = 0  # of the last message applied
        self.state = RoomState()
        self.positions: dict[UserId, Position] = {}
        self.doubted: set[UserId] = set()  # members that the store no longer has
        self.doubting: asyncio.TimerHandle | None = None
        self.catching = False
        self.early: list[tuple[list[Any], str]] = []  # messages that wait for their turn
        self.strayed = False  # whether the last message is lost: early ones wait for a state
        self.over = False  # whether the view is dropped
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def turn_to_ask(self) -> AsyncIterator[None]:
        """Wait for the turn to ask for the state; raises EngineError if that takes too long."""
        try:
            async with asyncio.timeout(HEARD_SECONDS):
                await self._asking.acquire()
        except TimeoutError as error:
            raise EngineError("The rooms cannot be reached") from error
        try:
            yield
        finally:
            self._asking.release()

    @property
    def known_as(self) -> str:
        """The first number of the known state; "" if there is none."""
        return self.born if self.known else ""

    def become(self, answer: Answer) -> None:
        """Believe a state; doubt the members it lacks. Later messages stay early."""
        members = self.state.members if answer.born else {}  # else there is no such room
        self.doubted = members.keys() - answer.seats.keys()
        self.positions |= answer.positions
        self.find(members | answer.seats)
        self.known, self.number, self.born = bool(answer.born), answer.number, answer.born
        self.states += 1
        self.early = [each for each in self.early if int(each[0][0]) > self.number]
        self.strayed = False
        self.advance()

    def find(self, seats: Mapping[UserId, SeatId]) -> Found:
        """Make these users the members; return the event that says so, in joining order."""
        self.positions = {user: self.positions[user] for user in seats}
        members = sorted(seats.items(), key=lambda each: (self.positions[each[0]].number, each[0]))
        event = Found(members)
        self.state.apply(event)
        return event

    def follow(self, event: Event, node: str = "", number: float = 0.0) -> None:
        """Apply an event of one member: its seat is on `node`, and a new one has this number."""
        if not self.state.apply(event):
            return
        if isinstance(event, Left):
            del self.positions[event.user]
        elif isinstance(event, Joined):
            self.place(event.user, event.seat, Position(node, number))
        elif isinstance(event, Moved):
            self.place(event.user, event.to, Position(node, self.positions[event.user].number))
            if event.last_id and (own := self.own.get(event.to)) is not None:
                own.last_id = event.last_id

    def place(self, user: UserId, seat: SeatId, position: Position) -> None:
        """Record where a seat is."""
        self.positions[user] = position
        if (own := self.own.get(seat)) is not None:
            own.place = position.number

    def lacks(self, own: OwnSeat) -> bool:
        """Return whether the store lacks a seat that this node had."""
        seated = self.state.holds(own.user, own.seat) and own.user not in self.doubted
        return own.place > 0 and not seated

    def dispel(self, restoring: set[str]) -> Found | None:
        """Drop the doubted members, except those whose nodes are still restoring, if there are any.

        Returns the event that says so.
        """
        waiting = {user for user, at in self.positions.items() if at.node in restoring}
        gone = self.doubted - waiting
        self.doubted &= waiting
        return self.find_without(gone) if gone else None

    def find_without(self, gone: Collection[str]) -> Found:
        """Drop some members; return the event that says so."""
        return self.find({u: seat for u, seat in self.state.members.items() if u not in gone})

    async def reached(self, number: int) -> None:
        """Wait until message `number` is applied; raises EngineError if it never will be."""
        if self.number >= number:
            return
        if self.over:
            raise EngineError("The rooms cannot be reached")
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append((number, waiting))
        try:
            async with asyncio.timeout(HEARD_SECONDS):
                await waiting
        except TimeoutError as error:
            raise EngineError("Not subscribed to the room yet") from error

    async def seated(self, own: OwnSeat, number: int) -> None:
        """Wait until a seat is believed; raises EngineError if its message never arrives."""
        await self.reached(number)
        if not own.place:  # a state came instead
            raise EngineError("The rooms cannot be reached")

    def advance(self) -> None:
        """Wake those that wait for a message now applied."""
        still = []
        for number, waiting in self._waiting:
            if waiting.done():
                continue
            if number <= self.number:
                waiting.set_result(None)
            else:
                still.append((number, waiting))
        self._waiting = still

    def fail(self, before: int | None = None) -> None:
        """Fail those that wait for a message that may never come: all, or those before a number."""
        still = []
        for number, waiting in self._waiting:
            if before is not None and number >= before:
                still.append((number, waiting))
            elif not waiting.done():
                waiting.set_exception(EngineError("The rooms cannot be reached"))
        self._waiting = still

    def end(self) -> None:
        """Mark the view as over, and fail all who wait for its messages."""
        self.over = True
        if self.doubting is not None:
            self.doubting.cancel()
        self.fail()
