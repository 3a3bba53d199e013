"""A node's view of one room: its members, and the last message applied."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

from videre.errors import EngineError

# Seconds to wait for a message: longer than it takes to notice a lost subscription.
HEARD_SECONDS = 10.0


@dataclasses.dataclass
class OwnSeat:
    """A seat of this node: of a session, lost by one, or adopted from a dead node."""

    seat: str
    user: str
    room: str
    ticket: str | None
    place: float = 0.0  # in joining order; 0: not known yet
    lost: bool = False
    seen: int | None = None  # see Engine.lose
    leaving: bool = False


@dataclasses.dataclass(frozen=True)
class Member:
    """A member, on any node."""

    seat: str
    node: str
    place: float


@dataclasses.dataclass(frozen=True)
class State:
    """The members of a room, as the store answers (room.lua, `state`)."""

    number: int  # of the last message before it; 0: no such room
    born: str  # the room's first number; "": no such room
    members: dict[str, Member]

    @classmethod
    def of(cls, number: str, born: str, seats: Sequence[str]) -> State:
        """Parse an answer; `seats` alternates users and their stored seats."""
        members = {}
        for user, kept in zip(seats[::2], seats[1::2], strict=True):
            seat, node, place = kept.split("\n")
            members[user] = Member(seat, node, float(place))
        return cls(int(number), born, members)


class View:
    """One room, as its messages describe it."""

    def __init__(self, room: str, looking: asyncio.Task[None]) -> None:
        self.room = room
        self.looking = looking  # until the room is noted and subscribed
        self.interest = 0  # steps in progress that want a seat
        self.own: dict[str, OwnSeat] = {}
        self.known = False  # whether a state is believed
        self.states = 0  # number of states believed
        self._asking = asyncio.Lock()  # one step at a time asks for the state
        self.heard = 0  # the number of the last message received
        self.told: State | None = None  # a state answered before its messages arrived
        self.born = ""  # the room's first number; a different one means that the store lost data
        self.number = 0  # of the last message applied
        self.members: dict[str, Member] = {}
        self.doubted: set[str] = set()  # members that the store no longer has
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

    def become(self, state: State) -> None:
        """Believe a state; doubt the members it lacks. Later messages stay early."""
        self.doubted = {user for user in self.members if user not in state.members}
        if not state.born:  # there is no such room
            self.doubted.clear()
            self.members.clear()
        self.members |= state.members
        self.known, self.number, self.born = bool(state.born), state.number, state.born
        self.states += 1
        self.early = [each for each in self.early if int(each[0][0]) > self.number]
        self.strayed = False
        self.advance()

    def lacks(self, own: OwnSeat) -> bool:
        """Return whether the store lacks a seat that this node had."""
        held = self.members.get(own.user)
        seated = held is not None and held.seat == own.seat and own.user not in self.doubted
        return own.place > 0 and not seated

    def add(self, user: str, seat: str, node: str, place: float) -> None:
        """Record that a user took a seat."""
        self.members[user] = Member(seat, node, place)
        if (own := self.own.get(seat)) is not None:
            own.place = place

    def move(self, user: str, seat: str, to: str, node: str) -> None:
        """Record that a user moved to another seat at the same place."""
        held = self.members.get(user)
        if held is not None and held.seat == seat:
            self.add(user, to, node, held.place)

    def remove(self, user: str, seat: str) -> None:
        """Record that a user gave up a seat."""
        held = self.members.get(user)
        if held is not None and held.seat == seat:
            del self.members[user]

    def dispel(self, restoring: set[str]) -> bool:
        """Drop the doubted members, except those whose nodes are still restoring.

        Returns whether there were any.
        """
        waiting = {user for user, member in self.members.items() if member.node in restoring}
        gone = self.doubted - waiting
        self.doubted &= waiting
        for user in gone:
            self.members.pop(user, None)
        return bool(gone)

    def pairs(self) -> list[tuple[str, str]]:
        """Return the users and their seats, in joining order."""
        places = sorted((member.place, user) for user, member in self.members.items())
        return [(user, self.members[user].seat) for _, user in places]

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
