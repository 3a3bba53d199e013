"""The memory engine passes the contract of all engines, at a constant cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from counting import Unwalkable, operations
from engine_contract import HALVES, EngineContract, Recorder
from fakes import FakeClock, memory_engine, run

from videre.engines.histories import Histories
from videre.engines.memory import MemoryEngine
from videre.ids import RoomId, SeatId, UserId
from videre.peers.eagerly import eagerly
from videre.settings import JoinPolicy, Retention

TERMS = JoinPolicy()


class TestMemoryEngine(EngineContract):
    """The contract, on the engine of a single process."""

    @pytest.fixture
    def made(self, retention: Retention) -> MemoryEngine:
        """Give an engine."""
        self.clock = FakeClock()
        return memory_engine(self.clock, retention=retention)

    def pass_seconds(self, seconds: float) -> None:
        """See EngineContract.pass_seconds."""
        self.clock.advance(seconds)

    async def test_no_method_waits(self) -> None:
        """No coroutine of this engine waits, and the other methods return no awaitable."""
        engine = memory_engine(FakeClock())
        assert engine.in_process
        assert eagerly(engine.start(Recorder())) is None
        assert eagerly(engine.join("room", "a", "1", HALVES, TERMS, "one")) is None
        assert eagerly(engine.renew("room", "a", "1", "2", "two")) is None
        assert engine.publish("room", "2", "text") is None  # type: ignore[func-returns-value]
        assert engine.lose("room", "a", "2") is None  # type: ignore[func-returns-value]
        assert eagerly(engine.resume("room", "a", "3", "two", "three", 1)) is None  # type: ignore[arg-type]
        assert eagerly(engine.members("room")) is None  # type: ignore[arg-type]
        assert eagerly(engine.rooms(None, 10)) is None  # type: ignore[arg-type]
        assert len(engine.nodes()) == 1
        assert eagerly(engine.leave("room", "a", "3", "why")) is None
        assert eagerly(engine.close()) is None

    async def test_its_node(self) -> None:
        """It knows its age and its seats at once."""
        await self.join("room", "a", "1")
        self.clock.advance(90.5)
        (one,) = self.engine.nodes()
        assert one.name == "memory" and one.silent == 0.0
        assert one.about is not None and (one.about.age, one.about.members) == (90, 1)

    async def test_no_room_is_kept_without_members(self) -> None:
        """Emptied rooms, unknown rooms and refused leaves take no memory."""
        for number in range(10):
            await self.join(f"room {number}", "a", str(number))
            await self.leave(f"room {number}", "a", str(number))
            await self.leave("unknown", "a", "1")
            await self.members(f"unknown {number}")
        assert isinstance(self.engine, MemoryEngine) and self.engine._rooms == {}


def test_histories_of_quiet_rooms_are_forgotten() -> None:
    """Each packet in another room drops some of them, so that memory does not grow."""
    clock = FakeClock()
    engine = memory_engine(clock)
    run(engine.start(Recorder()))
    for number in range(100):
        run(engine.join(f"room{number}", "a", f"a{number}", HALVES, TERMS, "ticket"))
        for _ in range(3):
            engine.publish(f"room{number}", f"a{number}", "text")
    assert len(engine._histories._told) == 100
    clock.advance(61)
    for _ in range(30):
        engine.publish("room0", "a0", "text")
    assert set(engine._histories._told) == {"room0"}
    assert sum(len(history._entries) for history in engine._histories.rooms.values()) == 30


def test_forgetting_is_done_in_slices() -> None:
    """The first packet after a quiet minute has a bounded cost, however much is old."""
    clock = FakeClock()
    engine = memory_engine(clock, retention=Retention(max_bytes=None))
    run(engine.start(Recorder()))
    for room in ("busy", "quiet"):
        run(engine.join(room, "a", room, HALVES, TERMS, "ticket"))
        for _ in range(5000):
            engine.publish(room, room, "text")
    clock.advance(61)
    held = [engine._histories.rooms[RoomId(room)]._entries for room in ("busy", "quiet")]
    while held[1]:
        before = [len(entries) for entries in held]
        engine.publish("busy", "busy", "text")
        dropped = [left - len(entries) for left, entries in zip(before, held, strict=True)]
        assert max(dropped) <= 64 and sum(dropped) > 0
    assert len(held[0]) < 200  # packets published since then


def test_rooms_that_come_and_go_leave_nothing() -> None:
    """No history remains, no time of a last packet, and no byte is counted."""
    engine = memory_engine(FakeClock())
    run(engine.start(Recorder()))
    for number in range(1000):
        run(engine.join(f"room{number}", "a", f"a{number}", HALVES, TERMS, "ticket"))
        engine.publish(f"room{number}", f"a{number}", "text")
        run(engine.leave(f"room{number}", "a", f"a{number}", "why"))
    assert is_empty(engine._histories)


def is_empty(histories: Histories) -> bool:
    """Tell whether nothing is kept, and nothing counted."""
    return not (histories.rooms or histories.bytes or histories._sizes or histories._told)


class FirstTwo(Unwalkable[UserId, SeatId]):
    """Members of which only the first two, the initiator and its heir, may be iterated over."""

    def __iter__(self) -> Iterator[UserId]:  # type: ignore[override]
        first = dict.__iter__(self)
        yield next(first)
        yield next(first)
        raise AssertionError("more than two members were looked at")


def engine_with(rooms: int, members: int) -> MemoryEngine:
    """Return an engine with this many rooms, and this many members in the first of them."""
    engine = memory_engine(FakeClock())
    run(engine.start(Recorder()))
    for number in range(rooms):
        run(engine.join(f"room{number}", "user", f"seat{number}", HALVES, TERMS))
    for number in range(members - 1):
        run(engine.join("room0", f"user{number}", f"another{number}", HALVES, TERMS))
    return engine


def flow(engine: MemoryEngine) -> None:
    """Join, publish and leave in the first room."""
    run(engine.join("room0", "x", "x1", HALVES, TERMS))
    run(engine.join("room0", "x", "x2", HALVES, TERMS))
    engine.publish("room0", "x2", "text")
    run(engine.leave("room0", "user", "seat0", "the longest present"))
    run(engine.leave("room0", "x", "x2", "the last"))


@pytest.mark.parametrize(("rooms", "members"), [(1000, 2), (1, 1000)], ids=["rooms", "members"])
def test_the_cost_is_the_same_for_any_number(rooms: int, members: int) -> None:
    """Every method but `members` costs O(1) in the rooms and in the members of the room."""
    small, large = engine_with(1, 2), engine_with(rooms, members)
    large._rooms = Unwalkable(large._rooms)
    for engine in (small, large):  # both, so that the counts are comparable
        state = engine._rooms[RoomId("room0")]
        state.members = FirstTwo(state.members)
    assert operations(lambda: flow(large)) == operations(lambda: flow(small))


def test_a_closed_engine_holds_nothing() -> None:
    """Neither rooms nor names nor what was said; no timer is left."""
    clock = FakeClock()
    engine = memory_engine(clock)
    run(engine.start(Recorder()))
    run(engine.join("room", "a", "1", HALVES, TERMS, "ticket"))
    engine.publish("room", "1", "text")
    engine.lose("room", "a", "1")
    run(engine.close())
    assert not (engine._rooms or engine._held) and is_empty(engine._histories)
    assert run(engine.rooms(None, 9)) == run(engine.members("room")) == []
