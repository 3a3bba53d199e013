"""Welcome, role, ice, unicast and removal end to end: protocol.md, 3.1 and 4."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from fakes import packet
from heard_log import HeardLog
from inprocess import Client, Framing, Server, serving
from sockjs_client import Wire, fresh, poll, send

import videre

both = pytest.mark.parametrize("framing", ["raw", "sockjs"])


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Give a running signaller."""
    async with serving(videre.create_app()) as running:
        yield running


async def welcomed(client: Client, user: str, room: str = "room") -> dict[str, Any]:
    """Connect and return the welcome."""
    await client.send("connect", user, room, {"Welcome": True})
    assert (await client.heard())[0] == "connect"
    event, *who, payload = await client.heard()
    assert (event, who) == ("welcome", [user, room])
    welcome: dict[str, Any] = json.loads(payload)
    return welcome


@both
async def test_a_welcome_on_request(server: Server, framing: Framing) -> None:
    """It has all of 3.1 in one packet right after the own connect; others see nothing of it."""
    (a,) = await server.members("a")
    b = await server.client(framing)
    welcome = await welcomed(b, "b")
    secret = welcome.pop("Resume")
    assert isinstance(secret, str) and len(secret) == 22  # 128 bits
    assert welcome == {
        "Initiator": "a",
        "Users": ["a", "b"],
        "Grace": 20,
        "IceServers": [],
        "IceTtl": None,
        "Limits": {
            "PacketsPerSecond": 50,
            "PacketBurst": 400,
            "BytesPerSecond": 64 * 1024,
            "ByteBurst": 512 * 1024,
        },
    }
    await a.hears(("connect", "b", "room", "false"))
    await a.quiet()
    await b.quiet()


async def test_all_secrets_differ(server: Server) -> None:
    """A hundred welcomes, to the same client or to others, have a hundred secrets."""
    clients = [await server.client() for _ in range(5)]
    secrets = {
        (await welcomed(client, f"u{number}", f"room{number}"))["Resume"]
        for _ in range(20)
        for number, client in enumerate(clients)
    }
    assert len(secrets) == 100


async def test_promotions_are_announced_on_request(server: Server) -> None:
    """Clients that asked get a role packet; the heir and the others hear the original's packets."""
    a, b = await server.members("a", "b")
    c, d = await server.client(), await server.client("sockjs")
    await c.join("c")
    await welcomed(d, "d")
    for client in (a, b):
        await client.hears(("connect", "c", "room", "false"), ("connect", "d", "room", "false"))
    await c.hears(("connect", "d", "room", "false"))
    await a.send("disconnect", "a", "room")
    gone = ("disconnect", "a", "room", "")
    await b.hears(gone, ("connect", "b", "room", "true"))
    await c.hears(gone)
    await d.hears(gone, ("role", "b", "room", "true"))
    for client in (b, c, d):
        await client.quiet()


@both
@pytest.mark.parametrize("payload", [{"Welcome": 1}, {"Resume": 5}, '{"Received":-1}'])
async def test_wrong_types(server: Server, framing: Framing, payload: Any) -> None:
    """The client gets `invalid-packet`, and no seat."""
    client = await server.client(framing)
    await client.send("connect", "a", "room", payload)
    await client.hears(("error", "a", "room", "invalid-packet"))
    assert await client.users() == []


@both
async def test_ice(server: Server, framing: Framing) -> None:
    """Members alone get servers as in the welcome, in their own packet."""
    client = await server.client(framing)
    await client.send("ice", "a", "room")
    await client.hears(("error", "a", "room", "not-in-room"))
    welcome = await welcomed(client, "a")
    await client.send("ice", "a", "room", Id=5)
    body = json.loads(await client.text())
    assert body["Header"] == {"Event": "ice", "UserId": "a", "RoomId": "room", "Id": 5}
    assert json.loads(body["Payload"]) == {key: welcome[key] for key in ("IceServers", "IceTtl")}


@both
async def test_unicast(server: Server, framing: Framing) -> None:
    """Named members get it byte for byte; absent names are reported."""
    a = await server.client(framing)
    await a.join("a")
    b, c = await server.client("raw"), await server.client("sockjs")
    for client, user in ((b, "b"), (c, "c")):
        await client.join(user)
        await a.hears(("connect", user, "room", "false"))
    await b.hears(("connect", "c", "room", "false"))
    for to, readers in (("b", [b]), (["c"], [c]), (["b", "c", "a"], [b, c]), (["x", "c"], [c])):
        text = packet("broadcast", "a", "room", {"to": to}, To=to)
        await a.say(text)
        for reader in readers:
            assert await reader.text() == text
    await a.hears(("error", "a", "room", "no-such-user"))
    for client in (a, b, c):
        await client.quiet()


# The hosting application.


class Site:
    """A site with signalling in it, and a page that removes users."""

    def __init__(self) -> None:
        self.app = web.Application()
        self.log = HeardLog()
        self.rooms = videre.setup(self.app, prefix="/echo", logger=self.log.logger).rooms
        self.app.router.add_post("/kick/{user}", self.kick)

    async def kick(self, request: web.Request) -> web.Response:
        """Remove a user."""
        done = await self.rooms.kick("room", request.match_info["user"], await request.text())
        return web.json_response({"done": done, "left": await self.rooms.members("room")})


@pytest.mark.parametrize("transport", ["raw", "sockjs", "xhr"])
async def test_a_site_removes_a_user(transport: Any) -> None:
    """Its own page does so: the session gets the reason on any transport, others hear a leave."""
    site = Site()
    async with serving(site.app) as server:
        (a,) = await server.members("a")
        session = fresh()
        if transport == "xhr":
            assert await poll(server.url, session) == "o\n"
            await send(server.url, session, packet("connect", "b", "room"))
            assert (await poll(server.url, session)).startswith("a")
        else:
            b = await server.client(transport)
            await b.join("b")
        await a.hears(("connect", "b", "room", "false"))
        async with server.http.post(f"{server.url}/kick/b", data="was rude") as answer:
            assert await answer.json() == {"done": True, "left": ["a"]}
        await a.hears(("disconnect", "b", "room", ""))
        if transport == "xhr":
            assert await poll(server.url, session) == 'c[4504,"was rude"]\n'
        else:
            message = await b.socket.receive()
            if transport == "sockjs":
                assert message.data == 'c[4504,"was rude"]'
                message = await b.socket.receive()
            assert (message.data, message.extra) == (4504, "was rude")
        async with server.http.post(f"{server.url}/kick/b") as answer:
            assert await answer.json() == {"done": False, "left": ["a"]}
        await Wire.hang_up()


async def test_a_site_uses_hooks_and_sends() -> None:
    """Sync and async hooks run for real connections; a packet that one sends arrives."""
    site = Site()
    heard: list[tuple[str, ...]] = []

    @site.rooms.on_join
    async def greet(room: str, user: str) -> None:
        heard.append(("join", user))
        await site.rooms.send(room, {"hello": user}, to=user, sender="site")

    @site.rooms.on_leave
    def note(room: str, user: str, reason: str) -> None:
        heard.append(("leave", user, reason))

    async with serving(site.app) as server:
        a = await server.client()
        await a.send("connect", "a", "room", {"Welcome": True})
        heard_by_a = [await a.heard() for _ in range(3)]
        assert [each[0] for each in heard_by_a] == ["connect", "welcome", "broadcast"]
        assert heard_by_a[2] == ("broadcast", "site", "room", {"hello": "a"})
        await a.close()
        await site.log.until("leave", user="a")
    assert heard == [("join", "a"), ("leave", "a", "closed-by-client")]
    assert greet is not None and note is not None


@pytest.mark.parametrize("later", [False, True])
async def test_a_failing_hook_harms_nobody(later: bool) -> None:
    """Members join and leave as usual, and the log has the exception."""
    site = Site()

    def fail(*_: str) -> None:
        raise RuntimeError("the site's own fault")

    async def fail_later(*_: str) -> None:
        fail()

    site.rooms.on_join(fail_later if later else fail)
    site.rooms.on_leave(fail_later if later else fail)
    async with serving(site.app) as server:
        a, b = await server.members("a", "b")
        await b.close()
        await a.hears(("disconnect", "b", "room", ""))
        await a.quiet()
    errors = [fields["error"] for event, fields in site.log.events if event == "hook-failed"]
    # With the call for a's leave when the server ends.
    assert errors == ["RuntimeError: the site's own fault"] * 4


async def test_a_hanging_hook_blocks_nobody() -> None:
    """Neither its room nor the server's end waits for it; it is cancelled then."""
    site = Site()
    ended: list[str] = []

    @site.rooms.on_join
    async def hang(_room: str, user: str) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(user)

    async with serving(site.app) as server:
        a, b = await server.members("a", "b")
        await b.send("broadcast", "b", "room", 1)
        await a.hears(("broadcast", "b", "room", 1))
    assert sorted(ended) == ["a", "b"] and hang is not None
