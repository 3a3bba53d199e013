"""An engine finds a room again: members here are told how it differs."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import World
from guests import guest

from videre.engines import Listener
from videre.engines.events import Found
from videre.engines.memory import MemoryEngine
from videre.errors import CloseCode
from videre.ids import RoomId, SeatId, UserId


class Frank(MemoryEngine):
    """A scripted engine."""

    listener: Listener

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.seats: dict[str, str] = {}

    async def join(self, room: RoomId, user: UserId, seat: SeatId, *more: Any) -> None:
        """See Engine.join."""
        self.seats[user] = seat
        await super().join(room, user, seat, *more)

    async def start(self, listener: Listener) -> None:
        """See Engine.start."""
        self.listener = listener
        await super().start(listener)


@pytest.fixture
def world() -> World:
    """Give a namespace on such an engine."""
    return World(Frank)


def find(world: World, *users: str, elsewhere: tuple[str, ...] = ()) -> None:
    """Let the engine find these members; some have a seat on another node."""
    engine = world.engine
    assert isinstance(engine, Frank)
    seats = {**engine.seats, **dict.fromkeys(elsewhere, "elsewhere")}
    engine.listener.hear("room", Found([(user, seats[user]) for user in users]))


def test_a_new_initiator(world: World) -> None:
    """The old one and the new one each hear their role once; the others hear nothing."""
    a, b, c = world.members("a", "b", "c")
    find(world, "b", "a", "c")
    assert a.heard() == [("connect", "a", "room", "false")]
    assert b.heard() == [("connect", "b", "room", "true")]
    assert c.heard() == []
    assert world.log.of("promote") == [{"room": "room", "user": "b"}]
    find(world, "b", "a", "c")
    assert a.heard() == b.heard() == []  # nothing has changed since then


def test_members_that_are_found_are_counted() -> None:
    """The census has the members of all nodes, with those that came and without those that went."""
    world = World(Frank)
    world.members("a", "b")
    find(world, "a", "c", "d", elsewhere=("c", "d"))
    assert world.rooms.census.largest(1) == [("room", 3)]
    find(world)
    assert world.rooms.census.members == 0


def test_welcomed_members_hear_of_the_new_initiator(world: World) -> None:
    """They get the role packet, as after any promotion."""
    a, _ = guest(world, "a")
    b, _ = guest(world, "b")
    c, _ = guest(world, "c")
    for each in (a, b, c):
        each.texts()
    find(world, "b", "c", "a")
    assert a.heard() == [("connect", "a", "room", "false"), ("role", "b", "room", "true")]
    assert b.heard() == [("connect", "b", "room", "true")]
    assert c.heard() == [("role", "b", "room", "true")]


def test_an_initiator_on_another_node(world: World) -> None:
    """It joined before all others: ours loses the role, and then hears of it.

    In the other order, both would start the call.
    """
    a, b = world.members("a", "b")
    find(world, "far", "a", "b", elsewhere=("far",))
    assert a.heard() == [("connect", "a", "room", "false"), ("connect", "far", "room", "false")]
    assert b.heard() == [("connect", "far", "room", "false")]


def test_members_that_are_gone(world: World) -> None:
    """The others hear it; the sessions close with 4001, and the reason is the engine."""
    left: list[tuple[str, str, str]] = []
    world.rooms.on_leave(lambda room, user, reason: left.append((room, user, reason)))
    a, b, c = world.members("a", "b", "c")
    find(world, "b")
    assert [each.code for each in (a, b, c)] == [CloseCode.ENGINE_UNAVAILABLE, None, 4001]
    assert a.heard() == c.heard() == []  # they do not even hear each other leave
    assert b.heard() == [
        ("disconnect", "a", "room", ""),
        ("connect", "b", "room", "true"),
        ("disconnect", "c", "room", ""),
    ]
    assert left == [("room", "a", "engine"), ("room", "c", "engine")]
    assert [each["reason"] for each in world.log.of("leave")] == ["engine"] * 2
    assert world.rooms.tally.leaves["engine"] == 2


def test_no_member_is_left(world: World) -> None:
    """The room is gone and no longer counted."""
    (a,) = world.members("a")
    find(world)
    assert a.code == CloseCode.ENGINE_UNAVAILABLE
    assert len(world.rooms) == 0


def test_a_seat_taken_elsewhere(world: World) -> None:
    """The user has another seat now, so its session here closes; others hear a leave and a join."""
    a, b = world.members("a", "b")
    find(world, "a", "b", elsewhere=("a",))
    assert a.code == CloseCode.ENGINE_UNAVAILABLE and b.code is None
    assert b.heard() == [
        ("disconnect", "a", "room", ""),
        ("connect", "b", "room", "true"),
        ("connect", "b", "room", "false"),
        ("connect", "a", "room", "false"),
    ]
