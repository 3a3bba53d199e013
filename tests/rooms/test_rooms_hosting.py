"""What the hosting application can do: look, send, remove, and follow joins and leaves."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from fakes import ENGINES, World, begin, packet, run_on
from guests import back, guest, say
from later_engine import LaterEngine

from videre.engines.events import Joined, Left
from videre.errors import EngineError
from videre.rooms import hosting

GRACE = 20.0


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


def do(work: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that needs no loop."""
    while True:
        try:
            work.send(None)
        except StopIteration as stop:
            return stop.value


# Looking.


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_all_rooms_in_pages(world: World, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """An engine is asked for a page at a time; each room is there once, in order."""
    monkeypatch.setattr(hosting, "PAGE", 2)
    names = [f"room{number}" for number in range(count)]
    for name in names:
        world.member("a", name)
    assert do(world.rooms.rooms()) == names
    assert do(world.rooms.rooms(after="room0", limit=2)) == names[1:3]


def test_rooms_and_members(world: World) -> None:
    """All rooms with members, and each room's members in joining order, those in grace included."""
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


def test_lookups_return_copies(world: World) -> None:
    """Changing the result changes no room."""
    world.members("a", "b")
    do(world.rooms.members("room")).clear()
    do(world.rooms.rooms()).clear()
    assert do(world.rooms.members("room")) == ["a", "b"]


# Sending.


@pytest.mark.parametrize("payload", [None, 0, "text", {"type": "offer"}, [1, "\u00e9"], True])
def test_a_packet_of_the_application(world: World, payload: Any) -> None:
    """Every member gets it as a broadcast with its type."""
    clients = world.members("a", "b")
    do(world.rooms.send("room", payload, sender="the site"))
    for client in clients:
        assert client.heard() == [("broadcast", "the site", "room", payload)]


def test_the_sender_of_the_applications_packets(world: World) -> None:
    """It is empty unless given; any name may be given, and reaches a member of that name too."""
    (a,) = world.members("a")
    do(world.rooms.send("room", 1))
    senders = ["a", *(str(number) for number in range(5))]
    for sender in senders:
        do(world.rooms.send("room", 2, sender=sender))
    expected = [("broadcast", sender, "room", 2) for sender in senders]
    assert a.heard() == [("broadcast", "", "room", 1), *expected]


def test_a_packet_for_some(world: World) -> None:
    """Each named member gets it once, even if repeated; absent names get nothing."""
    a, b, c = world.members("a", "b", "c")
    do(world.rooms.send("room", 1, to=["c", "nobody", "a", "c"]))
    do(world.rooms.send("room", 2, to=[]))
    do(world.rooms.send("nowhere", 3))
    assert (len(a.texts()), len(b.texts()), len(c.texts())) == (1, 0, 1)


def test_a_packet_for_one(world: World) -> None:
    """A single string is one name, not a list of letters."""
    a, b, ab = world.members("a", "b", "ab")
    do(world.rooms.send("room", 1, to="ab"))
    assert (len(a.texts()), len(b.texts()), len(ab.texts())) == (0, 0, 1)


def test_a_packet_for_a_member_in_grace(world: World) -> None:
    """The packet is kept for it."""
    a, secret = guest(world, "a")
    a.end()
    do(world.rooms.send("room", 1))
    do(world.rooms.send("room", 2, to=["a"]))
    assert [payload for *_, payload in back(world, "a", secret)[3]] == [1, 2]


def test_a_packet_for_an_empty_list(world: World) -> None:
    """An empty list does not mean all: nobody gets it, and the engine is not called."""
    (a,) = world.members("a")
    world.engine.publish = None  # type: ignore[assignment, method-assign]
    do(world.rooms.send("room", 1, to=[]))
    assert a.texts() == []


@pytest.mark.parametrize(
    "payload",
    [object(), {1: 2}, {"x": {1}}, 2**70, "\ud800", b"x"],
    ids=["object", "key", "set", "large", "surrogate", "bytes"],
)
def test_a_payload_that_is_no_json(world: World, payload: Any) -> None:
    """It raises TypeError, and nobody gets anything."""
    (a,) = world.members("a")
    with pytest.raises(TypeError):
        do(world.rooms.send("room", payload))
    assert a.texts() == []


# Removing.


def test_a_kick(world: World) -> None:
    """The others hear a disconnect, and the session closes with 4504 and the reason."""
    a, b, c = world.members("a", "b", "c")
    assert do(world.rooms.kick("room", "b", "was rude")) is True
    assert b.connection.closes == [(4504, "was rude")]
    b.end(4504, clean=True)
    assert a.heard() == c.heard() == [("disconnect", "b", "room", "")]
    assert (b.heard(), do(world.rooms.members("room"))) == ([], ["a", "c"])
    (left,) = world.log.of("leave")
    assert (left["user"], left["reason"]) == ("b", "was rude")


def test_a_kick_without_a_reason(world: World) -> None:
    """A kick needs no reason."""
    (a,) = world.members("a")
    do(world.rooms.kick("room", "a"))
    assert a.connection.closes == [(4504, "Removed")]


def test_a_kick_of_the_initiator(world: World) -> None:
    """The next member is promoted as usual."""
    _, b = world.members("a", "b")
    c, _ = guest(world, "c")
    b.texts()
    do(world.rooms.kick("room", "a", "why"))
    gone = ("disconnect", "a", "room", "")
    assert b.heard() == [gone, ("connect", "b", "room", "true")]
    assert c.heard() == [gone, ("role", "b", "room", "true")]


def test_a_kick_of_nobody(world: World) -> None:
    """It returns False and has no effect."""
    (a,) = world.members("a")
    assert do(world.rooms.kick("room", "b")) is False
    assert do(world.rooms.kick("nowhere", "a")) is False
    assert (a.texts(), a.code) == ([], None)


def test_a_kick_of_a_member_in_grace(world: World) -> None:
    """It is removed at once, and its secret no longer resumes anything."""
    (b,) = world.members("b")
    a, secret = guest(world, "a")
    b.texts()
    a.end()
    assert do(world.rooms.kick("room", "a")) is True
    assert b.heard() == [("disconnect", "a", "room", "")]
    assert world.clock.waiting == [] and a.code is None
    assert back(world, "a", secret)[2]["Resumed"] is False


def test_a_kicked_member_is_in_no_room(world: World) -> None:
    """Packets that it sends before its close reach nobody."""
    a, b = world.members("a", "b")
    do(world.rooms.kick("room", "b"))
    a.texts()
    say(b, "b", 1)
    b.say(packet("disconnect", "b", "room"))
    assert a.texts() == []


@pytest.mark.parametrize("reason", ["x" * 124, "\u20ac" * 42])
def test_a_reason_too_long_for_a_close_frame(world: World, reason: str) -> None:
    """It raises ValueError and removes nobody; one byte less is accepted."""
    (a,) = world.members("a")
    with pytest.raises(ValueError, match="123"):
        do(world.rooms.kick("room", "a", reason))
    assert a.code is None
    assert do(world.rooms.kick("room", "a", "x" * 123)) is True


async def nothing(*_: object, **__: object) -> None:
    """Stand for an engine that must not be asked."""
    raise AssertionError


def test_names_that_are_no_text(world: World) -> None:
    """A lone surrogate, as JSON may have it: ValueError, and no store ever gets to see it."""
    (a,) = world.members("a")
    world.engine.members = world.engine.rooms = nothing  # type: ignore[assignment, method-assign]
    world.engine.remove = world.engine.publish = nothing  # type: ignore[assignment, method-assign]
    for work in (
        world.rooms.kick("\ud800", "a"),
        world.rooms.kick("room", "\udfff"),
        world.rooms.kick("room", "a", "\ud800"),
        world.rooms.members("room\ud800"),
        world.rooms.rooms(after="\ud800"),
        world.rooms.rooms(after="\ud800", limit=1),
        world.rooms.send("room", 1, to=["a", "\ud800"]),
        world.rooms.send("\ud800", 1),
        world.rooms.send("room", 1, sender="\ud800"),
    ):
        with pytest.raises(ValueError, match="surrogates"):
            do(work)
    assert (a.texts(), a.code) == ([], None)


@pytest.mark.parametrize("down", ["at once", "later"])
def test_an_engine_that_is_down(down: Any) -> None:
    """The application gets the error, and nothing has happened."""
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
    """The calls of a namespace's hooks."""

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
        """Return the calls since the last time."""
        heard, self.heard = self.heard, []
        return heard


@pytest.mark.parametrize("later", [False, True])
def test_joins_and_leaves_call_hooks(world: World, later: bool) -> None:
    """Every way to get and to lose a seat calls one hook, once; a repeated connect calls none."""
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
    """No hook runs for a member that resumes; if it does not, one runs when its grace ends."""
    visits = Visits(world)
    a, secret = guest(world, "a")
    assert visits.take() == [("join", "room", "a")]
    a.end()
    a, *_ = back(world, "a", secret)
    a.end()
    assert visits.take() == []
    world.clock.advance(GRACE)
    assert visits.take() == [("leave", "room", "a", "grace-over")]


def test_a_refused_join_calls_no_hook(world: World) -> None:
    """Hooks are for seats, not for attempts."""
    strict = World(world.engine.__class__, duplicate="reject")
    visits = Visits(strict)
    strict.members("a")
    strict.client().connect("a", "room")
    assert visits.take() == [("join", "room", "a")]


def test_a_hook_runs_after_the_answer_to_the_connect(world: World) -> None:
    """Packets that it sends arrive after the role and the welcome."""

    @world.rooms.on_join
    async def greet(room: str, user: str) -> None:
        await world.rooms.send(room, f"hello {user}", to=[user], sender="site")

    (a,) = [world.client()]
    a.say(packet("connect", "a", "room", {"Welcome": True}))
    assert [each[0] for each in a.heard()] == ["connect", "welcome", "broadcast"]
    assert callable(greet)


def test_a_hook_may_remove_the_newcomer(world: World) -> None:
    """The newcomer is removed before it has sent anything."""
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
    """The member joins and leaves, other hooks run, and the failure is in the log."""

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


def test_members_of_other_nodes_call_no_hook_here(world: World) -> None:
    """Their own node calls its hooks."""
    visits = Visits(world)
    replica = world.rooms._replica
    replica.hear("room", Joined("far", "elsewhere1", ("{", "}")))
    replica.hear("room", Left("far", "elsewhere1", "why"))
    assert visits.take() == []


def test_a_kick_waits_for_the_engine() -> None:
    """The member keeps its seat until the engine has removed it."""
    world = World(LaterEngine)
    a, b = world.members("a", "b")
    kicking = begin(world.rooms.kick("room", "b"))
    assert (a.texts(), b.code) == ([], None)
    run_on(kicking)
    assert (len(a.texts()), b.code) == (1, 4504)


def test_the_nodes_are_the_engines(world: World) -> None:
    """As the engine saw them last."""
    world.members("a")
    (seen,) = world.rooms.nodes()
    assert seen.about is not None and seen.about.members == 1
