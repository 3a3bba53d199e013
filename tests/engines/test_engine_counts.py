"""After a loss of data, members hear packets of which the store has no messages.

A newcomer's packets are counted from its join on. Its client counts all that it receives, so these
must not stand for packets that it missed.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import orjson
import pytest
from engine_nodes import LEASE, Node, elapse, until
from simulated_store import Cluster, Soon

from videre.engines import Gap
from videre.engines.redis import RedisEngine
from videre.engines.redis.store import RedisStore
from videre.ids import RoomId, SeatId, UserId
from videre.reasons import LOST, LeaveReason
from videre.rooms import Rooms
from videre.rooms.room import Seat

ROOM = RoomId("room")
MISSED = '{"Header":{"Event":"broadcast","UserId":"x","RoomId":"room"},"Payload":"missed"}'


class Client:
    """A connection, and what it received."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.received = 0  # since its welcome
        self.secret = ""

    def send(self, text: str) -> None:
        """See Connection.send."""
        packet = orjson.loads(text)
        self.heard.append(packet)
        self.received += 1
        if packet["Header"]["Event"] == "welcome":
            self.received, self.secret = 0, orjson.loads(packet["Payload"])["Resume"]

    def close(self, code: int, reason: str) -> None:
        """See Connection.close."""


class Two:
    """Two nodes. The second has the member x; the first has a, and is frozen since a loss."""

    def __init__(self) -> None:
        cluster = self._cluster = Cluster(Soon(), time.time, random.Random(0))
        numbers = itertools.count()
        ids = [SeatId(str(next(numbers))) for _ in range(99)]
        self.nodes: list[Node] = []
        self._rooms: list[Rooms] = []
        for name in ("one", "two"):
            store = cast(RedisStore, cluster.store(name))
            self.nodes.append(Node(RedisEngine(store, node_timeout=LEASE, node=name), self.nodes))
            rooms = Rooms(
                self.nodes[-1].engine,
                clock=time.monotonic,
                log=lambda *_, **__: None,
                spawn=lambda _: None,
                secret=lambda: f"secret {next(numbers)}",
                grace=20.0,
                seat_ids=iter(ids[len(self._rooms) :: 2]),
            )
            self._rooms.append(rooms)
        self.client = Client()

    async def start(self) -> None:
        """Let the store lose the room, and a newcomer enter it, with a welcome."""
        for rooms in self._rooms:
            await rooms.start()
        await self._enter(0, "a")
        self.x = await self._enter(1, "x")
        await self.nodes[0].freeze()
        self._cluster.server.wipe()
        self._cluster.server.process = "another"
        await until(lambda: self.nodes[1].engine._node.server == "another", self.nodes)
        await self.nodes[1].is_ready()
        self._seat = await self._enter(1, "y", self.client)

    async def close(self) -> None:
        """End both nodes."""
        for rooms in self._rooms:
            await rooms.close()

    async def _enter(self, at: int, user: str, client: Client | None = None) -> Seat:
        head = f'{{"Header":{{"Event":"connect","UserId":"{user}","RoomId":"room"}},"Payload":'
        return await self._rooms[at].join(
            UserId(user), ROOM, client or Client(), (head, "}"), welcome={}
        )

    async def gives_up(self) -> None:
        """The second node stops believing in a."""
        await elapse(1.5 * LEASE, self.nodes)

    async def returns(self) -> None:
        """The first node is back, and has restored a."""
        self.nodes[0].thaw()
        await until(lambda: self.nodes[0].engine._node.server == "another", self.nodes)
        await self.nodes[0].is_ready()
        view = self.nodes[1].engine._node.views[ROOM]
        await until(lambda: "a" in view.believed.members and not view.doubted, self.nodes)

    async def returns_late(self) -> None:
        """The first node restores a member that had been given up."""
        await self.gives_up()
        await self.nodes[1].is_ready()
        await self._resume()
        await self.returns()

    async def comes_again(self) -> None:
        """The client of a connects to the second node."""
        await self._enter(1, "a")

    async def leaves(self) -> None:
        """In the store x is the first, but a is so for the second node: nobody inherits."""
        await self._rooms[1].leave(self.x, LeaveReason.DISCONNECT)

    async def resumes(self) -> Seat | Gap | None:
        """Let the newcomer resume, after it missed a packet, if anybody can have sent one."""
        await self.nodes[1].is_ready()
        await self._rooms[1].lose(self._seat, LOST)
        if self.x.local and not self.nodes[1].engine._node.views[ROOM].doubted:
            pending = self._rooms[1].broadcast(self.x, MISSED)
            assert pending is not None
            await pending
        return await self._resume()

    async def _resume(self) -> Seat | Gap | None:
        shown, received = self.client.secret, self.client.received
        self.client = Client()
        user, halves = UserId("y"), ('{"Header":{"Event":"connect","UserId":"y"},"Payload":', "}")
        found = await self._rooms[1].resume(
            user, ROOM, self.client, halves, secret=shown, received=received
        )
        if isinstance(found, Gap):
            self._seat = await self._enter(1, "y", self.client)
        return found


@pytest.fixture
async def two() -> AsyncIterator[Two]:
    """Give two nodes, of which one has not noticed that the store lost all data."""
    two = Two()
    await two.start()
    yield two
    await two.close()


@pytest.mark.parametrize(
    "happens",
    [Two.gives_up, Two.returns_late, Two.comes_again, Two.leaves],
    ids=lambda each: each.__name__,
)
async def test_uncounted_packets_are_a_gap(
    two: Two, happens: Callable[[Two], Awaitable[None]]
) -> None:
    """The store would take them for packets that it counted: the newcomer joins anew."""
    await happens(two)
    assert isinstance(await two.resumes(), Gap)


async def test_a_newcomer_resumes_if_all_packets_were_counted(two: Two) -> None:
    """The members are back in time."""
    await two.returns()
    assert isinstance(await two.resumes(), Seat)
    assert two.client.heard[-1]["Payload"] == "missed"
