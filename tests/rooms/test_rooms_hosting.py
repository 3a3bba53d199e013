"""What the hosting application may do: look, send, remove, and hear who comes and goes."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from fakes import ENGINES, World, begin, packet, run_on
from guests import back, guest, say
from later_engine import LaterEngine

from videre.engines.events import Joined, Left
from videre.errors import EngineError

GRACE = 20.0


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


def do(work: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns; no loop is needed."""
    while True:
        try:
            work.send(None)
        except StopIteration as stop:
            return stop.value


# Looking.


def test_rooms_and_members(world: World) -> None:
    """All rooms that have members, and who is in them, in joining order, those in grace too."""
    assert do(world.rooms.rooms()) == []
    world.members("b", "a")
    away, _ = guest(world, "c")
    (other,) = world.members("a", room="other")
    away.end()
    assert sorted(do(world.rooms.rooms())) == ["other", "room"]
    assert do(world.rooms.members("room")) == ["b", "a", "c"]
    assert do(world.rooms.members("nowhere")) == []
    other.end()
    assert do(world.rooms.rooms()) == ["room"]


def test_what_was_looked_up_is_the_applications(world: World) -> None:
    """To change it changes no room."""
    world.members("a", "b")
    do(world.rooms.members("room")).clear()
    do(world.rooms.rooms()).clear()
    assert do(world.rooms.members("room")) == ["a", "b"]


# Sending.


@pytest.mark.parametrize("payload", [None, 0, "text", {"type": "offer"}, [1, "\u00e9"], True])
def test_a_packet_of_the_applications(world: World, payload: Any) -> None:
    """Every member gets it as a broadcast, with its type."""
    clients = world.members("a", "b")
    do(world.rooms.send("room", payload, sender="the site"))
    for client in clients:
        assert client.heard() == [("broadcast", "the site", "room", payload)]


def test_the_server_has_no_name(world: World) -> None:
    """Unless one is given, which keeps it from nobody, whatever it is: a member's, or a seat's."""
    (a,) = world.members("a")
    do(world.rooms.send("room", 1))
    senders = ["a", *(str(number) for number in range(5))]
    for sender in senders:
        do(world.rooms.send("room", 2, sender=sender))
    expected = [("broadcast", sender, "room", 2) for sender in senders]
    assert a.heard() == [("broadcast", "", "room", 1), *expected]


def test_a_packet_for_some(world: World) -> None:
    """Each once, however often it is named; who is not there does not get it."""
    a, b, c = world.members("a", "b", "c")
    do(world.rooms.send("room", 1, to=["c", "nobody", "a", "c"]))
    do(world.rooms.send("room", 2, to=[]))
    do(world.rooms.send("nowhere", 3))
    assert (len(a.texts()), len(b.texts()), len(c.texts())) == (1, 0, 1)


def test_a_packet_for_one(world: World) -> None:
    """A name stands for itself, as on the wire, and not for its letters."""
    a, b, ab = world.members("a", "b", "ab")
    do(world.rooms.send("room", 1, to="ab"))
    assert (len(a.texts()), len(b.texts()), len(ab.texts())) == (0, 0, 1)


def test_a_packet_for_who_is_in_grace(world: World) -> None:
    """It is kept."""
    a, secret = guest(world, "a")
    a.end()
    do(world.rooms.send("room", 1))
    do(world.rooms.send("room", 2, to=["a"]))
    assert [payload for *_, payload in back(world, "a", secret)[3]] == [1, 2]


def test_a_packet_for_nobody(world: World) -> None:
    """Nobody gets it, and the engine is not asked: an empty list is not all."""
    (a,) = world.members("a")
    world.engine.publish = None  # type: ignore[assignment, method-assign]
    do(world.rooms.send("room", 1, to=[]))
    assert a.texts() == []


@pytest.mark.parametrize(
    "payload",
    [object(), {1: 2}, {"x": {1}}, 2**70, "\ud800", b"x"],
    ids=["object", "key", "set", "large", "surrogate", "bytes"],
)
def test_what_is_no_json(world: World, payload: Any) -> None:
    """TypeError, and nobody gets anything."""
    (a,) = world.members("a")
    with pytest.raises(TypeError):
        do(world.rooms.send("room", payload))
    assert a.texts() == []


# Removing.


def test_a_kick(world: World) -> None:
    """The others hear a disconnect, the session is closed with 4504 and told why."""
    a, b, c = world.members("a", "b", "c")
    assert do(world.rooms.kick("room", "b", "was rude")) is True
    assert b.connection.closes == [(4504, "was rude")]
    b.end(4504, clean=True)
    assert a.heard() == c.heard() == [("disconnect", "b", "room", "")]
    assert (b.heard(), do(world.rooms.members("room"))) == ([], ["a", "c"])
    (left,) = world.log.of("leave")
    assert (left["user"], left["reason"]) == ("b", "was rude")


def test_a_kick_without_a_reason(world: World) -> None:
    """Is one all the same."""
    (a,) = world.members("a")
    do(world.rooms.kick("room", "a"))
    assert a.connection.closes == [(4504, "Removed")]


def test_a_kick_of_the_initiator(world: World) -> None:
    """The next one is promoted, as ever."""
    _, b = world.members("a", "b")
    c, _ = guest(world, "c")
    b.texts()
    do(world.rooms.kick("room", "a", "why"))
    gone = ("disconnect", "a", "room", "")
    assert b.heard() == [gone, ("connect", "b", "room", "true")]
    assert c.heard() == [gone, ("role", "b", "room", "true")]


def test_a_kick_of_nobody(world: World) -> None:
    """False, and nothing happens."""
    (a,) = world.members("a")
    assert do(world.rooms.kick("room", "b")) is False
    assert do(world.rooms.kick("nowhere", "a")) is False
    assert (a.texts(), a.code) == ([], None)


def test_a_kick_takes_the_grace_too(world: World) -> None:
    """Who is in grace is removed at once; its secret gives nothing back."""
    (b,) = world.members("b")
    a, secret = guest(world, "a")
    b.texts()
    a.end()
    assert do(world.rooms.kick("room", "a")) is True
    assert b.heard() == [("disconnect", "a", "room", "")]
    assert world.clock.waiting == [] and a.code is None
    assert back(world, "a", secret)[2]["Resumed"] is False


def test_who_was_kicked_is_in_no_room(world: World) -> None:
    """What it still says before it is closed is not heard."""
    a, b = world.members("a", "b")
    do(world.rooms.kick("room", "b"))
    a.texts()
    say(b, "b", 1)
    b.say(packet("disconnect", "b", "room"))
    assert a.texts() == []


@pytest.mark.parametrize("reason", ["x" * 124, "\u20ac" * 42])
def test_a_reason_that_no_close_frame_can_carry(world: World, reason: str) -> None:
    """ValueError, and nobody is removed; one byte less is good."""
    (a,) = world.members("a")
    with pytest.raises(ValueError, match="123"):
        do(world.rooms.kick("room", "a", reason))
    assert a.code is None
    assert do(world.rooms.kick("room", "a", "x" * 123)) is True


@pytest.mark.parametrize("down", ["at once", "later"])
def test_an_engine_that_is_down(down: Any) -> None:
    """The application is told; nothing has happened."""
    world = World(LaterEngine)
    engine: Any = world.engine
    engine.down_for |= {"rooms"}
    (a,) = world.members("a")
    engine.down = down
    for work in (
        world.rooms.kick("room", "a"),
        world.rooms.send("room", 1),
        world.rooms.rooms(),
        world.rooms.members("room"),
    ):
        with pytest.raises(EngineError):
            do(work)
    assert (a.texts(), a.code) == ([], None)


# Hooks.


class Visits:
    """What the hooks of a namespace heard."""

    def __init__(self, world: World, *, later: bool = False) -> None:
        self.heard: list[tuple[str, ...]] = []

        def joined(room: str, user: str) -> None:
            self.heard.append(("join", room, user))

        def left(room: str, user: str, reason: str) -> None:
            self.heard.append(("leave", room, user, reason))

        async def joined_later(*event: str) -> None:
            joined(*event)

        async def left_later(*event: str) -> None:
            left(*event)

        world.rooms.on_join(joined_later if later else joined)
        world.rooms.on_leave(left_later if later else left)

    def take(self) -> list[tuple[str, ...]]:
        """Return what was heard since the last call."""
        heard, self.heard = self.heard, []
        return heard


@pytest.mark.parametrize("later", [False, True])
def test_who_comes_and_goes(world: World, later: bool) -> None:
    """Every way to take a seat and to give it up, once; a connect again is neither."""
    visits = Visits(world, later=later)
    a, b = world.members("a", "b")
    a.connect("a", "room")
    assert visits.take() == [("join", "room", "a"), ("join", "room", "b")]
    a.say(packet("disconnect", "a", "room"))
    b.connect("b", "other")
    assert visits.take() == [
        ("leave", "room", "a", "disconnect"),
        ("join", "other", "b"),
        ("leave", "room", "b", "moved"),
    ]
    newer = world.client()
    newer.connect("b", "other")
    b.end(4503, clean=True)
    assert visits.take() == [("leave", "other", "b", "replaced"), ("join", "other", "b")]
    newer.end()
    world.members("c")
    do(world.rooms.kick("room", "c", "why"))
    assert visits.take() == [
        ("leave", "other", "b", "connection-lost"),
        ("join", "room", "c"),
        ("leave", "room", "c", "why"),
    ]


def test_a_loss_is_no_leave_yet(world: World) -> None:
    """Hooks hear nothing of who comes back, and of who does not when the grace is over."""
    visits = Visits(world)
    a, secret = guest(world, "a")
    assert visits.take() == [("join", "room", "a")]
    a.end()
    a, *_ = back(world, "a", secret)
    a.end()
    assert visits.take() == []
    world.clock.advance(GRACE)
    assert visits.take() == [("leave", "room", "a", "grace-over")]


def test_a_refused_join_is_none(world: World) -> None:
    """Hooks hear of seats, not of tries."""
    strict = World(world.engine.__class__, duplicate="reject")
    visits = Visits(strict)
    strict.members("a")
    strict.client().connect("a", "room")
    assert visits.take() == [("join", "room", "a")]


def test_a_hook_is_called_when_the_connect_has_been_answered(world: World) -> None:
    """What the application sends then comes after the role and the welcome."""

    @world.rooms.on_join
    async def greet(room: str, user: str) -> None:
        await world.rooms.send(room, f"hello {user}", to=[user], sender="site")

    (a,) = [world.client()]
    a.say(packet("connect", "a", "room", {"Welcome": True}))
    assert [each[0] for each in a.heard()] == ["connect", "welcome", "broadcast"]
    assert callable(greet)


def test_a_hook_may_remove_who_comes(world: World) -> None:
    """The newcomer is out again before it has said anything."""
    (a,) = world.members("a")

    @world.rooms.on_join
    async def guard(room: str, user: str) -> None:
        if user != "a":
            await world.rooms.kick(room, user, "not invited")

    b = world.client()
    b.connect("b", "room")
    assert b.connection.closes == [(4504, "not invited")]
    b.end(4504, clean=True)
    assert a.heard() == [("connect", "b", "room", "false"), ("disconnect", "b", "room", "")]
    assert do(world.rooms.members("room")) == ["a"] and callable(guard)


@pytest.mark.parametrize("later", [False, True])
def test_a_failing_hook_harms_nobody(world: World, later: bool) -> None:
    """The member is seated and leaves, other hooks are called; the failure is in the log."""

    def fail(*_: str) -> None:
        raise RuntimeError("the application's fault")

    async def fail_later(*_: str) -> None:
        fail()

    world.rooms.on_join(fail_later if later else fail)
    world.rooms.on_leave(fail_later if later else fail)
    visits = Visits(world)
    a, b = world.members("a", "b")
    b.end()
    assert a.heard() == [("disconnect", "b", "room", "")] and a.code is None
    assert [each[0] for each in visits.take()] == ["join", "join", "leave"]
    assert len(world.log.of("hook-failed")) == 3


def test_members_of_other_nodes_have_their_hooks_there(world: World) -> None:
    """What an engine tells of seats elsewhere is no join or leave here."""
    visits = Visits(world)
    replica = world.rooms._replica
    replica.hear("room", Joined("far", "elsewhere1", ("{", "}")))
    replica.hear("room", Left("far", "elsewhere1", "why"))
    assert visits.take() == []


def test_a_kick_waits_for_the_engine() -> None:
    """The seat is the member's until the engine has taken it away."""
    world = World(LaterEngine)
    a, b = world.members("a", "b")
    kicking = begin(world.rooms.kick("room", "b"))
    assert (a.texts(), b.code) == ([], None)
    run_on(kicking)
    assert (len(a.texts()), b.code) == (1, 4504)
