"""Ten honest calls: rooms of two members that ping and exchange candidates, and miss nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from patience import eventually
from signalling import Framing, Signalling, connect
from target import token

CALLS = 10
PACE = 0.5  # seconds between two pings, and between two candidates, of one member


class Member:
    """One of the two in a call. `worst` is the longest round trip of each kind."""

    def __init__(self, signalling: Signalling, other: str) -> None:
        self.signalling = signalling
        self.trips: list[float] = []  # round trips of pings and of candidates, in seconds
        self.surprises: list[object] = []  # packets that an undisturbed call does not hear
        self._other = other
        self._pinged = 0.0
        self._sent = 0  # candidates
        self._answered = 0
        self._heard = 0  # candidates of the other
        self._pings = 0

    async def join(self) -> str:
        """Join the room, and return the role."""
        me = self.signalling
        answer = await me.ask("connect", {"Token": token(me.user, me.room)})
        return str(answer["Payload"])

    async def talk(self) -> None:
        """Ping and relay candidates until cancelled."""
        me = self.signalling
        while True:
            self._pinged = time.perf_counter()
            self._pings += 1
            await me.send(me.packet("ping", str(self._pings)))
            self._sent += 1
            await self._say("candidate", self._sent, time.perf_counter())
            await asyncio.sleep(PACE)

    async def listen(self) -> None:
        """Receive packets, answer candidates, and record unexpected packets."""
        while True:
            packet = await self.signalling.receive()
            header, payload = packet["Header"], packet["Payload"]
            if header["Event"] == "ping" and self._users(payload):
                self._pings -= 1
                if not self._pings:
                    self.trips.append(time.perf_counter() - self._pinged)
            elif header["Event"] == "broadcast" and header["UserId"] == self._other:
                await self._take(payload)
            else:
                self.surprises.append(packet)

    async def _say(self, kind: str, number: int, at: float) -> None:
        payload = {"Kind": kind, "Number": number, "At": at, "Candidate": "x" * 150}
        await self.signalling.send(self.signalling.packet("broadcast", payload))

    async def _take(self, payload: Mapping[str, Any]) -> None:
        if payload["Kind"] == "candidate":
            self._heard += 1
            if payload["Number"] != self._heard:
                self.surprises.append((payload["Number"], "is not the candidate", self._heard))
            await self._say("answer", payload["Number"], payload["At"])
        else:
            self._answered += 1
            self.trips.append(time.perf_counter() - payload["At"])

    def _users(self, payload: str) -> bool:
        return sorted(json.loads(payload)) == sorted((self.signalling.user, self._other))

    @property
    def waiting(self) -> int:
        """How many of its packets have no answer yet."""
        return self._pings + self._sent - self._answered


class Calls:
    """The ten calls, which send from start to end."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members

    def take_trips(self) -> list[float]:
        """Return the round trips since the last call, sorted, in seconds."""
        trips = sorted(trip for member in self.members for trip in member.trips)
        for member in self.members:
            member.trips.clear()
        return trips

    @property
    def surprises(self) -> list[object]:
        """Packets that no undisturbed call hears: errors, disconnects, gaps."""
        return [each for member in self.members for each in member.surprises]

    @property
    def waiting(self) -> int:
        """How many packets have no answer yet."""
        return sum(member.waiting for member in self.members)


async def _call(stack: AsyncExitStack, url: str, number: int) -> list[Member]:
    """Start one call, in both framings."""
    room, users = f"honest-{number}", ("caller", "callee")
    members: list[Member] = []
    for at, user in enumerate(users):
        framing: Framing = "sockjs" if (number + at) % 2 else "raw"
        signalling = await stack.enter_async_context(connect(url, framing, user=user, room=room))
        members.append(Member(signalling, users[1 - at]))
        assert await members[-1].join() == ("false" if at else "true")
    news = await members[0].signalling.receive()
    assert news["Header"]["UserId"] == users[1]
    return members


@asynccontextmanager
async def calls(url: str) -> AsyncIterator[Calls]:
    """Start ten calls at `url`; at the end they stop sending, and wait for packets in flight."""
    async with AsyncExitStack() as stack:
        members: list[Member] = []
        for number in range(CALLS):
            members += await _call(stack, url, number)
        running = Calls(members)
        async with asyncio.TaskGroup() as group:
            listening = [group.create_task(member.listen()) for member in members]
            talking = []
            for member in members:
                talking.append(group.create_task(member.talk()))
                await asyncio.sleep(PACE / len(members))  # not all at once
            yield running
            for task in talking:
                task.cancel()
            with suppress(TimeoutError):
                await eventually(lambda: not running.waiting)
            for task in listening:
                task.cancel()
