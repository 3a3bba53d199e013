"""Resuming: a client that shows its secret in time gets its seat and all missed packets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import ENGINES, UNLIMITED, World, brief, packet
from guests import answer, ask, back, guest, initiator, say, users, welcome_of

from videre.peers.peer import MAX_HEADS

GRACE = 20.0


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


def test_a_seat_is_resumed(world: World) -> None:
    """The client gets its own connect, a welcome, then each missed packet once, in order."""
    a, secret = guest(world, "a")
    b, c = world.members("b", "c")
    say(b, "b", 1)
    a.texts()
    a.end()
    say(b, "b", 2)
    d = world.member("d")
    c.say(packet("disconnect", "c", "room"))
    say(d, "d", {"type": "offer"})
    for client in (b, c, d):
        client.texts()
    a, role, welcome, missed = back(world, "a", secret)
    assert role == "true"
    assert welcome["Resumed"] is True and welcome["Users"] == ["a", "b", "d"]
    assert (welcome["Initiator"], welcome["Grace"]) == ("a", 20)
    assert missed == [
        ("broadcast", "b", "room", 2),
        ("connect", "d", "room", "false"),
        ("disconnect", "c", "room", ""),
        ("broadcast", "d", "room", {"type": "offer"}),
    ]
    assert b.heard() == d.heard() == []
    assert users(world) == '["a","b","d"]'


def test_a_resumed_member_is_like_any_other(world: World) -> None:
    """It speaks, hears and leaves as before, and the grace timer is gone."""
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    a.end()
    world.clock.advance(GRACE / 2)
    a, *_ = back(world, "a", secret)
    world.clock.advance(10 * GRACE)
    say(a, "a", 1)
    say(b, "b", 2)
    assert (a.heard(), b.heard()) == (
        [("broadcast", "b", "room", 2)],
        [("broadcast", "a", "room", 1)],
    )
    a.say(packet("disconnect", "a", "room"))
    assert b.heard() == [("disconnect", "a", "room", ""), ("connect", "b", "room", "true")]
    (left,) = world.log.of("leave")
    assert left["seconds"] == 10.5 * GRACE  # since it joined, not since it resumed


def test_the_echo_is_the_own_packet(world: World) -> None:
    """It repeats the client's connect with its role for a Payload, but not the secret."""
    a, secret = guest(world, "a")
    a.end()
    client = world.client()
    client.say(
        f'{{"X":1,"Payload":{{"Resume":"{secret}","Received":0}},'
        '"Header":{"Id":5,"Event":"connect","UserId":"a","RoomId":"room"}}'
    )
    assert client.texts()[0] == (
        '{"X":1,"Payload":"true","Header":{"Id":5,"Event":"connect","UserId":"a","RoomId":"room"}}'
    )


def test_a_secret_is_valid_once(world: World) -> None:
    """Each welcome has a new secret; the old one then counts as a wrong one."""
    a, first = guest(world, "a")
    a.end()
    a, _, welcome, _ = back(world, "a", first)
    second = welcome["Resume"]
    assert second != first
    a.end()
    for wrong in (first, "nonsense"):
        thief = world.client()
        ask(thief, "a", Resume=wrong)
        assert thief.heard() == [("error", "a", "room", "unauthorized")]
    _, role, welcome, _ = back(world, "a", second)
    assert (role, welcome["Resumed"]) == ("true", True)


def test_a_new_welcome_invalidates_the_old_secret(world: World) -> None:
    """Only the secret of the last welcome resumes the seat."""
    a, first = guest(world, "a")
    ask(a, "a", Welcome=True)
    second = answer(a)[1]["Resume"]
    a.end()
    thief = world.client()
    ask(thief, "a", Resume=first)
    assert thief.error()["Code"] == "unauthorized"
    assert back(world, "a", second)[2]["Resumed"] is True


def test_repeated_losses(world: World) -> None:
    """Every packet arrives exactly once, and each loss starts a full grace period."""
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    a.texts()
    heard: list[Any] = []
    for number in range(6):
        a.end()
        say(b, "b", 2 * number)
        world.clock.advance(GRACE - 1)
        a, _, welcome, missed = back(world, "a", secret)
        secret = welcome["Resume"]
        say(b, "b", 2 * number + 1)
        heard += [*missed, *a.heard()]
    assert [payload for *_, payload in heard] == list(range(12))
    assert b.heard() == []


def test_missed_packets_are_missed_again(world: World) -> None:
    """Packets sent to a connection that then broke are sent again, by the client's count."""
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    a.end()
    for number in range(3):
        say(b, "b", number)
    a, _, welcome, missed = back(world, "a", secret, Received=1)  # the connect of b
    assert [payload for *_, payload in missed] == [0, 1, 2]
    say(b, "b", 3)
    a.end()
    a, _, _, missed = back(world, "a", welcome["Resume"], Received=1)
    assert [payload for *_, payload in missed] == [1, 2, 3]


def test_every_counted_event_counts(world: World) -> None:
    """Connects, disconnects, broadcasts and roles count; ping, ice, error and welcome do not."""
    world.members("x", "y")
    a, secret = guest(world, "a")
    heard: list[Any] = []
    world.member("b")
    a.say(packet("ping", "a", "room"))
    a.say(packet("ice", "a", "room"))
    a.say("nonsense")
    world.client().connect("x", "room")  # replaces the initiator
    say(world.member("c"), "c", 1)
    heard = [
        each for each in a.heard() if each[0] in ("connect", "disconnect", "broadcast", "role")
    ]
    assert [each[0] for each in heard] == [
        *("connect", "disconnect", "role", "connect", "connect", "broadcast")
    ]
    a.end()
    _, _, _, missed = back(world, "a", secret, Received=2)
    assert missed == heard[2:]


@pytest.mark.parametrize("count", [{}, {"Received": None}], ids=["missing", "null"])
def test_resuming_without_a_count_is_a_fresh_join(world: World, count: dict[str, Any]) -> None:
    """Nobody knows what arrived: others hear a leave and a join, and the client is told."""
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    say(b, "b", 1)
    a.end()
    client = world.client()
    client.say(packet("connect", "a", "room", {"Resume": secret, **count}))
    role, welcome, missed = answer(client)
    assert (role, welcome["Resumed"], missed) == ("false", False, [])
    assert "LastId" not in welcome and welcome["Users"] == ["b", "a"]
    gone = ("disconnect", "a", "room", "")
    assert b.heard() == [gone, ("connect", "b", "room", "true"), ("connect", "a", "room", "false")]
    assert world.clock.waiting == []  # the old seat's grace is over
    client.end()
    assert back(world, "a", welcome["Resume"])[2]["Resumed"] is True


def test_without_a_count_secrets_are_ignored(world: World) -> None:
    """It is an ordinary join: the duplicate policy decides, and no guess is counted."""
    reject = World(type(world.engine), duplicate="reject")
    a, secret = guest(reject, "a")
    a.end()
    for shown in (secret, "wrong"):
        thief = reject.client()
        thief.say(packet("connect", "a", "room", {"Resume": shown}))
        assert thief.heard() == [("error", "a", "room", "user-taken")]
    assert back(reject, "a", secret)[2]["Resumed"] is True
    guesser = world.client()
    for _ in range(11):
        guesser.say(packet("connect", "a", "room", {"Resume": "wrong"}))
        assert answer(guesser)[0] == "true" or guesser.code is None
    assert world.clock.slept == []


@pytest.mark.parametrize("last", [7, 0, 1.5, "seven", None, True, ["x"], "x" * 65])
def test_the_welcome_names_the_last_broadcast(world: World, last: Any) -> None:
    """It has the valid Header.Id of the last broadcast, so the client can resend later ones."""
    a, secret = guest(world, "a")
    a.say(packet("broadcast", "a", "room", Id=6))
    a.say(packet("broadcast", "a", "room", Id=last))
    a.say(packet("ping", "a", "room", Id=99))
    a.end()
    a, _, welcome, _ = back(world, "a", secret)
    told = None if last in (None, True, ["x"], "x" * 65) else last
    assert welcome["LastId"] == told and type(welcome["LastId"]) is type(told)
    a.say(packet("broadcast", "a", "room", Id=8))
    a.say(packet("broadcast", "a", "room", 2, Id=8))  # behind a header that is already known
    a.end()
    a, _, welcome, _ = back(world, "a", welcome["Resume"])
    assert welcome["LastId"] == 8
    a.end()
    _, _, welcome, _ = back(world, "a", welcome["Resume"])
    assert welcome["LastId"] == 8


@pytest.mark.parametrize("more", [{"To": "b"}, {}], ids=["addressed", "to all"])
def test_a_known_header_has_its_own_id(world: World, more: dict[str, Any]) -> None:
    """Also after a packet with another one, to some members or to all."""
    a, secret = guest(world, "a")
    world.members("b")
    for number in range(MAX_HEADS, 0, -1):
        a.say(packet("broadcast", "a", "room", Id=number))
    a.say(packet("broadcast", "a", "room", Id=9, **more))
    a.say(packet("broadcast", "a", "room", "again", Id=1))
    a.end()
    assert back(world, "a", secret)[2]["LastId"] == 1


def test_the_welcome_names_no_broadcast(world: World) -> None:
    """Broadcasts before the seat do not count, and a welcome after a plain join names none."""
    a, secret = guest(world, "a")
    a.end()
    _, _, welcome, _ = back(world, "a", secret)
    assert welcome["LastId"] is None
    b, _ = guest(world, "b")
    b.end(clean=True)
    _, _, welcome, _ = back(world, "b", "some secret")
    assert welcome["Resumed"] is False and "LastId" not in welcome


def test_a_role_may_change_during_the_grace(world: World) -> None:
    """The echo has the current role, and the change is among the missed packets."""
    (a,) = world.members("a")
    b, secret = guest(world, "b")
    c, third = guest(world, "c")
    b.texts()
    b.end()
    a.say(packet("disconnect", "a", "room"))
    assert c.heard() == [("disconnect", "a", "room", ""), ("role", "b", "room", "true")]
    assert initiator(world) == "b"
    c.end()
    _, role, welcome, missed = back(world, "b", secret)
    assert (role, welcome["Initiator"]) == ("true", "b")
    assert missed[:2] == [("disconnect", "a", "room", ""), ("connect", "b", "room", "true")]
    assert back(world, "c", third)[1] == "false"


def test_resuming_leaves_another_room(world: World) -> None:
    """A client that meanwhile sits in another room leaves it."""
    (w,) = world.members("w", room="other")
    a, secret = guest(world, "a")
    a.end()
    again = world.client()
    ask(again, "x", "other", Welcome=True)
    again.texts()
    w.texts()
    ask(again, "a", Resume=secret)
    role, welcome, _ = answer(again)
    assert (role, welcome["Resumed"]) == ("true", True)
    assert w.heard() == [("disconnect", "x", "other", "")]
    say(again, "a", 1, "other")
    assert again.heard() == [("error", "a", "room", "not-in-room")]


def test_seats_of_one_name_in_two_rooms(world: World) -> None:
    """The secret of one does not resume the other."""
    first, one = guest(world, "a", "one")
    second, two = guest(world, "a", "two")
    first.end()
    second.end()
    thief = world.client()
    ask(thief, "a", "one", Resume=two)
    assert thief.error()["Code"] == "unauthorized"
    assert back(world, "a", one, "one")[2]["Resumed"] is True
    assert back(world, "a", two, "two")[2]["Resumed"] is True


def test_a_secret_belongs_to_its_user(world: World) -> None:
    """Another user of the room cannot use it."""
    a, secret = guest(world, "a")
    b, _ = guest(world, "b")
    a.end()
    b.end()
    thief = world.client()
    ask(thief, "b", Resume=secret)
    assert thief.error()["Code"] == "unauthorized"


def test_a_welcome_comes_before_missed_packets(world: World) -> None:
    """The client then knows what the packets after it continue."""
    a, secret = guest(world, "a")
    a.end()
    world.member("b")
    client = world.client()
    ask(client, "a", Resume=secret)
    texts = client.texts()
    assert [brief(text)[0] for text in texts] == ["connect", "welcome", "connect"]
    assert welcome_of(texts[1])["Users"] == ["a", "b"]


def test_without_a_size_limit_all_packets_are_kept() -> None:
    """Without MaxResumeBytes nothing is dropped during the grace period."""
    limits = replace(UNLIMITED, max_resume_bytes=None)
    world = World(limits=limits, max_bytes=None)
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    a.end()
    for number in range(3):
        say(b, "b", f"{number}" + "x" * 300_000)
    assert [payload[0] for *_, payload in back(world, "a", secret)[3]] == ["0", "1", "2"]


def test_how_long_missed_packets_are_kept(world: World) -> None:
    """For the 40 s in which a dead connection may go unnoticed, and the grace; then it is a gap."""
    for seconds, resumed in ((59.9, True), (60.1, False)):
        room = f"room {seconds}"
        a, secret = guest(world, "a", room)
        (b,) = world.members("b", room=room)
        say(b, "b", 1, room)
        world.clock.advance(seconds - 15)
        a.end()
        world.clock.advance(15)
        say(b, "b", 2, room)
        _, _, welcome, missed = back(world, "a", secret, room, Received=1)
        assert welcome["Resumed"] is resumed
        assert [payload for *_, payload in missed] == ([1, 2] if resumed else [])


def test_all_kinds_of_packets_are_sent_again(world: World) -> None:
    """Missed joins, leaves, packets and roles are each sent once."""
    (x, _) = world.members("x", "y")
    a, secret = guest(world, "a")
    (b,) = world.members("b")
    say(b, "b", 1)
    x.say(packet("disconnect", "x", "room"))
    world.member("c")
    a.end()
    assert [each[0] for each in back(world, "a", secret, Received=1)[3]] == [
        *("broadcast", "disconnect", "role", "connect")
    ]
