"""The store's cost of one step, as its own CPU time, by members, names, bytes and histories.

A step for one member costs the same in any room; a step about a whole room, or about many missed
packets, costs in proportion. We measure the processor time of the server's only command thread
(Linux), answers and messages included: INFO commandstats is higher when other programs use the
processor.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from growth import FLOOR, ROUNDS, WORSE, Figures, check_async
from redis import Redis
from valkey_server import Valkey, valkey

from videre.engines.redis.store import KEYS, RedisStore

pytestmark = pytest.mark.process

LARGEST = 1024
AT_ONCE = 32  # calls
SAID = '["{\\"Header\\":{\\"Event\\":\\"connect\\"},\\"Payload\\":","}"]'
STEPS = 8  # measured together: a single one is too short for the clock


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Run a server."""
    async with valkey(tmp_path) as running:
        yield running


class Rooms:
    """A store whose rooms are made by its scripts, with the clock of its server."""

    def __init__(self, server: Valkey, keep_bytes: int | None = 256 * 1024) -> None:
        self.store = RedisStore(server.url, uuid.uuid4().hex, keep_ms=60_000, keep_bytes=keep_bytes)
        self._client = Redis.from_url(server.url, decode_responses=True)
        self._schedule = Path(f"/proc/{server.pid}/schedstat")
        self._fresh = (f"fresh-{number}" for number in itertools.count())
        self.seats: dict[tuple[str, str], str] = {}

    def clock(self) -> float:
        """Return the CPU seconds that the server's command thread has used."""
        return int(self._schedule.read_text().split()[0]) / 1e9

    def fresh(self) -> str:
        """Return a name that no other call returned."""
        return next(self._fresh)

    async def step(self, room: str, op: str, *arguments: str) -> Any:
        """Take a step, which must succeed."""
        answer = await self.store.step(room, op, *arguments)
        assert not isinstance(answer, list) or answer[0] not in ("gone", "gap", "wrong", "none")
        return answer

    async def born(self, room: str) -> str:
        """Return what a node must know to take part in a room."""
        return str(self._client.hget(f"{self.store._tag(room)}:room", "born") or "")

    async def join(self, room: str, user: str, *, node: str = "far", known: str = "") -> Any:
        """Seat a user, who may resume."""
        seat = self.seats[room, user] = self.fresh()
        ticket = f"ticket of {user}"
        return await self.step(room, "join", room, user, seat, node, "1", "", ticket, known, SAID)

    async def leave(self, room: str, user: str) -> None:
        """Have a user leave."""
        await self.step(room, "leave", user, self.seats.pop((room, user)), "disconnect", "")

    async def publish(self, room: str, text: str = "text", to: list[str] | None = None) -> None:
        """Have the first member send something."""
        names = "" if to is None else orjson.dumps(to).decode()
        await self.step(room, "publish", "u0", self.seats[room, "u0"], names, "7", text, "")

    async def resume(self, room: str, user: str, received: str) -> Any:
        """Have a user resume, under the same ticket."""
        to, ticket = self.fresh(), f"ticket of {user}"
        known = await self.born(room)
        answer = await self.step(room, "resume", user, to, "far", ticket, ticket, received, known)
        self.seats[room, user] = to
        return answer

    async def age(self, room: str, count: int) -> None:
        """Put packets before the log that have been there for years."""
        log = f"{self.store._tag(room)}:log"
        for number in range(count):
            self._client.lpush(log, f'["{9 - number}","sent"]')

    def logged(self, room: str) -> int:
        """Return how many messages the log has."""
        return int(self._client.llen(f"{self.store._tag(room)}:log"))

    async def fill(self, room: str, count: int) -> None:
        """Add this many members."""
        await self.join(room, "u0")
        known = await self.born(room)
        for start in range(1, count, AT_ONCE):
            some = range(start, min(start + AT_ONCE, count))
            await asyncio.gather(*(self.join(room, f"u{n}", known=known) for n in some))


@pytest.fixture
async def rooms(server: Valkey) -> AsyncIterator[Rooms]:
    """Give a store."""
    rooms = Rooms(server)
    yield rooms
    await rooms.store.close()


async def sized(rooms: Rooms) -> list[int]:
    """Make a room of each size, named by it; return the sizes."""
    sizes = Figures(LARGEST, dense=None, most=None).sizes
    for size in sizes:
        await rooms.fill(str(size), size)
    return sizes


async def flat(rooms: Rooms, sizes: list[int], work: Callable[[str], Awaitable[object]]) -> None:
    """Check that work costs the same in a large and a small room; a busy machine only adds."""
    spent = dict.fromkeys(sizes, float("inf"))
    for _ in range(ROUNDS):
        for size in sizes:
            began = rooms.clock()
            for _ in range(STEPS):
                await work(str(size))
            spent[size] = min(spent[size], (rooms.clock() - began) / STEPS)
        if spent[sizes[-1]] < WORSE * max(FLOOR, spent[sizes[0]]):
            return
    raise AssertionError({size: f"{seconds * 1e6:.0f} us" for size, seconds in spent.items()})


async def test_a_step_for_one_member_costs_the_same_in_any_room(rooms: Rooms) -> None:
    """This covers a join and leave, a packet to all or one, a renewal, and an empty resume."""
    sizes = await sized(rooms)

    async def comes_and_goes(room: str) -> None:
        answer = await rooms.join(room, "x", known=await rooms.born(room))
        assert len(answer) == 2
        await rooms.leave(room, "x")

    async def renews(room: str) -> None:
        to = rooms.fresh()
        await rooms.step(room, "renew", "u0", rooms.seats[room, "u0"], to, "far", "ticket of u0")
        rooms.seats[room, "u0"] = to

    await flat(rooms, sizes, comes_and_goes)
    await flat(rooms, sizes, rooms.publish)
    await flat(rooms, sizes, lambda room: rooms.publish(room, to=["u1"]))
    await flat(rooms, sizes, renews)
    await flat(rooms, sizes, lambda room: rooms.resume(room, "u0", "99999"))


async def check_rooms(
    rooms: Rooms, work: Callable[[int], Awaitable[object]], *, most: float, largest: int = LARGEST
) -> None:
    """Check that the cost of work grows in proportion to a size, at most `most` s for each."""
    await check_async(
        lambda size: size,
        work,
        largest=largest,
        most=most,
        weigh=lambda size: size,
        clock=rooms.clock,
    )


async def test_steps_about_all_members_cost_in_proportion(rooms: Rooms) -> None:
    """This covers a new node's state, the list of members, a repair, and a dead node's burial."""
    await sized(rooms)

    async def comes_alone(size: int) -> None:
        answer = await rooms.join(str(size), "x", node="near")
        assert len(answer[2][2]) == 2 * size
        await rooms.leave(str(size), "x")

    async def is_listed(size: int) -> None:
        assert len((await rooms.step(str(size), "members", ""))[1]) == size

    async def is_put_right(size: int) -> None:
        room = str(size)
        own = [[user, seat, 0, ""] for (in_, user), seat in rooms.seats.items() if in_ == room]
        text, known = orjson.dumps(own).decode(), await rooms.born(room)
        assert await rooms.step(room, "restore", room, "far", text, known) == ["ok", [], []]

    held = {str(size): "far" for size in range(LARGEST + 1)}

    async def is_buried(size: int) -> None:
        dead = held[str(size)]
        heir = "near" if dead == "far" else "far"
        adopted, start = 0, "-inf"
        while start:
            _, some, start = await rooms.step(str(size), "reap", dead, heir, start, "100")
            adopted += len(some)
        held[str(size)] = heir
        assert adopted == size

    await check_rooms(rooms, comes_alone, most=20e-6)
    await check_rooms(rooms, is_listed, most=10e-6)
    await check_rooms(rooms, is_put_right, most=50e-6)
    await check_rooms(rooms, is_buried, most=500e-6)


async def test_a_slice_of_a_burial_costs_the_same_in_any_room(rooms: Rooms) -> None:
    """A large room does not block the store for others in one long step."""
    sizes = await sized(rooms)
    held = dict.fromkeys(map(str, sizes), "far")

    async def is_begun(room: str) -> None:
        dead = held[room]
        held[room] = "near" if dead == "far" else "far"
        most = str(min(sizes))
        _, adopted, _ = await rooms.step(room, "reap", dead, held[room], "-inf", most)
        assert len(adopted) == min(sizes)

    await flat(rooms, sizes, is_begun)


async def test_restoring_a_room_costs_in_proportion(rooms: Rooms) -> None:
    """After a loss of data, a node restores all its members in one step."""

    async def is_put_back(size: int) -> None:
        room = rooms.fresh()
        own = [[f"user {n}", f"seat {n}", n + 1, f"ticket {n}"] for n in range(size)]
        answer = await rooms.step(room, "restore", room, "far", orjson.dumps(own).decode(), "1")
        assert len(answer[3][2]) == 2 * size

    await check_rooms(rooms, is_put_back, most=500e-6)


@pytest.mark.parametrize("op", ["resume", "since"])
async def test_missed_packets_cost_in_proportion(rooms: Rooms, op: str) -> None:
    """A member or a node that was cut off gets many small packets again."""
    sizes, numbers = Figures(LARGEST, dense=None, most=None).sizes, {}
    for size in sizes:
        room = str(size)
        await rooms.fill(room, 2)
        numbers[size] = await rooms.store._client.hget(f"{rooms.store._tag(room)}:room", "seq")
        for _ in range(size):
            await rooms.publish(room)

    async def again(size: int) -> None:
        room = str(size)
        if op == "resume":
            answer = await rooms.resume(room, "u1", "0")
            assert len(answer[3]) == size
        else:
            answer = await rooms.step(room, "since", numbers[size], await rooms.born(room))
            assert answer[0] == "ok" and len(answer[1]) >= size

    await check_rooms(rooms, again, most=50e-6)


async def test_a_packet_costs_in_proportion_to_its_bytes(rooms: Rooms) -> None:
    """Naming receivers costs in proportion too, even when a name is repeated."""
    await rooms.fill("room", 2)

    async def is_long(size: int) -> None:
        await rooms.publish("room", "x" * size)

    async def is_for_many(size: int) -> None:
        await rooms.publish("room", to=[f"nobody {n}" for n in range(size)])

    async def is_for_one_again_and_again(size: int) -> None:
        await rooms.publish("room", to=["u1"] * size)

    await check_rooms(rooms, is_long, largest=65536, most=100e-9)
    await check_rooms(rooms, is_for_many, most=20e-6)
    await check_rooms(rooms, is_for_one_again_and_again, most=20e-6)


async def test_long_names_cost_in_proportion(rooms: Rooms) -> None:
    """A user's name has at most 128 characters of four bytes; this test tries more."""
    await rooms.fill("room", 2)

    async def is_long(size: int) -> None:
        user = "\U0001f600" * (size // 4)
        known = await rooms.born("room")
        await rooms.join("room", user, known=known)
        await rooms.publish("room", to=[user])
        await rooms.leave("room", user)

    await check_rooms(rooms, is_long, largest=8192, most=1e-6)


async def test_making_space_in_a_history_costs_in_proportion(rooms: Rooms) -> None:
    """A packet that displaces many small ones pays for those, and no more."""
    await rooms.fill("room", 2)
    small = "x" * 100
    large = "x" * (256 * 1024 - 1000)

    async def is_filled(size: int) -> None:
        await rooms.publish("room", large)
        for _ in range(size):
            await rooms.publish("room", small)
        await rooms.publish("room", large)

    await check_rooms(rooms, is_filled, most=500e-6)


@pytest.mark.parametrize("size", [1, 100, 3000])
async def test_a_history_keeps_to_its_memory(rooms: Rooms, size: int) -> None:
    """The history of a room is bounded in bytes, for small packets and large ones."""
    await rooms.fill("room", 2)
    tag = rooms.store._tag("room")
    for _ in range(2 * 256 * 1024 // (size + 80) // AT_ONCE + 1):
        some = (rooms.publish("room", "x" * size, to=["u1"]) for _ in range(AT_ONCE))
        await asyncio.gather(*some)
    client = rooms.store._client
    used = {key: await client.memory_usage(f"{tag}:{key}", samples=0) or 0 for key in KEYS}
    assert used["log"] <= 1.25 * 256 * 1024
    assert sum(used.values()) - used["log"] <= 4096


async def test_an_unlimited_history_ages(server: Valkey) -> None:
    """What is older than any resume may be leaves it, although new packets keep it alive."""
    rooms = Rooms(server, keep_bytes=None)
    try:
        await rooms.fill("room", 2)
        before = rooms.logged("room")
        await rooms.age("room", 3)
        for _ in range(5):
            await rooms.publish("room")
        assert rooms.logged("room") == before + 5
    finally:
        await rooms.store.close()
