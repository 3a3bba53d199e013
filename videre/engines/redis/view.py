"""What a node believes of one room: its members, and up to which message it has heard of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

from videre.errors import EngineError

# Seconds after which a message that ought to be heard is not waited for any longer: longer than it
# takes to see that nothing is heard at all.
HEARD_SECONDS = 10.0


@dataclasses.dataclass
class OwnSeat:
    """A seat of this node's: of one of its sessions, lost by one, or adopted from a dead node."""

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
    """A member, on whatever node."""

    seat: str
    node: str
    place: float


@dataclasses.dataclass(frozen=True)
class State:
    """Who is in a room, as the store has answered it (room.lua, `state`)."""

    number: int  # of the last message before it; 0: there is no such room
    born: str  # the room's first number; "": there is no such room
    members: dict[str, Member]

    @classmethod
    def of(cls, number: str, born: str, seats: Sequence[str]) -> State:
        """Return what an answer holds: `seats` is a user, its seat as it is kept, and so on."""
        members = {}
        for user, kept in zip(seats[::2], seats[1::2], strict=True):
            seat, node, place = kept.split("\n")
            members[user] = Member(seat, node, float(place))
        return cls(int(number), born, members)


class View:
    """One room, as its messages have told it."""

    def __init__(self, room: str, looking: asyncio.Task[None]) -> None:
        self.room = room
        self.looking = looking  # until the room's messages are heard
        self.interest = 0  # how many want to take a seat just now
        self.own: dict[str, OwnSeat] = {}
        self.known = False  # whether a state is believed
        self.states = 0  # how often one was
        self._asking = asyncio.Lock()  # one at a time asks for it
        self.heard = 0  # the number of the last message that came
        self.told: State | None = None  # a state that was answered before its message came
        self.born = ""  # the room's first number; another one says that the store has lost data
        self.number = 0  # of the last message that was believed
        self.members: dict[str, Member] = {}
        self.doubted: set[str] = set()  # members of whom the store knows nothing any more
        self.doubting: asyncio.TimerHandle | None = None
        self.catching = False
        self.early: list[tuple[list[Any], str]] = []  # messages that came before their turn
        self.strayed = False  # whether the last message was lost: early ones wait for a state
        self.over = False  # whether nothing more will be heard
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @contextlib.asynccontextmanager
    async def turn_to_ask(self) -> AsyncIterator[None]:
        """Wait until nobody else asks for the state; raises EngineError if that takes long."""
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
        """The first number of the state that is known; "": none is."""
        return self.born if self.known else ""

    def become(self, state: State) -> None:
        """Believe a state, and in those beside it who are doubted. Later messages stay early."""
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
        """Tell whether the store does not know of a seat that this node had."""
        held = self.members.get(own.user)
        seated = held is not None and held.seat == own.seat and own.user not in self.doubted
        return own.place > 0 and not seated

    def add(self, user: str, seat: str, node: str, place: float) -> None:
        """Believe that a user took a seat."""
        self.members[user] = Member(seat, node, place)
        if (own := self.own.get(seat)) is not None:
            own.place = place

    def move(self, user: str, seat: str, to: str, node: str) -> None:
        """Believe that a user has another seat at the same place."""
        held = self.members.get(user)
        if held is not None and held.seat == seat:
            self.add(user, to, node, held.place)

    def remove(self, user: str, seat: str) -> None:
        """Believe that a user gave up a seat."""
        held = self.members.get(user)
        if held is not None and held.seat == seat:
            del self.members[user]

    def dispel(self, restoring: set[str]) -> bool:
        """Believe in doubted members no longer, but for those whose nodes still put things right.

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
        """Return when the message of a number was believed; raises EngineError if it never will."""
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
        """Return when a seat is believed in; raises EngineError if its message is never heard."""
        await self.reached(number)
        if not own.place:  # there was a state instead
            raise EngineError("The rooms cannot be reached")

    def advance(self) -> None:
        """Wake those who wait for a message that was believed."""
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
        """Wake those who wait for a message that may never come: all, or those before a number."""
        still = []
        for number, waiting in self._waiting:
            if before is not None and number >= before:
                still.append((number, waiting))
            elif not waiting.done():
                waiting.set_exception(EngineError("The rooms cannot be reached"))
        self._waiting = still

    def end(self) -> None:
        """Hear nothing more, and let nobody wait for it."""
        self.over = True
        if self.doubting is not None:
            self.doubting.cancel()
        self.fail()
