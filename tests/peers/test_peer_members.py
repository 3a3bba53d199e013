"""Broadcast, disconnect and promotion: protocol.md, section 2, rule by rule."""

from __future__ import annotations

import pytest
from fakes import ENGINES, World, packet

from videre.peers import peer

TEXT_FORMS = [
    '{"Header":{"Event":"broadcast","UserId":"a","RoomId":"room"},"Payload":"{}"}',
    ' {\t"Payload" :\r\n{ "sdp" : 1.50e+1 } , "Header":{"RoomId":"room","UserId":"a",'
    '"Event":"broadcast"} }\n',
    '{"Header":{"Event":"broad\\u0063ast","UserId":"\\u0061","RoomId":"room"},"Payload":null}',
    '{"Header":{"Event":"broadcast","UserId":"a","RoomId":"room"},"Payload":"\\u00e9\u00e9\\/"}',
    '{"X":[],"Header":{"Too":7,"Event":"broadcast","UserId":"a","RoomId":"room"},"Payload":[1,1.0]}',
    '{"Header":{"Event":"broadcast","UserId":"a","RoomId":"room"},"Payload":1,"Payload":"2"}',
    '{"Header":{"Event":"broadcast","UserId":"a","RoomId":"room"},"Payload":"\U0001f600"}',
]


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> World:
    """Give a namespace, on each kind of engine."""
    return World(request.param)


# broadcast


@pytest.mark.parametrize("text", TEXT_FORMS)
def test_a_broadcast_goes_byte_for_byte_to_every_other_member(world: World, text: str) -> None:
    """Every other member gets it unchanged; the sender and other rooms get nothing."""
    a, b, c = world.members("a", "b", "c")
    (other,) = world.members("b", room="other")
    a.say(text)
    assert b.texts() == c.texts() == [text]
    assert (a.texts(), other.texts()) == ([], [])


def test_the_order_of_broadcasts_is_kept(world: World) -> None:
    """Each sender's broadcasts arrive in order."""
    a, b, c = world.members("a", "b", "c")
    texts = [packet("broadcast", "a", "room", number) for number in range(20)]
    for text in texts:
        a.say(text)
    assert b.texts() == c.texts() == texts


def test_a_broadcast_without_other_members(world: World) -> None:
    """It is no error, and nobody hears anything."""
    (a,) = world.members("a")
    a.say(packet("broadcast", "a", "room"))
    assert a.heard() == []


def test_how_often_headers_are_searched_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After eight broadcasts with different headers, the server looks for no repetition."""
    searched: list[str] = []
    head_of = peer.head_of  # type: ignore[attr-defined]

    def counting(text: str) -> str | None:
        searched.append(text)
        return head_of(text)

    monkeypatch.setattr(peer, "head_of", counting)
    a, b = world.members("a", "b")
    for number in range(30):
        a.say(packet("broadcast", "a", "room", Id=number))
    assert len(searched) == peer.MAX_HEADS == 8
    assert len(b.texts()) == 30
    a.connect("a", "other")  # It has a seat of its own: its headers may be alike.
    for _ in range(5):
        a.say(packet("broadcast", "a", "other"))
    assert len(searched) == 9


@pytest.mark.parametrize("event", ["broadcast", "disconnect"])
def test_only_a_member_may_broadcast_and_disconnect(world: World, event: str) -> None:
    """A session outside the room gets `not-in-room` for `broadcast` and `disconnect`."""
    a, b = world.members("a", "b")
    stranger = world.client()
    stranger.say(packet(event, "a", "room"))
    assert stranger.heard() == [("error", "a", "room", "not-in-room")]
    (elsewhere,) = world.members("a", room="other")
    elsewhere.say(packet(event, "a", "room"))
    assert elsewhere.heard() == [("error", "a", "other", "not-in-room")]
    a.say(packet(event, "a", "nowhere"))
    assert a.heard() == [("error", "a", "room", "not-in-room")]
    assert b.heard() == []


@pytest.mark.parametrize("event", ["broadcast", "disconnect"])
def test_a_member_speaks_only_under_its_own_name(world: World, event: str) -> None:
    """Another UserId is `wrong-user`, even that of another member."""
    a, b = world.members("a", "b")
    for name in ("b", "z"):
        a.say(packet(event, name, "room"))
        assert a.heard() == [("error", "a", "room", "wrong-user")]
    assert b.heard() == []
    a.say(packet("broadcast", "a", "room"))
    assert len(b.heard()) == 1


# disconnect


def test_disconnect(world: World) -> None:
    """All remaining members get the packet unchanged; the sender gets nothing."""
    a, b, c = world.members("a", "b", "c")
    b.say(packet("disconnect", "b", "room", {"secret": 1}))
    gone = '{"Header":{"Event":"disconnect","UserId":"b","RoomId":"room"},"Payload":""}'
    assert a.texts() == c.texts() == [gone]
    assert (b.texts(), b.code) == ([], None)


def test_disconnect_and_connect_again(world: World) -> None:
    """The connection stays open and may connect again to any room, as any user."""
    a, b = world.members("a", "b")
    b.say(packet("disconnect", "b", "room"))
    b.connect("b", "room")
    assert b.heard() == [("connect", "b", "room", "false")]
    b.say(packet("disconnect", "b", "room"))
    b.connect("z", "other")
    assert b.heard() == [("connect", "z", "other", "true")]
    assert [event for event, *_ in a.heard()] == ["disconnect", "connect", "disconnect"]


def test_disconnect_twice(world: World) -> None:
    """The second one gets `not-in-room`."""
    (a,) = world.members("a")
    a.say(packet("disconnect", "a", "room"))
    a.say(packet("disconnect", "a", "room"))
    assert a.heard() == [("error", "a", "room", "not-in-room")]


@pytest.mark.parametrize("clean", [True, False])
def test_a_closed_or_lost_connection_is_a_disconnect(world: World, clean: bool) -> None:
    """The others get one `disconnect`, as if the client had sent it."""
    a, b = world.members("a", "b")
    b.end(clean=clean)
    assert a.heard() == [("disconnect", "b", "room", "")]
    assert [record["reason"] for record in world.log.of("leave")] == ["connection-lost"]


def test_a_close_after_a_disconnect_adds_none(world: World) -> None:
    """The others never hear a second `disconnect`, or one for a user who never joined."""
    a, b = world.members("a", "b")
    b.say(packet("disconnect", "b", "room"))
    newer = world.member("b")
    a.texts()
    b.end()
    assert (a.heard(), newer.heard()) == ([], [])
    world.client().end()
    assert a.heard() == []


# The initiator leaves.


@pytest.mark.parametrize("how", ["packet", "close", "move", "replaced"])
def test_promotion(world: World, how: str) -> None:
    """The longest-present member is promoted and alone gets a `connect`, after the `disconnect`."""
    a, b, c = world.members("a", "b", "c")
    if how == "packet":
        a.say(packet("disconnect", "a", "room"))
    elif how == "close":
        a.end()
    elif how == "move":
        a.connect("a", "other")
    else:
        world.client().connect("a", "room")
    gone = '{"Header":{"Event":"disconnect","UserId":"a","RoomId":"room"},"Payload":""}'
    role = '{"Header":{"Event":"connect","UserId":"b","RoomId":"room"},"Payload":"true"}'
    assert b.texts()[:2] == [gone, role]
    texts = c.texts()
    assert texts[0] == gone
    assert role not in texts


def test_the_heirs_follow_in_joining_order(world: World) -> None:
    """The longest-present is promoted: neither names nor earlier visits count."""
    clients = dict(zip("cab", world.members("c", "a", "b"), strict=True))
    clients["c"].say(packet("disconnect", "c", "room"))
    clients["c"].connect("c", "room")
    for client in clients.values():
        client.texts()
    for leaver, heir in (("a", "b"), ("b", "c")):
        clients[leaver].end()
        assert clients[heir].heard()[-1] == ("connect", heir, "room", "true")


def test_no_promotion_when_another_member_leaves(world: World) -> None:
    """The leave of a member that is not the initiator changes no role."""
    a, b, c = world.members("a", "b", "c")
    b.end()
    assert a.heard() == c.heard() == [("disconnect", "b", "room", "")]


def test_a_newcomer_after_a_promotion(world: World) -> None:
    """The heir stays the only initiator."""
    a, _ = world.members("a", "b")
    a.end()
    assert world.client().peer is not None
    c = world.client()
    c.connect("c", "room")
    assert c.heard() == [("connect", "c", "room", "false")]


# The log.


def test_the_log_of_a_visit(world: World) -> None:
    """It has joins and leaves with reason and duration, rooms made and dropped, and headers."""
    a = world.client()
    a.connect("a", "room")
    world.clock.advance(2.5)
    a.say(packet("disconnect", "a", "room"))
    assert [event for event, _ in world.log.records] == [
        "room-made",
        "join",
        "session-seated",
        "leave",
        "room-dropped",
    ]
    (left,) = world.log.of("leave")
    assert (left["reason"], left["seconds"], left["user"]) == ("disconnect", 2.5, "a")
    assert [record[:3] for record in world.log.traced] == [
        ("connect", "a", "room"),
        ("disconnect", "a", "room"),
    ]
