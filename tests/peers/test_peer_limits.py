"""Limits in a peer's session: what is refused, how often an error says so, and what closes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fakes import ENGINES, UNLIMITED, FakeClient, World, brief, packet
from tokens import enter

from videre.auth import TokenAuth, secret_key
from videre.engines import Engine
from videre.packets import Decoder
from videre.settings import Limits

RATE, BURST = 10.0, 5
PACED = replace(UNLIMITED, packets_per_second=RATE, packet_burst=BURST)

TOLD = ("error", "a", "room", "rate-limited")

Make = type[Engine]
engines = pytest.mark.parametrize("engine", ENGINES)


def limited(engine: Make, **limits: Any) -> World:
    """Return a namespace with these limits and no others."""
    return World(engine, limits=replace(UNLIMITED, **limits))


def said(client: FakeClient) -> list[Any]:
    """Return the Payloads (for errors, the Codes) that a client heard."""
    return [heard[3] for heard in client.heard()]


# The room's capacity, and the number of rooms.


@engines
def test_a_room_is_full(engine: Make) -> None:
    """A newcomer in excess gets `room-full` with Retry true; the others hear nothing."""
    world = limited(engine, room_capacity=2)
    a, b = world.members("a", "b")
    c = world.client()
    c.connect("c", "room")
    error = c.error()
    assert (error["Code"], error["Retry"]) == ("room-full", True)
    assert a.texts() == b.texts() == [] and c.code is None
    b.end()
    c.connect("c", "room")
    assert c.heard() == [("connect", "c", "room", "false")]


@engines
def test_a_full_room_is_open_to_its_members(engine: Make) -> None:
    """A repeated connect or a second connection of a member takes no extra place."""
    world = limited(engine, room_capacity=2)
    a, b = world.members("a", "b")
    b.connect("b", "room")
    assert b.heard() == [("connect", "b", "room", "false")]
    again = world.client()
    again.connect("b", "room")
    assert again.heard() == [("connect", "b", "room", "false")]
    assert b.code == 4503
    assert [heard[:2] for heard in a.heard()] == [("disconnect", "b"), ("connect", "b")]


@engines
def test_a_refused_move_costs_no_seat(engine: Make) -> None:
    """A member that finds another room full keeps its seat."""
    world = limited(engine, room_capacity=1)
    a, x = world.member("a"), world.member("x", "other")
    a.connect("a", "other")
    assert a.heard() == [("error", "a", "room", "room-full")]
    a.say(packet("ping", "a", "room"))
    assert said(a) == ['["a"]'] and x.texts() == []


@engines
def test_room_full_is_no_bad_packet(engine: Make) -> None:
    """A client may try until somebody leaves."""
    world = limited(engine, room_capacity=1)
    world.member("a")
    c = world.client()
    for _ in range(20):
        c.connect("c", "room")
    assert said(c) == ["room-full"] * 20 and c.code is None


@engines
def test_the_number_of_rooms_is_limited(engine: Make) -> None:
    """No further room is created; existing ones stay open, and a room that ends frees its place."""
    world = limited(engine, max_rooms=2)
    one, _two = world.member("a", "one"), world.member("a", "two")
    c = world.client()
    c.connect("c", "three")
    assert said(c) == ["room-full"]
    c.connect("c", "two")
    assert said(c) == ["false"]
    one.end()
    c.connect("c", "three")
    assert said(c) == ["true"]
    assert len(world.rooms) == 2


@engines
def test_a_token_names_the_capacity(engine: Make) -> None:
    """For the holder, the token's `max` overrides the configured capacity in both directions."""
    secret = "a secret of these tests, 32 bytes and more"
    world = World(
        engine,
        limits=replace(UNLIMITED, room_capacity=2),
        auth=TokenAuth([secret_key(secret)]),
    )
    enter(world, "a", key=secret)
    enter(world, "b", key=secret, max=3)
    enter(world, "c", key=secret, max=3)
    with pytest.raises(AssertionError):
        enter(world, "d", key=secret, max=3)
    with pytest.raises(AssertionError):
        enter(world, "d", key=secret)
    enter(world, "d", key=secret, max=4)
    enter(world, "x", "pair", key=secret, max=1)
    with pytest.raises(AssertionError):
        enter(world, "y", "pair", key=secret, max=1)


# The rate.


@engines
def test_too_many_packets(engine: Make) -> None:
    """The first gets an error, later ones are dropped silently, then the close has 4003."""
    world = World(engine, limits=PACED)
    a, b = world.members("a", "b")
    world.clock.advance(10)
    for number in range(11):
        assert a.code is None
        a.say(packet("broadcast", "a", "room", number))
    assert said(b) == list(range(BURST))
    assert a.heard() == [TOLD]
    assert a.connection.closes[0] == (4003, "Too many packets")
    a.end(4003)
    assert [heard[0] for heard in b.heard()] == ["disconnect", "connect"]


@engines
def test_an_episode_ends_when_the_sender_slows_down(engine: Make) -> None:
    """Then packets pass again, and the next episode gets an error again."""
    world = World(engine, limits=PACED)
    a, b = world.members("a", "b")
    for _ in range(3):
        world.clock.advance(10)
        for _ in range(BURST + 3):
            a.say(packet("broadcast", "a", "room"))
        assert a.heard() == [TOLD]
        assert len(b.heard()) == BURST
    assert a.code is None


@engines
def test_pings_are_counted_apart(engine: Make) -> None:
    """Too many packets leave the pings their rate, and too many pings leave the packets theirs."""
    world = World(engine, limits=PACED)
    (a,) = world.members("a")
    world.clock.advance(10)
    for _ in range(BURST + 2):
        a.say(packet("broadcast", "a", "room"))
    a.say(packet("ping", "a", "room"))
    assert said(a) == ["rate-limited", '["a"]']
    world.clock.advance(10)
    for _ in range(BURST + 2):
        a.say(packet("ping", "a", "room"))
    a.say(packet("broadcast", "a", "room"))
    a.connect("a", "room")
    assert said(a) == ['["a"]'] * BURST + ["rate-limited", "true"]


@engines
def test_too_many_pings(engine: Make) -> None:
    """A repeated ping is counted like any other, although it takes a shortcut."""
    world = World(engine, limits=PACED)
    (a,) = world.members("a")
    for _ in range(2 * BURST):
        a.say(packet("ping", "a", "room"))
    assert a.code is None
    a.say(packet("ping", "a", "room"))
    assert a.code == 4003
    assert said(a) == ['["a"]'] * BURST + ["rate-limited"]


@engines
@pytest.mark.parametrize("event", ["ping", "broadcast"])
def test_the_id_of_a_packet_over_the_rate_comes_back(engine: Make, event: str) -> None:
    """Even if the packet repeats the header of the one before it, which takes a shortcut."""
    world = World(engine, limits=PACED)
    (a,) = world.members("a")
    world.clock.advance(10)
    for _ in range(BURST + 1):
        a.say(packet(event, "a", "room", Id="x"))
    header = json.loads(a.texts()[-1])["Header"]
    assert header == {"Event": "error", "UserId": "a", "RoomId": "room", "Id": "x"}


@engines
@pytest.mark.parametrize(
    ("text", "packet_id"), [("nonsense", None), (packet("weather", "a", "room", Id="x"), "x")]
)
def test_the_first_packet_over_the_rate_may_be_bad(
    engine: Make, text: str, packet_id: str | None
) -> None:
    """Its error says that packets are dropped: the good ones after it get none."""
    world = World(engine, limits=PACED)
    (a,) = world.members("a")
    world.clock.advance(10)
    for _ in range(BURST):
        a.say(packet("broadcast", "a", "room"))
    a.say(text)
    a.say(packet("broadcast", "a", "room"))
    assert len(texts := a.texts()) == 1
    assert brief(texts[0]) == TOLD
    assert json.loads(texts[0])["Header"].get("Id") == packet_id


def test_a_repeated_packet_that_has_become_too_large() -> None:
    """It is over the rate first of all, and its id comes back."""
    world = World(limits=PACED)
    (a,) = world.members("a")
    world.clock.advance(10)
    for _ in range(BURST):
        a.say(packet("ping", "a", "room", Id="x"))
    world.context.decoder = Decoder(10)
    a.say(packet("ping", "a", "room", Id="x"))
    text = a.texts()[-1]
    assert brief(text) == TOLD
    assert json.loads(text)["Header"]["Id"] == "x"


@engines
def test_bad_packets_count_against_the_rate(engine: Make) -> None:
    """A good packet after nine bad ones resets their count, so the rate must count bad ones too."""
    world = World(engine, limits=PACED)
    a = world.client()
    for _ in range(20):
        for _ in range(9):
            a.say("nonsense")
        a.say(packet("ping", "a", "room"))
        world.clock.advance(1 / RATE)
    assert a.code == 4003
    assert len(a.heard()) <= 2 * BURST + 4


@engines
def test_each_session_has_its_own_rate(engine: Make) -> None:
    """A flooding session takes nothing from the others' rate."""
    world = World(engine, limits=PACED)
    a, b = world.members("a", "b")
    world.clock.advance(10)
    for _ in range(BURST + 2):
        a.say(packet("broadcast", "a", "room"))
    b.say(packet("broadcast", "b", "room", 1))
    assert said(a) == ["rate-limited", 1]
    assert said(b) == ["{}"] * BURST


def test_a_mesh_of_six_begins_within_the_defaults() -> None:
    """Each of six sends a connect, five offers or answers and 30 candidates a peer at once."""
    world = World(limits=Limits())
    clients = world.members(*"abcdef")
    for client, user in zip(clients, "abcdef", strict=True):
        for number in range(5 + 5 * 30):
            client.say(packet("broadcast", user, "room", number))
    for client in clients:
        assert len(client.heard()) == 5 * 155
        assert client.code is None


def test_no_rate() -> None:
    """`null` switches the rate limit off."""
    world = World(limits=replace(PACED, packets_per_second=None))
    (a,) = world.members("a")
    for _ in range(1000):
        a.say(packet("ping", "a", "room"))
    assert said(a) == ['["a"]'] * 1000


# Sessions that join no room.


@engines
def test_a_session_that_joins_no_room(engine: Make) -> None:
    """It is closed with 4004, whatever else it sends; a session with a seat is not."""
    world = limited(engine, join_timeout=10.0)
    idle, busy, member = world.client(), world.client(), world.client()
    world.clock.advance(9.9)
    member.connect("m", "room")
    busy.say(packet("ping", "x", "room"))
    busy.say("nonsense")
    assert idle.code is None
    world.clock.advance(0.1)
    assert idle.connection.closes == busy.connection.closes
    assert idle.connection.closes == [(4004, "No room entered in time")]
    world.clock.advance(1000)
    assert member.code is None and world.clock.waiting == []


@engines
def test_a_user_who_is_slow_to_allow_the_camera(engine: Make) -> None:
    """The original client joins once its user allows the camera; the default leaves 2 minutes."""
    world = limited(engine, join_timeout=Limits().join_timeout)
    slow, gone = world.client(), world.client()
    world.clock.advance(119)
    slow.connect("slow", "room")
    world.clock.advance(1)
    assert slow.code is None and gone.code == 4004


@engines
def test_a_session_that_has_been_in_a_room_may_stay(engine: Make) -> None:
    """Once it has joined, it may leave and stay connected for as long as it likes."""
    world = limited(engine, join_timeout=10.0)
    a = world.member("a")
    a.say(packet("disconnect", "a", "room"))
    world.clock.advance(1000)
    assert a.code is None


def test_a_refused_connect_does_not_stop_the_join_timeout() -> None:
    """Only a seat stops the join timeout."""
    world = World(limits=replace(UNLIMITED, room_capacity=1, join_timeout=10.0))
    world.member("a")
    b = world.client()
    b.connect("b", "room")
    world.clock.advance(10)
    assert said(b) == ["room-full"] and b.code == 4004


def test_a_session_that_ends_leaves_no_timer() -> None:
    """When a session ends early, nothing of it is kept."""
    world = World(limits=replace(UNLIMITED, join_timeout=10.0))
    a = world.client()
    a.end()
    assert world.clock.waiting == []
