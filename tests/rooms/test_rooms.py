"""Rooms: their cost, what they keep, and what they log."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from counting import Unwalkable, operations
from engine_contract import HALVES
from fakes import FakeClock, FakeConnection, FakeLog, World, brief, memory_engine, packet, run

from videre.engines.events import Joined, Left, Sent
from videre.engines.memory import MemoryEngine
from videre.errors import UserTaken
from videre.ids import RoomId, SeatId, UserId
from videre.reasons import LeaveReason
from videre.rooms import Rooms
from videre.rooms.room import GONE, HELD, LOST, Seat
from videre.settings import JoinPolicy


class RecordingEngine(MemoryEngine):
    """The memory engine, which records its calls."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.asked: list[str] = []

    def publish(
        self,
        room: RoomId,
        seat: SeatId,
        text: str,
        to: Sequence[UserId] | None = None,
        packet_id: str = "",
    ) -> None:
        """See Engine.publish."""
        self.asked.append(text)
        super().publish(room, seat, text, to, packet_id)


async def lost(*_: object) -> None:
    """Stand for a request whose seat is gone, or that a store will carry out later."""


def make(engine: MemoryEngine | None = None, replace: bool = True, *, grace: float = 0.0) -> Rooms:
    """Return rooms on an engine that has been started."""
    rooms = Rooms(
        engine or memory_engine(FakeClock()),
        clock=FakeClock(),
        log=FakeLog(),
        spawn=run,
        secret=str,
        grace=grace,
        policy=JoinPolicy(replace=replace),
        seat_ids=map("n{}".format, itertools.count()),
    )
    run(rooms.start())
    return rooms


def join(rooms: Rooms, user: str, room: str = "room") -> tuple[Seat, FakeConnection]:
    """Seat a user."""
    connection = FakeConnection()
    seat: Seat = run(rooms.join(user, room, connection, HALVES))
    return seat, connection


def test_a_seat_says_who_sits_where() -> None:
    """Each seat has its user, room and connection, and an id unique across nodes."""
    rooms = make()
    seat, connection = join(rooms, "a")
    assert (seat.user, seat.room, seat.connection) == ("a", "room", connection)
    others = [join(rooms, "a")[0].id, join(rooms, "b")[0].id, join(rooms, "a", "other")[0].id]
    assert len({seat.id, *others}) == 4
    assert all(each.startswith("n") for each in others)


def test_an_announcement_carries_the_role() -> None:
    """The two halves of the packet enclose the JSON string of a boolean."""
    rooms = make()
    _, first = join(rooms, "a")
    _, second = join(rooms, "b")
    head, tail = HALVES
    assert first.sent == [f'{head}"true"{tail}', f'{head}"false"{tail}']
    assert second.sent == [f'{head}"false"{tail}']


def test_the_number_of_rooms() -> None:
    """A room counts as long as it has members."""
    rooms = make()
    seats = [join(rooms, "a")[0], join(rooms, "b")[0], join(rooms, "a", "other")[0]]
    assert len(rooms) == 2
    for seat, left in zip(seats, (2, 1, 0), strict=True):
        run(rooms.leave(seat, LeaveReason.OTHER))
        assert len(rooms) == left


def test_a_seat_leaves_once() -> None:
    """A second leave for a gone seat removes no newer one."""
    rooms = make()
    old, _ = join(rooms, "a")
    new, connection = join(rooms, "a")
    assert old.state is GONE
    run(rooms.leave(old, LeaveReason.OTHER))
    run(rooms.leave(old, LeaveReason.OTHER))
    assert (len(rooms), new.connection, connection.closes) == (1, connection, [])


@pytest.mark.parametrize("grace", [0.0, 20.0])
def test_a_leave_that_the_store_delays(grace: float) -> None:
    """The seat is lost at once: its connection gets no more of the room's packets."""
    engine = memory_engine(FakeClock())
    rooms = make(engine, grace=grace)
    seat, connection = join(rooms, "a")
    other, _ = join(rooms, "b")
    connection.take()
    engine.leave = lost  # type: ignore[assignment, method-assign]
    run(rooms.leave(seat, LeaveReason.OTHER))
    run(rooms.broadcast(other, packet("broadcast", "b", "room", 1)))
    assert (seat.state, connection.sent) == (LOST, [])


@pytest.mark.parametrize(("grace", "given"), [(0.0, False), (0.5, True)])
def test_a_seat_has_a_secret_if_there_is_a_grace(grace: float, given: bool) -> None:
    """However short that is."""
    rooms = make(grace=grace)
    connection = FakeConnection()
    run(rooms.join("a", "room", connection, HALVES, welcome={}))
    welcome = json.loads(brief(connection.sent[-1])[3])
    assert (welcome["Resume"] is not None) is given


def test_a_renewal_that_finds_no_seat() -> None:
    """The engine has lost it: the session keeps it until it hears so, and leaves nothing."""
    engine = memory_engine(FakeClock())
    rooms = make(engine, grace=20.0)
    connection = FakeConnection()
    seat: Seat = run(rooms.join("a", "room", connection, HALVES, welcome={}))
    renew, engine.renew = engine.renew, lost  # type: ignore[assignment, method-assign]
    assert run(rooms.renew(seat, HALVES)) is seat and seat.state is HELD
    engine.renew = renew  # type: ignore[method-assign]
    new = run(rooms.renew(seat, HALVES))
    assert new is not seat and (seat.state, new.state) == (GONE, HELD)
    assert connection.closes == []


def test_a_rejected_join_leaves_no_trace() -> None:
    """It raises UserTaken, nobody hears of it, and nothing is kept."""
    rooms = make(replace=False)
    _, connection = join(rooms, "a")
    connection.take()
    with pytest.raises(UserTaken):
        join(rooms, "a")
    assert (connection.sent, connection.closes, rooms._replica.joining) == ([], [], {})


def test_is_initiator_is_the_current_role() -> None:
    """It is true for exactly one member at any time."""
    rooms = make()
    seats = [join(rooms, user)[0] for user in "abc"]
    assert [rooms.is_initiator(seat) for seat in seats] == [True, False, False]
    run(rooms.leave(seats.pop(0), LeaveReason.OTHER))
    assert [rooms.is_initiator(seat) for seat in seats] == [True, False]


def test_pings_share_one_list_of_users() -> None:
    """Pings get the same object until the members change."""
    rooms = make()
    join(rooms, "a")
    users = rooms.users_here("room")
    assert run(rooms.users("room")) is rooms.users_here("room") is users
    seat, _ = join(rooms, "b")
    assert rooms.users_here("room") == r'"[\"a\",\"b\"]"'
    run(rooms.leave(seat, LeaveReason.OTHER))
    assert rooms.users_here("room") == users


def test_everything_goes_through_the_engine() -> None:
    """A packet goes to the engine once, whoever receives it, members on this node included."""
    world = World(RecordingEngine)
    engine = world.engine
    assert isinstance(engine, RecordingEngine)
    a, _, _ = world.members("a", "b", "c")
    text = packet("broadcast", "a", "room")
    a.say(text)
    assert engine.asked == [text]


def test_one_text_for_all_receivers() -> None:
    """All get the very same str, so that a transport frames it once."""
    world = World()
    a, *others = world.members(*"abcd")
    a.say(packet("broadcast", "a", "room"))
    assert len({id(client.texts()[0]) for client in others}) == 1
    world.member("e")
    assert len({id(client.texts()[0]) for client in (a, *others)}) == 1
    others.pop().end()
    assert len({id(client.texts()[-1]) for client in (a, *others)}) == 1


def test_a_member_elsewhere_is_a_member() -> None:
    """Seats reported from other nodes count for roles, pings and promotion."""
    rooms = make()
    rooms._replica.hear("room", Joined("far", "elsewhere1", HALVES))
    seat, connection = join(rooms, "near")
    assert not rooms.is_initiator(seat)
    assert rooms.users_here("room") == r'"[\"far\",\"near\"]"'
    connection.take()
    rooms._replica.hear("room", Left("far", "elsewhere1", "why", heir="near"))
    assert [brief(text) for text in connection.take()] == [
        ("disconnect", "far", "room", ""),
        ("connect", "near", "room", "true"),
    ]


def test_events_of_unknown_rooms_and_seats_are_ignored() -> None:
    """An engine may report events that are already outdated."""
    rooms = make()
    rooms._replica.hear("nowhere", Left("a", "elsewhere1", "why"))
    rooms._replica.hear("nowhere", Sent("a", "elsewhere1", "text"))
    _, connection = join(rooms, "a")
    connection.take()
    rooms._replica.hear("room", Left("a", "elsewhere1", "why"))
    rooms._replica.hear("room", Left("b", "elsewhere2", "why"))
    assert (connection.sent, len(rooms)) == ([], 1)


# Costs.


def visit(world: World) -> None:
    """Let everything that can happen in a room happen to five clients in one."""
    a, b, c = world.members("a", "b", "c")
    for client, user in ((a, "a"), (b, "b"), (c, "c")):
        client.say(packet("broadcast", user, "room"))
        client.say(packet("ping", user, "room"))
        client.connect(user, "room")
    world.client().connect("b", "room")
    world.client().connect("z", "room")
    c.connect("c", "elsewhere")
    c.say(packet("broadcast", "c", "room"))
    c.say("nonsense")
    a.say(packet("disconnect", "a", "room"))
    c.end()


def crowded(rooms: int) -> World:
    """Return a namespace with this many more rooms."""
    world = World()
    for number in range(rooms):
        world.member("someone", f"room{number}")
    return world


def unwalkable(world: World) -> World:
    """Make every dictionary that grows with the rooms refuse iteration."""
    engine: Any = world.engine
    engine._rooms = Unwalkable(engine._rooms)
    world.rooms._replica.rooms = Unwalkable(world.rooms._replica.rooms)
    world.rooms._replica.joining = Unwalkable(world.rooms._replica.joining)
    return world


def test_a_room_costs_the_same_among_many() -> None:
    """The cost is O(the members of the room), never O(rooms).

    Instructions are counted, not timed; the allowed 5 % more among 500 rooms covers what depends on
    the room's name alone. Iterating over rooms fails.
    """
    alone, crowd = unwalkable(crowded(1)), unwalkable(crowded(500))
    visit(crowded(1))  # things imported or cached at the first use
    one, many = operations(lambda: visit(alone)), operations(lambda: visit(crowd))
    assert abs(many - one) < 0.05 * one
    assert len(alone.rooms) == 2  # room0, and the room that b and z are still in
