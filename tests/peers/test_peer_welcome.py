"""The welcome, the role packet and `ice`: what a client hears that asks for more."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import ENGINES, UNLIMITED, World, brief, fake_ice, packet
from guests import answer, ask, guest, say, welcome_of

from videre.settings import Limits


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


# The welcome.


@pytest.mark.parametrize("as_text", [False, True])
def test_a_welcome_says_it_all(world: World, as_text: bool) -> None:
    """Right after the own connect: initiator, users in joining order, secret, grace, ICE."""
    world.members("a", "b")
    c = world.client()
    payload: Any = {"Welcome": True}
    c.say(packet("connect", "c", "room", json.dumps(payload) if as_text else payload))
    role, text = c.texts()
    assert brief(role) == ("connect", "c", "room", "false")
    assert json.loads(text)["Header"] == {"Event": "welcome", "UserId": "c", "RoomId": "room"}
    assert isinstance(json.loads(text)["Payload"], str)
    assert welcome_of(text) == {
        "Initiator": "a",
        "Users": ["a", "b", "c"],
        "Resume": "secret-1",
        "Grace": 20,
        **fake_ice("c"),
    }


def test_the_first_is_welcome_too(world: World) -> None:
    """It is the initiator of a room of one."""
    a = world.client()
    ask(a, "a", Welcome=True)
    role, welcome, rest = answer(a)
    assert (role, welcome["Initiator"], welcome["Users"], rest) == ("true", "a", ["a"], [])


@pytest.mark.parametrize("payload", ["{}", {}, {"Welcome": False}, {"Welcome": None}, "", None, 5])
def test_who_does_not_ask_is_not_told(world: World, payload: Any) -> None:
    """Section 2, and nothing else."""
    a = world.client()
    a.say(packet("connect", "a", "room", payload))
    assert a.heard() == [("connect", "a", "room", "true")]


@pytest.mark.parametrize(
    "options", [{"Welcome": 1}, {"Resume": 5}, {"Received": True}, {"Resume": ""}], ids=str
)
def test_what_is_asked_for_wrongly(world: World, options: dict[str, Any]) -> None:
    """The sender is told which key is at fault, and nobody has joined; it counts as bad."""
    (a,) = world.members("a")
    client = world.client()
    for _ in range(10):
        assert client.code is None
        ask(client, "b", **options)
        error = client.error()
        assert (error["Code"], error["Retry"]) == ("invalid-packet", False)
        assert error["Message"].startswith(f"Payload.{next(iter(options))}: ")
    assert (client.code, a.heard(), world.rooms.users_here("room")) == (4500, [], '"[\\"a\\"]"')


def test_every_welcome_has_a_secret_of_its_own(world: World) -> None:
    """Nobody is shown another one's, and no other packet holds it."""
    (plain,) = world.members("z")
    clients = [guest(world, user) for user in "abc"]
    secrets = [secret for _, secret in clients]
    assert len(set(secrets)) == 3
    everybody = [plain, *(client for client, _ in clients)]
    heard = [text for client in everybody for text in client.texts()]
    assert heard and not any(secret in text for secret in secrets for text in heard)


def test_without_a_grace_there_is_no_secret() -> None:
    """The welcome says that a lost seat is lost."""
    world = World(limits=Limits(grace=0, packets_per_second=None))
    a = world.client()
    ask(a, "a", Welcome=True)
    _, welcome, _ = answer(a)
    assert (welcome["Resume"], welcome["Grace"], welcome["Users"]) == (None, 0, ["a"])


def test_two_kinds_of_clients_in_one_room(world: World) -> None:
    """One that asked and one that did not: in a whole visit neither notices the other's kind."""
    stories = []
    for asks in (False, True):
        a, b = world.client(), world.client()
        room = f"room {asks}"
        ask(a, "a", room, **({"Welcome": True} if asks else {}))
        ask(b, "b", room)
        say(a, "a", 1, room)
        say(b, "b", {"type": "offer"}, room)
        a.say(packet("ping", "a", room))
        a.say(packet("disconnect", "a", room))
        ask(a, "a", room, **({"Welcome": True} if asks else {}))
        b.end()
        stories.append(
            [
                [(event, user, payload) for event, user, _, payload in client.heard()]
                for client in (a, b)
            ]
        )
    plain, asked = stories
    assert plain[1] == asked[1]
    assert plain[0] == [each for each in asked[0] if each[0] != "welcome"]
    assert [each[0] for each in asked[0]].count("welcome") == 2


# Asking again.


def test_a_member_asks_again(world: World) -> None:
    """Its role, and a new welcome with a new secret; the others hear nothing."""
    (b,) = world.members("b")
    a, old = guest(world, "a")
    b.texts()
    ask(a, "a", Welcome=True)
    role, welcome, rest = answer(a)
    assert (role, welcome["Users"], rest, b.heard()) == ("false", ["b", "a"], [], [])
    assert welcome["Resume"] != old and "Resumed" not in welcome


def test_a_member_asks_when_it_sits_already(world: World) -> None:
    """From then on it hears of roles, and its seat can be resumed."""
    a, b, c = world.members("a", "b", "c")
    ask(c, "c", Welcome=True)
    assert answer(c)[:1] == ("false",)
    a.say(packet("disconnect", "a", "room"))
    assert c.heard() == [("disconnect", "a", "room", ""), ("role", "b", "room", "true")]
    b.texts()
    c.end()
    assert b.heard() == []


def test_a_member_that_does_not_ask_again_keeps_what_it_has(world: World) -> None:
    """A plain connect of one that asked before is answered like it was: with a new welcome."""
    a, _ = world.members("a", "b")
    c, _ = guest(world, "c")
    c.connect("c", "room")
    role, welcome, _ = answer(c)
    secret = welcome["Resume"]
    assert role == "false" and "Resumed" not in welcome
    c.end()
    d = world.client()
    ask(d, "c", Resume=secret)
    assert answer(d)[1]["Resumed"] is True
    a.say(packet("disconnect", "a", "room"))
    assert d.heard() == [("disconnect", "a", "room", ""), ("role", "b", "room", "true")]


# The role of others.


def test_promotions_are_told(world: World) -> None:
    """Who asked hears who is initiator now; the heir hears its own connect, as ever."""
    a, b = world.members("a", "b")
    c, _ = guest(world, "c")
    (d,) = world.members("d")
    for client in (a, b, c):
        client.texts()
    a.say(packet("disconnect", "a", "room"))
    gone = ("disconnect", "a", "room", "")
    assert b.heard() == [gone, ("connect", "b", "room", "true")]
    assert c.heard() == [gone, ("role", "b", "room", "true")]
    assert d.heard() == [gone]
    b.say(packet("disconnect", "b", "room"))
    gone = ("disconnect", "b", "room", "")
    assert c.heard() == [gone, ("connect", "c", "room", "true")]
    assert d.heard() == [gone]


def test_no_role_is_told_when_nobody_is_promoted(world: World) -> None:
    """A leave of another changes none."""
    world.members("a", "b")
    c, _ = guest(world, "c")
    (d,) = world.members("d")
    c.texts()
    d.end()
    assert c.heard() == [("disconnect", "d", "room", "")]


def test_a_role_is_one_text_for_all(world: World) -> None:
    """A transport frames it once."""
    (a,) = world.members("a")
    world.members("b")
    guests = [guest(world, user)[0] for user in "cde"]
    a.end()
    assert len({id(client.texts()[-1]) for client in guests}) == 1


# ICE servers.


def test_ice_for_members(world: World) -> None:
    """Fresh servers as in the welcome, in the sender's own packet; the others hear nothing."""
    a, b = world.members("a", "b")
    b.say('{"X":1,"Payload":[2],"Header":{"Id":7,"Event":"ice","UserId":"b","RoomId":"room"}}')
    (text,) = b.texts()
    body = json.loads(text)
    assert list(body) == ["X", "Payload", "Header"]
    assert body["Header"] == {"Id": 7, "Event": "ice", "UserId": "b", "RoomId": "room"}
    assert json.loads(body["Payload"]) == fake_ice("b")
    assert a.heard() == []


def test_ice_is_for_members_alone(world: World) -> None:
    """Under their own names, in their own room."""
    (a,) = world.members("a")
    stranger = world.client()
    stranger.say(packet("ice", "b", "room"))
    assert stranger.heard() == [("error", "b", "room", "not-in-room")]
    a.say(packet("ice", "a", "other"))
    a.say(packet("ice", "b", "room"))
    assert [code for *_, code in a.heard()] == ["not-in-room", "wrong-user"]


def test_ice_counts_as_a_packet() -> None:
    """Not as a ping: the rate of both is that of packets."""
    world = World(limits=Limits(packets_per_second=1, packet_burst=2, join_timeout=None))
    (a,) = world.members("a")
    for _ in range(2):
        a.say(packet("ice", "a", "room"))
    assert [each[0] for each in a.heard()] == ["ice", "error"]


@pytest.mark.parametrize("event", ["welcome", "role", "error"])
def test_what_the_server_says_is_not_for_clients(world: World, event: str) -> None:
    """Nobody can send one in its name."""
    a, b = world.members("a", "b")
    a.say(packet(event, "a", "room"))
    assert a.heard() == [("error", "a", "room", "invalid-packet")] and b.heard() == []


def test_limits_as_they_are() -> None:
    """What the welcome calls the grace is what the namespace is configured for."""
    world = World(limits=Limits(grace=2.5, packets_per_second=UNLIMITED.packets_per_second))
    a = world.client()
    ask(a, "a", Welcome=True)
    assert answer(a)[1]["Grace"] == 2.5
