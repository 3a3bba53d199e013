"""What a session is charged in bytes: for what it sends, and for the copies this causes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes import ENGINES, UNLIMITED, FakeClient, World, packet

from videre.engines import Engine
from videre.rooms.room import COPIES, weight
from videre.settings import Limits

RATE, BURST = 1000.0, 10_000_000
PAID = replace(UNLIMITED, bytes_per_second=RATE, byte_burst=BURST)
GUEST = {"Welcome": True}

Make = type[Engine]
engines = pytest.mark.parametrize("engine", ENGINES)


def debt(client: FakeClient) -> int:
    """Return the bytes that a client was charged and that have not been refilled."""
    held = client.peer._throttle
    assert held is not None
    now = client.peer._context.clock()
    return round(max(0.0, held._bytes_full_at - now) * RATE) + held.owed


def cost(client: FakeClient, act: Callable[[], None]) -> int:
    """Return what a client is charged for an action."""
    before = debt(client)
    act()
    return debt(client) - before


def crowd(world: World, size: int, name: str = "u{}") -> list[FakeClient]:
    """Return this many members of one room."""
    return world.members(*(name.format(number) for number in range(size)))


@pytest.mark.parametrize(
    ("copies", "times"), [(-1, 0), (0, 0), (1, 0), (7, 0), (8, 0), (9, 1), (16, 1), (17, 2)]
)
def test_weight_of_copies(copies: int, times: int) -> None:
    """Up to eight copies cost nothing extra; each further eight begun cost one packet more."""
    assert weight(copies) == times == max(0, -(-copies // COPIES) - 1)


@engines
@pytest.mark.parametrize(("members", "times"), [(2, 1), (8, 1), (9, 1), (10, 2), (50, 7)])
def test_a_packet_to_many_is_charged_by_copies(engine: Make, members: int, times: int) -> None:
    """A packet costs once in a room of eight, and more beyond; a known header changes nothing."""
    world = World(engine, limits=PAID)
    a, *_ = crowd(world, members)
    for number in range(3):
        text = packet("broadcast", "u0", "room", f"{number}" + "\u20ac" * 1000)
        size = len(text.encode())
        assert cost(a, lambda text=text: a.say(text)) == size * times  # type: ignore[misc]
    text = packet("broadcast", "u0", "room", 1, More=1)
    assert cost(a, lambda: a.say(text)) == len(text) * times


@engines
def test_a_packet_to_some_is_charged_by_those(engine: Make) -> None:
    """A packet with `To` is charged by the names listed, unknown ones included."""
    world = World(engine, limits=PAID)
    a, *_ = crowd(world, 30)
    for to, times in (("u1", 1), (["u1", "u2"], 1), ([f"x{n}" for n in range(64)], 8)):
        text = packet("broadcast", "u0", "room", 1, To=to)
        assert cost(a, lambda text=text: a.say(text)) == len(text) * times  # type: ignore[misc]


@engines
def test_joins_and_leaves_are_charged_by_copies(engine: Make) -> None:
    """A storm of joins and leaves in a crowded room is charged to its sender."""
    world = World(engine, limits=PAID)
    crowd(world, 49)
    a = world.client()
    join, leave = packet("connect", "a", "room", More="x" * 1000), packet("disconnect", "a", "room")
    assert cost(a, lambda: a.say(join)) == len(join) * 7
    assert cost(a, lambda: a.say(leave)) == len(leave) * 7


@engines
def test_pings_of_a_crowded_room(engine: Make) -> None:
    """A ping is charged with its answer, from outside too; the next passes once that is paid."""
    world = World(engine, limits=replace(PAID, byte_burst=4000))
    crowd(world, 60, "{:03d}" + "\U0001f600" * 120)
    for client, user in ((world.client(), "x"), (world.member("m"), "m")):
        world.clock.advance(100)
        text = packet("ping", user, "room")
        client.say(text)
        (answer,) = client.texts()
        size = len(answer.encode())
        assert size > 25_000
        assert debt(client) == len(text) + size
        for _ in range(20):
            client.say(text)
        assert [heard[3] for heard in client.heard()] == ["rate-limited"]
        world.clock.advance((len(text) + size - 4000) / RATE + 0.1)
        client.say(text)
        assert [heard[0] for heard in client.heard()] == ["ping"]


@engines
@pytest.mark.parametrize("grace", [20.0, 0.0])
def test_a_welcome_is_charged(engine: Make, grace: float) -> None:
    """A welcome's cost grows with the room; each request for a new one is charged again."""
    world = World(engine, limits=replace(PAID, grace=grace))
    crowd(world, 5, "{}" + "\U0001f600" * 100)
    a = world.client()
    text = packet("connect", "a", "room", GUEST)
    for _ in range(3):
        charged = cost(a, lambda: a.say(text))
        echo, welcome = a.texts()
        assert json.loads(echo)["Header"]["Event"] == "connect"
        assert len(welcome.encode()) > 2000
        assert charged == len(text) + len(welcome.encode())


@engines
def test_members_who_left_weigh_nothing(engine: Make) -> None:
    """A packet is charged by those who are members when it is sent."""
    world = World(engine, limits=PAID)
    a, *others = crowd(world, 10)
    text = packet("broadcast", "u0", "room", 1)
    assert cost(a, lambda: a.say(text)) == 2 * len(text)
    others[-1].end(1000, clean=True)
    assert cost(a, lambda: a.say(text)) == len(text)


@engines
def test_lost_seats_weigh_nothing(engine: Make) -> None:
    """Lost seats do not make the packets of others dearer."""
    world = World(engine, limits=replace(PAID, grace=20.0))
    a, b = world.members("a", "b")
    for number in range(40):
        ghost = world.client()
        ghost.say(packet("connect", f"g{number}", "room", GUEST))
        ghost.end()
    text = packet("broadcast", "a", "room", 1)
    assert cost(a, lambda: a.say(text)) == len(text)
    b.texts()
    world.clock.advance(20)
    assert len(b.texts()) == 40  # the lost seats have left by now
    assert cost(a, lambda: a.say(text)) == len(text)


@engines
def test_a_resumed_seat_counts_again(engine: Make) -> None:
    """A resumed seat receives packets, so it is charged for again."""
    world = World(engine, limits=PAID)
    a, *_ = crowd(world, 9)
    guest = world.client()
    guest.say(packet("connect", "guest", "room", GUEST))
    secret = json.loads(json.loads(guest.texts()[1])["Payload"])["Resume"]
    text = packet("broadcast", "u0", "room", 1)
    assert cost(a, lambda: a.say(text)) == 2 * len(text)
    guest.end()
    assert cost(a, lambda: a.say(text)) == len(text)
    again = world.client()
    again.say(packet("connect", "guest", "room", {"Resume": secret, "Received": 1}))
    assert [heard[0] for heard in again.heard()] == ["connect", "welcome", "broadcast"]
    assert cost(a, lambda: a.say(text)) == 2 * len(text)
    assert [heard[0] for heard in again.heard()] == ["broadcast"]


@engines
def test_bad_packets_are_charged(engine: Make) -> None:
    """Unreadable packets cost their bytes, so that the limit bounds them too."""
    world = World(engine, limits=replace(PAID, byte_burst=100_000))
    a = world.client()
    for _ in range(9):
        a.say("x" * 60_000)
    assert [heard[3] for heard in a.heard()] == ["malformed-packet"] * 2 + ["rate-limited"]
    assert a.code == 4003


@engines
def test_a_burst_of_bytes(engine: Make) -> None:
    """The first excess gets an error, then packets are dropped, then 4003; accepted ones arrive."""
    world = World(engine, limits=replace(PAID, byte_burst=100_000))
    a, b = world.members("a", "b")
    world.clock.advance(1000)
    for number in range(9):
        a.say(packet("broadcast", "a", "room", [number, "x" * 40_000]))
    assert [payload[0] for *_, payload in b.heard()] == [0, 1, 2]
    assert [heard[3] for heard in a.heard()] == ["rate-limited"]
    assert a.code == 4003


def test_a_mesh_of_eight_old_clients_begins_within_the_defaults() -> None:
    """Eight clients join at once and broadcast 7 offers and 40 candidates a peer to everybody."""
    world = World(limits=replace(Limits(), join_timeout=None))
    users = "abcdefgh"
    clients = world.members(*users)
    offer, candidate = "x" * 5800, "x" * 200
    for client, user in zip(clients, users, strict=True):
        for number in range(7 * 41):
            payload: Any = offer if number % 41 == 0 else candidate
            client.say(packet("broadcast", user, "room", payload))
            if number % 20 == 0:
                client.say(packet("ping", user, "room"))
    for client in clients:
        assert client.code is None
        events = [heard[0] for heard in client.heard()]
        assert events.count("broadcast") == 7 * 7 * 41 and "error" not in events
