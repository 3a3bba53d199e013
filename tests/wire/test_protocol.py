"""The contract end to end, over real sockets: protocol.md, section 2, in both framings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from inprocess import Framing, Server, serving
from patience import patient

import videre
from videre.config import Config


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Give a running signaller."""
    async with serving(videre.create_app()) as running:
        yield running


both = pytest.mark.parametrize("framing", ["raw", "sockjs"])


@both
async def test_the_seven_steps(server: Server, framing: Framing) -> None:
    """Connect, meet, ping, offer, answer, leave, and hear the leave."""
    a, b = await server.client(framing), await server.client(framing)
    assert await a.join("a") == "true"
    assert await b.join("b") == "false"
    await a.hears(("connect", "b", "room", "false"))
    assert await a.users() == await b.users() == ["a", "b"]
    await a.send("broadcast", "a", "room", {"type": "offer", "sdp": "v=0\r\n"})
    await b.hears(("broadcast", "a", "room", {"type": "offer", "sdp": "v=0\r\n"}))
    await b.send("broadcast", "b", "room", '{"type":"answer"}')
    await a.hears(("broadcast", "b", "room", '{"type":"answer"}'))
    await a.send("disconnect", "a", "room")
    await b.hears(("disconnect", "a", "room", ""), ("connect", "b", "room", "true"))
    await a.quiet()
    await a.join("a")
    await b.hears(("connect", "a", "room", "false"))


async def test_both_framings_share_a_room(server: Server) -> None:
    """A SockJS and a raw client are members of the same room."""
    raw, sockjs = await server.client("raw"), await server.client("sockjs")
    await raw.join("a")
    await sockjs.join("b")
    await raw.hears(("connect", "b", "room", "false"))
    text = (
        '{"Header":{"Event":"broadcast","UserId":"a","RoomId":"room"},"Payload":"\u2028\U0001f600"}'
    )
    await raw.say(text)
    assert await sockjs.text() == text
    text = text.replace('"a"', '"b"')
    await sockjs.say(text)
    assert await raw.text() == text


async def test_concurrent_connects_have_one_order(server: Server) -> None:
    """Of ten that connect together, one is the initiator, and all hear the same order after it."""
    clients = [await server.client() for _ in range(10)]
    await asyncio.gather(
        *(client.send("connect", f"u{n}", "room") for n, client in enumerate(clients))
    )
    users = await (await server.client()).users()
    assert len(users) == 10
    for number, client in enumerate(clients):
        user = f"u{number}"
        for expected in users[users.index(user) :]:
            role = "true" if expected == users[0] else "false"
            await client.hears(("connect", expected, "room", role))
        await client.quiet()


@both
@pytest.mark.parametrize(
    "text",
    [
        ' {"Payload" :\t[1.0, 1e3] ,"Header":{"RoomId":"room","X":null,"UserId":"a",'
        '"Event":"broadcast"}}\n',
        '{"Header":{"Event":"broadcas\\u0074","UserId":"a","RoomId":"room"},"Payload":"\\/\\u00e9"}',
        '{"Header":{"Event":"broadcast","UserId":"a","RoomId":"room"},"Payload":"\u00e9\u2028\x7f"}',
    ],
)
async def test_a_broadcast_is_forwarded_unchanged(
    server: Server, framing: Framing, text: str
) -> None:
    """It goes to every other member as received, and never back to the sender."""
    a, b, c = [await server.client(framing) for _ in range(3)]
    for client, user in ((a, "a"), (b, "b"), (c, "c")):
        await client.join(user)
    await a.hears(("connect", "b", "room", "false"), ("connect", "c", "room", "false"))
    await b.hears(("connect", "c", "room", "false"))
    await a.say(text)
    assert await b.text() == await c.text() == text
    await a.quiet()


async def test_order_is_kept_per_sender(server: Server) -> None:
    """A hundred packets sent at once arrive in order, at each receiver."""
    a, b, c = await server.members("a", "b", "c")
    for number in range(100):
        await a.send("broadcast", "a", "room", number)
    for client in (b, c):
        assert [(await client.heard())[3] for _ in range(100)] == list(range(100))


async def test_moving_to_another_room(server: Server) -> None:
    """A connect to another room leaves the first."""
    a, b = await server.members("a", "b")
    assert await a.join("a", "other") == "true"
    await b.hears(("disconnect", "a", "room", ""), ("connect", "b", "room", "true"))
    assert await b.users() == ["b"]


@both
async def test_a_replaced_session_is_closed(server: Server, framing: Framing) -> None:
    """The old session closes with 4503; others hear a disconnect, then the newcomer."""
    old = await server.client(framing)
    await old.join("a")
    witness = await server.client(framing)
    await witness.join("w")
    await old.hears(("connect", "w", "room", "false"))
    new = await server.client(framing)
    assert await new.join("a") == "false"
    assert await old.closed() == 4503
    await witness.hears(
        ("disconnect", "a", "room", ""),
        ("connect", "w", "room", "true"),
        ("connect", "a", "room", "false"),
    )
    await witness.quiet()
    assert await new.users() == ["w", "a"]


async def test_rejecting_duplicates() -> None:
    """With `Duplicate` set to reject, the newcomer gets an error with Retry true."""
    async with serving(videre.create_app(Config(duplicate="reject"))) as server:
        a, b = await server.members("a", "b")
        newer = await server.client()
        await newer.send("connect", "a", "room")
        await newer.hears(("error", "a", "room", "user-taken"))
        await a.quiet()
        await a.close()
        await b.hears(("disconnect", "a", "room", ""), ("connect", "b", "room", "true"))
        assert await newer.join("a") == "false"


# Ways to leave.


@both
async def test_leaving_by_a_packet(server: Server, framing: Framing) -> None:
    """The connection stays open."""
    (a,) = await server.members("a")
    b = await server.client(framing)
    await b.join("b")
    await a.heard()
    await b.send("disconnect", "b", "room")
    await a.hears(("disconnect", "b", "room", ""))
    await b.quiet()


@both
@pytest.mark.parametrize("code", [1000, 1001, 3000])
async def test_leaving_by_a_close(server: Server, framing: Framing, code: int) -> None:
    """Every remaining member hears it at once, and only once."""
    a, c = await server.members("a", "c")
    b = await server.client(framing)
    await b.join("b")
    await a.heard()
    await c.heard()
    await b.close(code)
    await a.hears(("disconnect", "b", "room", ""))
    await c.hears(("disconnect", "b", "room", ""))
    assert await a.users() == ["a", "c"]


@both
async def test_leaving_by_a_reset(server: Server, framing: Framing) -> None:
    """A reset connection is heard at once, long before a heartbeat."""
    a, c = await server.members("a", "c")
    b = await server.client(framing)
    await b.join("b")
    await a.heard()
    await c.heard()
    async with asyncio.timeout(patient(5)):  # the heartbeat takes 25 s
        b.reset()
        await a.hears(("disconnect", "b", "room", ""))
        await c.hears(("disconnect", "b", "room", ""))


async def test_the_initiator_is_lost(server: Server) -> None:
    """The heir alone hears its role, after the disconnect."""
    a, b, c = await server.members("a", "b", "c")
    a.reset()
    await b.hears(("disconnect", "a", "room", ""), ("connect", "b", "room", "true"))
    await c.hears(("disconnect", "a", "room", ""))
    await c.quiet()


async def test_a_closed_room_is_gone(server: Server) -> None:
    """After all have left, the next to join is the first member."""
    a, b = await server.members("a", "b")
    await a.close()
    b.reset()
    asker = await server.client()
    while await asker.users():  # the reset takes some time in the kernel
        pass
    assert await asker.join("c") == "true"


@both
async def test_a_shutdown_closes_with_1001(framing: Framing) -> None:
    """Every session closes with 1001, and hears no other's leave before."""
    async with serving(videre.create_app()) as server:
        clients = []
        for user in "abc":
            clients.append(await server.client(framing))
            await clients[-1].join(user)
            for each in clients[:-1]:
                await each.heard()
        closing = asyncio.create_task(server.runner.cleanup())
        assert [await client.closed() for client in clients] == [1001] * 3
        await closing


# any client may ask


async def test_a_ping_by_an_outsider(server: Server) -> None:
    """Joining order for a client that knows the room's id, `[]` for a room that does not exist."""
    await server.members("b", "a")
    outsider = await server.client("sockjs")
    assert await outsider.users() == ["b", "a"]
    assert await outsider.users("nowhere") == []
    await outsider.say('{"X":1,"Header":{"Event":"ping","UserId":"?","RoomId":"room"},"Payload":0}')
    assert json.loads(await outsider.text()) == {
        "X": 1,
        "Header": {"Event": "ping", "UserId": "?", "RoomId": "room"},
        "Payload": '["b","a"]',
    }
