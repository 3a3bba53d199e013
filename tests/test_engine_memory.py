"""The memory engine passes the contract of all engines, and costs nothing that grows."""

from __future__ import annotations

import pytest
from counting import Unwalkable, operations
from engine_contract import HALVES, EngineContract, Recorder
from fakes import FakeClock, memory_engine

from videre.engines.memory import MemoryEngine
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

    async def test_every_method_is_done_when_it_returns(self) -> None:
        """No method of this engine returns an awaitable."""
        engine = memory_engine(FakeClock())
        assert engine.start(Recorder()) is None
        assert engine.join("room", "a", "1", HALVES, TERMS) is None
        assert engine.publish("room", "1", "text") is None
        assert engine.members("room") == ["a"]
        assert engine.leave("room", "a", "1", "why") is None
        assert engine.close() is None

    async def test_no_room_is_kept_without_members(self) -> None:
        """An emptied room, an unknown one and a refused leave take no memory."""
        for number in range(10):
            await self.join(f"room {number}", "a", str(number))
            await self.leave(f"room {number}", "a", str(number))
            await self.leave("unknown", "a", "1")
            await self.members(f"unknown {number}")
        assert self.engine._rooms == {}


def engine_with(rooms: int, members: int) -> MemoryEngine:
    """Return an engine with so many rooms, in the first of which so many members sit."""
    engine = memory_engine(FakeClock())
    engine.start(Recorder())
    for number in range(rooms):
        engine.join(f"room{number}", "user", f"seat{number}", HALVES, TERMS)
    for number in range(members - 1):
        engine.join("room0", f"user{number}", f"another{number}", HALVES, TERMS)
    return engine


def flow(engine: MemoryEngine) -> None:
    """Let things happen in the first room."""
    engine.join("room0", "x", "x1", HALVES, TERMS)
    engine.join("room0", "x", "x2", HALVES, TERMS)
    engine.publish("room0", "x2", "text")
    engine.leave("room0", "user", "seat0", "the longest present")
    engine.leave("room0", "x", "x2", "the last")


@pytest.mark.parametrize(("rooms", "members"), [(1000, 2), (1, 1000)], ids=["rooms", "members"])
def test_what_happens_costs_the_same_however_much_there_is(rooms: int, members: int) -> None:
    """Every method but `members` costs O(1) in the rooms and in the members of the room."""
    small, large = engine_with(1, 2), engine_with(rooms, members)
    large._rooms = Unwalkable(large._rooms)
    large._rooms["room0"] = Unwalkable(large._rooms["room0"])
    assert operations(lambda: flow(large)) == operations(lambda: flow(small))
