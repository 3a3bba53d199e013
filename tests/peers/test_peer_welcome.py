"""Welcome, role and `ice` packets: what a client hears that asks for more."""

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
def test_the_content_of_a_welcome(world: World, as_text: bool) -> None:
    """It follows the own connect: initiator, users in joining order, secret, grace, ICE."""
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


def test_the_first_member_gets_a_welcome(world: World) -> None:
    """It says that the member is the initiator of a room of one."""
    a = world.client()
    ask(a, "a", Welcome=True)
    role, welcome, rest = answer(a)
    assert (role, welcome["Initiator"], welcome["Users"], rest) == ("true", "a", ["a"], [])


@pytest.mark.parametrize("payload", ["{}", {}, {"Welcome": False}, {"Welcome": None}, "", None, 5])
def test_no_welcome_unless_asked_for(world: World, payload: Any) -> None:
    """Such a client hears only the packets of section 2."""
    a = world.client()
    a.say(packet("connect", "a", "room", payload))
    assert a.heard() == [("connect", "a", "room", "true")]


@pytest.mark.parametrize(
    "options", [{"Welcome": 1}, {"Resume": 5}, {"Received": True}, {"Resume": ""}], ids=str
)
def test_invalid_requests(world: World, options: dict[str, Any]) -> None:
    """The error names the key at fault, nobody joins, and it counts as a bad packet."""
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
    """No client sees another's secret, and no other packet contains it."""
    (plain,) = world.members("z")
    clients = [guest(world, user) for user in "abc"]
    secrets = [secret for _, secret in clients]
    assert len(set(secrets)) == 3
    everybody = [plain, *(client for client, _ in clients)]
    heard = [text for client in everybody for text in client.texts()]
    assert heard and not any(secret in text for secret in secrets for text in heard)


def test_without_a_grace_there_is_no_secret() -> None:
    """The welcome says that a lost seat is not kept."""
    world = World(limits=Limits(grace=0, packets_per_second=None))
    a = world.client()
    ask(a, "a", Welcome=True)
    _, welcome, _ = answer(a)
    assert (welcome["Resume"], welcome["Grace"], welcome["Users"]) == (None, 0, ["a"])


def test_clients_with_and_without_a_welcome_in_one_room(world: World) -> None:
    """Neither notices the other's kind during a whole visit."""
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
    """It gets its role and a new welcome with a new secret; the others hear nothing."""
    (b,) = world.members("b")
    a, old = guest(world, "a")
    b.texts()
    ask(a, "a", Welcome=True)
    role, welcome, rest = answer(a)
    assert (role, welcome["Users"], rest, b.heard()) == ("false", ["b", "a"], [], [])
    assert welcome["Resume"] != old and "Resumed" not in welcome


def test_a_member_asks_for_its_first_welcome(world: World) -> None:
    """From then on it hears of roles, and its seat can be resumed."""
    a, b, c = world.members("a", "b", "c")
    ask(c, "c", Welcome=True)
    assert answer(c)[:1] == ("false",)
    a.say(packet("disconnect", "a", "room"))
    assert c.heard() == [("disconnect", "a", "room", ""), ("role", "b", "room", "true")]
    b.texts()
    c.end()
    assert b.heard() == []


def test_a_plain_connect_of_a_welcomed_member(world: World) -> None:
    """It is answered with a new welcome, like the first connect."""
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


def test_promotions_are_announced(world: World) -> None:
    """Welcomed members get the role packet; the heir gets its own connect as usual."""
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


def test_no_role_packet_without_a_promotion(world: World) -> None:
    """The leave of another member changes no role."""
    world.members("a", "b")
    c, _ = guest(world, "c")
    (d,) = world.members("d")
    c.texts()
    d.end()
    assert c.heard() == [("disconnect", "d", "room", "")]


def test_a_role_packet_is_one_text_for_all(world: World) -> None:
    """A transport needs to frame it only once."""
    (a,) = world.members("a")
    world.members("b")
    guests = [guest(world, user)[0] for user in "cde"]
    a.end()
    assert len({id(client.texts()[-1]) for client in guests}) == 1


# ICE servers.


def test_ice_for_members(world: World) -> None:
    """The sender gets its packet back with fresh servers; the others hear nothing."""
    a, b = world.members("a", "b")
    b.say('{"X":1,"Payload":[2],"Header":{"Id":7,"Event":"ice","UserId":"b","RoomId":"room"}}')
    (text,) = b.texts()
    body = json.loads(text)
    assert list(body) == ["X", "Payload", "Header"]
    assert body["Header"] == {"Id": 7, "Event": "ice", "UserId": "b", "RoomId": "room"}
    assert json.loads(body["Payload"]) == fake_ice("b")
    assert a.heard() == []


def test_ice_is_for_members_only(world: World) -> None:
    """The sender must use its own name and be in the room."""
    (a,) = world.members("a")
    stranger = world.client()
    stranger.say(packet("ice", "b", "room"))
    assert stranger.heard() == [("error", "b", "room", "not-in-room")]
    a.say(packet("ice", "a", "other"))
    a.say(packet("ice", "b", "room"))
    assert [code for *_, code in a.heard()] == ["not-in-room", "wrong-user"]


def test_ice_counts_against_the_packet_rate() -> None:
    """It counts as a packet, not as a ping."""
    world = World(limits=Limits(packets_per_second=1, packet_burst=2, join_timeout=None))
    (a,) = world.members("a")
    for _ in range(2):
        a.say(packet("ice", "a", "room"))
    assert [each[0] for each in a.heard()] == ["ice", "error"]


@pytest.mark.parametrize("event", ["welcome", "role", "error"])
def test_clients_cannot_send_server_packets(world: World, event: str) -> None:
    """A client that sends a server's packet type gets an error."""
    a, b = world.members("a", "b")
    a.say(packet(event, "a", "room"))
    assert a.heard() == [("error", "a", "room", "invalid-packet")] and b.heard() == []


def test_the_welcome_states_the_configured_grace() -> None:
    """Its grace is the one in the namespace's configuration."""
    world = World(limits=Limits(grace=2.5, packets_per_second=UNLIMITED.packets_per_second))
    a = world.client()
    ask(a, "a", Welcome=True)
    assert answer(a)[1]["Grace"] == 2.5
