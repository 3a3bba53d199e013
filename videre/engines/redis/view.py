"""A node's view of one room: its members, and the last message applied."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import math
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any

from videre.engines.events import Event, Found, Joined, Left, Moved
from videre.engines.state import RoomState
from videre.errors import EngineError
from videre.ids import Digest, RoomId, SeatId, UserId


class ViewState(enum.StrEnum):
    """What a node knows of a room (docs/cluster-protocol.md)."""

    UNKNOWN = "unknown"  # messages are heard, but there is no state to apply them to
    KNOWN = "known"  # all messages up to `number`, and the members that follow from them
    STRAYED = "strayed"  # the store does not know the last message: later ones wait for a state
    OVER = "over"  # dropped; the room may have another view by now


UNKNOWN, KNOWN, STRAYED, OVER = ViewState

#: The allowed changes of state. A state of the room, a loss of data or a trimmed log may come at
#: any time, also twice; but nothing may happen to a view that is over.
MOVES: Mapping[ViewState, frozenset[ViewState]] = {
    **dict.fromkeys((UNKNOWN, KNOWN, STRAYED), frozenset(ViewState)),
    OVER: frozenset(),
}

# Seconds to wait for a message: longer than it takes to notice a lost subscription.
HEARD_SECONDS = 10.0


@dataclasses.dataclass
class OwnSeat:
    """A seat of this node: of a session, lost by one, or adopted from a dead node.

    An adopted seat is in no view's `own`, because it needs no messages.
    """

    seat: SeatId
    user: UserId
    room: RoomId
    ticket: Digest | None
    place: float = 0.0  # in joining order; 0: not known yet
    last_id: str = "null"  # of its last packet, see Engine.publish
    grace: asyncio.TimerHandle | None = None  # of a lost or adopted seat
    leaving: str = ""  # why it is given up; from then on it is not restored; never "" again


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
        self.state = UNKNOWN
        self.states = 0  # number of states believed
        self._asking = asyncio.Lock()  # one step at a time asks for the state
        self.heard = 0  # the number of the last message received
        self.told: Answer | None = None  # a state answered before its messages arrived
        self.born = ""  # the room's first number; a different one means that the store lost data
        self.number = 0  # of the last message applied
        self.believed = RoomState()
        self.positions: dict[UserId, Position] = {}
        self.doubted: set[UserId] = set()  # members that the store no longer has
        self.doubting: asyncio.TimerHandle | None = None
        self.uncounted = False  # whether its members heard packets that the store does not count
        self.catching = False  # whether the log is asked for missing messages, in any state
        self.early: list[tuple[list[Any], str]] = []  # messages that wait for their turn
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
        return self.born if self.state is KNOWN else ""

    @property
    def is_blank(self) -> bool:
        """Whether it says nothing about the members: a join may just have begun it."""
        return self.state is UNKNOWN and not self.believed.members

    def become(self, state: ViewState) -> None:
        """Change the state; raises ValueError for a change that MOVES does not allow: a bug."""
        if state not in MOVES[self.state]:
            raise ValueError(f"a view that is {self.state} cannot be {state}")
        self.state = state

    def believe(self, answer: Answer) -> None:
        """Believe a state; doubt the members it lacks. Later messages stay in `early`."""
        members = self.believed.members if answer.born else {}  # else there is no such room
        self.doubted = members.keys() - answer.seats.keys()
        self.positions |= answer.positions
        self.find(members | answer.seats)
        self.become(KNOWN if answer.born else UNKNOWN)
        self.number, self.born = answer.number, answer.born
        self.states += 1
        self.early = [each for each in self.early if int(each[0][0]) > self.number]
        self.advance()

    def find(self, seats: Mapping[UserId, SeatId]) -> Found:
        """Make these users the members; return the event that says so, in joining order."""
        self.positions = {user: self.positions[user] for user in seats}
        members = sorted(seats.items(), key=lambda each: (self.positions[each[0]].number, each[0]))
        event = Found(members)
        self.believed.apply(event)
        return event

    def follow(self, event: Event, node: str = "", number: float = 0.0) -> None:
        """Apply an event of one member: its seat is on `node`, and a new one has this number."""
        if not self.believed.apply(event):
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
        seated = self.believed.holds(own.user, own.seat) and own.user not in self.doubted
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
        return self.find({u: seat for u, seat in self.believed.members.items() if u not in gone})

    async def reached(self, number: int) -> None:
        """Wait until message `number` is applied; raises EngineError if it never will be."""
        if self.number >= number:
            return
        if self.state is OVER:
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
        if not own.place or own.leaving:  # a state came instead, or the members must reconnect
            raise EngineError("The rooms cannot be reached")

    def advance(self) -> None:
        """Wake those that wait for a message now applied."""
        if self._waiting:
            for waiting in self._due(self.number):
                waiting.set_result(None)

    def fail(self, before: int | None = None) -> None:
        """Fail those that wait for a message that may never come: all, or those before a number."""
        for waiting in self._due(math.inf if before is None else before - 1):
            waiting.set_exception(EngineError("The rooms cannot be reached"))

    def _due(self, number: float) -> list[asyncio.Future[None]]:
        """Remove those that wait for a message up to this number; return those that still do."""
        due = [waiting for at, waiting in self._waiting if at <= number]
        self._waiting = [each for each in self._waiting if each[0] > number]
        return [waiting for waiting in due if not waiting.done()]

    def end(self) -> None:
        """Mark the view as over, and fail all who wait for its messages."""
        self.become(OVER)
        if self.doubting is not None:
            self.doubting.cancel()
        self.fail()
