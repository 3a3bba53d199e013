"""A client of the simulation: its actions, the packets it hears, and its beliefs.

Each packet that a member hears is compared, in order, with the room's messages as published by the
store, unless the store has lost data.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from videre.engines import Gap
from videre.errors import EngineError, PeerError
from videre.ids import RoomId, UserId
from videre.packets import write_broadcast
from videre.reasons import LOST, LeaveReason
from videre.rooms.room import HELD, Seat

if TYPE_CHECKING:
    from simulation import Simulation
    from virtual_time import Process

    from videre.rooms import Rooms

RETRY_SECONDS = 0.01  # the longest wait before a client repeats a refused broadcast

#: What is compared of a packet: its event and the user concerned, or the text of a broadcast.
Heard = tuple[str, ...]


class Session:
    """One connection, and the client at its end."""

    def __init__(
        self, simulation: Simulation, process: Process, rooms: Rooms, user: str, room: str
    ) -> None:
        self.simulation = simulation
        self.process = process
        self.rooms = rooms
        self.user = user
        self.room = room
        self.number = simulation.next_number()
        self.up = True  # whether data arrives, and nobody has hung up
        self.gone = False  # as in Peer.gone
        self.code: int | None = None  # the code of the server's close
        self.busy = False
        self.seat: Seat | None = None  # as in Peer
        self.resuming = False
        self.attempts = 0
        self.refused = False
        self.left = False
        # Beliefs.
        self.entered = False
        self.role = ""
        self.welcomed = False
        self.secret: str | None = None
        self.received = 0  # since the welcome with the secret
        # The expected packets.
        self.cursor = 0
        self.expected: deque[Heard] = deque()
        self.over = False  # its seat is lost: nothing more may come
        self.latest: dict[str, int] = {}  # the last broadcast received from each sender
        self.numbers: set[int] = set()  # all broadcasts received

    def __repr__(self) -> str:
        return f"{self.user}#{self.number}@{self.process.name}"

    @property
    def believes(self) -> bool:
        """Whether the client believes that it is a member."""
        return self.entered and self.up and not (self.refused or self.left) and self.code is None

    @property
    def sits(self) -> bool:
        """See Peer.seat."""
        if self.seat is not None and self.seat.state is not HELD:
            self.seat = None
        return self.seat is not None and self.up and self.code is None and not self.gone

    # What the transport and the peer do.

    def send(self, text: str) -> None:
        """See Connection.send."""
        if self.code is not None:
            return
        if self.up and not self.process.crashed:
            self.hear(text)

    def close(self, code: int, reason: str) -> None:
        """See Connection.close."""
        if self.code is None:
            self.code = code
            self.gone = True
            self.simulation.note(f"{self!r} is closed with {code}")

    async def enter(self, secret: str | None, welcome: bool) -> None:
        """Connect, like videre.peers.connect."""
        replace = False
        self.refused = False
        self.attempts += 1
        try:
            if secret is not None:
                self.resuming = True
                shown: Any = {"secret": secret, "received": self.received}
                found = await self.rooms.resume(self.user, self.room, self, self._halves(), **shown)
                if isinstance(found, Seat):
                    await self._sit(found)
                    return
                replace = isinstance(found, Gap)
            self.resuming = False
            self.entered = False
            self.over = False
            self.expected.clear()
            greeting: dict[str, object] | None = {} if welcome else None
            seat = await self.rooms.join(
                self.user, self.room, self, self._halves(), welcome=greeting, replace=replace
            )
            await self._sit(seat)
        except (EngineError, PeerError) as error:
            self.refused = True
            self.simulation.note(f"{self!r} is refused: {error}")
        finally:
            self.busy = False

    async def _sit(self, seat: Seat) -> None:
        if self.gone:
            await self.rooms.leave(seat, LeaveReason.CONNECTION_LOST)
        else:
            held, self.seat = self.seat, seat
            if held is not None and held is not seat and held.state is HELD:
                await self.rooms.leave(held, LeaveReason.MOVED)

    def _halves(self, more: str = "") -> tuple[str, str]:
        head = f'"Event":"connect","UserId":"{self.user}","RoomId":"{self.room}"{more}'
        return f'{{"Header":{{{head}}},"Payload":', "}"

    async def renew(self) -> None:
        """Connect again to its own room."""
        try:
            if not self.sits or self.seat is None:
                return
            await self._sit(await self.rooms.renew(self.seat, self._halves(',"Again":true')))
        except EngineError as error:
            self.simulation.note(f"{self!r} has no new welcome: {error}")
        finally:
            self.busy = False

    async def broadcast(self, to: Sequence[str] | None, tries: int) -> None:
        """Broadcast; repeat refused ones within milliseconds, up to a number of times."""
        try:
            while self.sits and tries > 0 and not await self._says(to):
                tries -= 1
                await asyncio.sleep(RETRY_SECONDS * self.simulation.random.random())
        finally:
            self.busy = False

    async def _says(self, to: Sequence[str] | None) -> bool:
        """Broadcast a number; return whether it was accepted."""
        assert self.seat is not None
        number = self.simulation.next_text()
        self.simulation.note(f"{self!r} broadcasts {number} to {to}")
        try:
            text = write_broadcast(self.user, self.room, number)
            pending = self.rooms.broadcast(self.seat, text, to)
            if pending is not None:
                await pending
        except EngineError as error:
            self.simulation.note(f"{self!r} cannot broadcast {number}: {error}")
            return False
        self.simulation.accepted.add(number)
        return True

    async def leave(self, reason: LeaveReason) -> None:
        """Leave the seat, with a packet or a normal close."""
        try:
            if self.seat is not None:
                await self.rooms.leave(self.seat, reason)
        except EngineError as error:
            self.simulation.note(f"{self!r} leaves in trouble: {error}")
        finally:
            self.busy = False

    async def lose(self) -> None:
        """Let the transport notice that the connection is lost."""
        self.gone = True
        try:
            if self.seat is not None:
                await self.rooms.lose(self.seat, LOST)
        except EngineError as error:
            self.simulation.note(f"{self!r} is lost in trouble: {error}")

    # Packets from the server.

    def inherit(self, old: Session) -> None:
        """Resume the seat of another session, which was lost."""
        self.entered, self.role, self.welcomed = old.entered, old.role, old.welcomed
        self.secret, self.received = old.secret, old.received
        self.cursor, self.expected, self.over = old.cursor, deque(old.expected), old.over
        self.latest = dict(old.latest)

    def hear(self, text: str) -> None:
        """Process a packet."""
        simulation = self.simulation
        body = orjson.loads(text)
        header, payload = body["Header"], body["Payload"]
        event, user = header["Event"], header["UserId"]
        if simulation.trace:
            simulation.note(f"    {self!r} hears {event} {user} {payload}")
        if header["RoomId"] != self.room:
            simulation.fail(f"{self!r} hears of another room: {text}")
        if event == "welcome":
            self.welcomed = True
            told = orjson.loads(payload)
            self.secret, self.received = told["Resume"], 0
            if self.user not in told["Users"]:
                simulation.fail(f"{self!r} is not in its own welcome: {text}")
            return
        if event == "connect" and user == self.user and (not self.entered or self.resuming):
            self.role = payload
            if not self.resuming:
                seat = self.rooms._replica.rooms[RoomId(self.room)].seats[UserId(self.user)]
                assert seat.connection is self
                self.cursor = simulation.joins[self.room, seat.id]
            self.entered, self.resuming = True, False
            return
        if self.refused or (not self.entered and self.attempts > 1):
            return  # of a seat that the store granted after an error, and that is then left
        if not self.entered:
            simulation.fail(f"{self!r} hears before its own connect: {text}")
        if self.left:
            simulation.fail(f"{self!r} hears after it has left: {text}")
        if self.secret is not None:
            self.received += 1
        if "Again" in header:
            self.role = payload
            return
        if event == "broadcast":
            number = int(payload)
            if user and number <= self.latest.get(user, -1):  # hosts are many, and wait for nothing
                simulation.fail(f"{self!r} hears out of order: {text}")
            self.latest[user] = number
            self.numbers.add(number)
            self._check(("broadcast", user, str(number)))
        elif event == "connect" and user == self.user:
            self.role = payload
            self._check(("role", user))
        else:
            self._check((event, user))

    def _check(self, heard: Heard) -> None:
        if self.simulation.lossy:
            return
        expected = self.next_expected()
        if expected == heard:
            self.expected.popleft()
        else:
            self.simulation.fail(f"{self!r} hears {heard}, should {expected}")

    def next_expected(self) -> Heard | None:
        """Return the next packet that the client should hear, from the store's messages."""
        ledger = self.simulation.ledger[self.room]
        expected, me = self.expected, self.user
        while not expected and not self.over and self.cursor < len(ledger):
            line, body = ledger[self.cursor]
            self.cursor += 1
            kind, user = line[1], line[2]
            if kind == "joined":
                expected.append(("connect", user))
            elif kind == "sent":
                if user != me and (line[4] is False or me in line[4]):
                    expected.append(("broadcast", user, str(orjson.loads(body)["Payload"])))
            elif kind == "left":
                if user == me:
                    self.over = True
                else:
                    expected.append(("disconnect", user))
                    if line[6] == me or (line[6] and self.welcomed):
                        expected.append(("role", line[6]))
        return expected[0] if expected else None
