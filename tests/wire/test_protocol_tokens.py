"""Tokens end to end, over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakes import Brief, brief, packet
from inprocess import Client, Framing, Server, serving
from sockjs_client import Wire, fresh, poll, send
from tokens import SECRET
from visitors import Visitor

import videre
from videre import limits
from videre.auth import TokenAuth, secret_key, sign
from videre.config import Config
from videre.limits import FAILURES
from videre.transport import Options

#: Seconds. None is a race: each is many times longer than the work done in it.
LEEWAY = 1.0
SHORT = 1.0  # a token's lifetime
ELSEWHERE = "127.0.0.2"

both = pytest.mark.parametrize("framing", ["raw", "sockjs"])


@asynccontextmanager
async def signaller(**settings: Any) -> AsyncIterator[Server]:
    """Run a server that requires tokens."""
    settings.setdefault("auth", TokenAuth([secret_key(SECRET)]))
    async with serving(videre.create_app(Config(leeway=LEEWAY, **settings))) as running:
        yield running
        await Wire.hang_up()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Give such a signaller."""
    async with signaller() as running:
        yield running


def token(user: str, room: str | list[str] = "room", ttl: float = 3600, **claims: Any) -> str:
    """Return a token that is valid for this many seconds, which may be a fraction."""
    exp = {"exp": time.time() + ttl} | claims
    return sign(secret_key(SECRET), user, room, now=time.time(), ttl=ttl, **exp)


def connect(user: str, room: str = "room", shown: str | None = None) -> str:
    """Return a connect packet with a token, a valid one by default."""
    shown = token(user, room) if shown is None else shown
    return packet("connect", user, room, {"Token": shown})


async def enter(client: Client, user: str, room: str = "room", shown: str | None = None) -> Brief:
    """Connect, and return the next packet."""
    await client.say(connect(user, room, shown))
    return await client.heard()


@both
async def test_who_may_join(server: Server, framing: Framing) -> None:
    """Only clients with a token for this user and room; others get the reason and may try again."""
    a, b = await server.client(framing), await server.client(framing)
    assert await enter(a, "a") == ("connect", "a", "room", "true")
    for shown in ("", "nonsense", token("a"), token("b", "other")):
        assert await enter(b, "b", "room", shown) == ("error", "b", "room", "unauthorized")
    await b.send("connect", "b", "room")
    await b.hears(("error", "b", "room", "unauthorized"))
    expired = token("b", ttl=-1)
    assert await enter(b, "b", "room", expired) == ("error", "b", "room", "token-expired")
    assert await enter(b, "b", "room", token("b", ["x", "ro*"]))
    await a.hears(("connect", "b", "room", "false"))
    assert await a.users() == ["a", "b"]


async def test_no_member_sees_a_token(server: Server) -> None:
    """The connect that the others hear has the role as its Payload, byte for byte."""
    a, b = await server.client(), await server.client("sockjs")
    await enter(a, "a")
    await b.say(connect("b"))
    assert await a.text() == await b.text() == packet("connect", "b", "room", "false")


async def test_a_ping_shows_nothing_to_strangers(server: Server) -> None:
    """The answer is the same for a room that exists and for one that does not."""
    a, stranger = await server.client(), await server.client()
    await enter(a, "a")
    for room in ("room", "nowhere"):
        await stranger.send("ping", "x", room)
        await stranger.hears(("error", "x", room, "unauthorized"))
    await a.send("ping", "a", "elsewhere")
    await a.hears(("error", "a", "room", "unauthorized"))


@both
async def test_a_seat_ends_with_its_token(server: Server, framing: Framing) -> None:
    """The member gets an error, then the close with 4502; others hear a disconnect."""
    b, a = await server.client(), await server.client(framing)
    await enter(b, "b")
    await enter(a, "a", "room", token("a", ttl=SHORT))
    await a.hears(("error", "a", "room", "token-expired"))
    assert await a.closed() == 4502
    await b.hears(("connect", "a", "room", "false"), ("disconnect", "a", "room", ""))


async def test_a_fresh_token_keeps_the_seat(server: Server) -> None:
    """A connect to its own room shows it: the sender hears its role, the others nothing."""
    b, a = await server.client(), await server.client()
    await enter(b, "b")
    await enter(a, "a", "room", token("a", ttl=SHORT))
    await a.hears(("error", "a", "room", "token-expired"))
    again = await enter(a, "a", "room", token("a", ttl=LEEWAY + SHORT / 2))
    assert again == ("connect", "a", "room", "false")
    # The second token ends when the first one's leeway is long over.
    await a.hears(("error", "a", "room", "token-expired"))
    await b.hears(("connect", "a", "room", "false"))
    assert await b.users() == ["b", "a"]


async def test_a_polling_clients_seat_ends_with_its_token(server: Server) -> None:
    """Polls bring the error, then the close with its code."""
    session = fresh()
    assert await poll(server.url, session) == "o\n"
    await send(server.url, session, connect("a", shown=token("a", ttl=SHORT)))
    heard: list[Brief] = []
    while not (frame := await poll(server.url, session)).startswith("c"):
        heard += map(brief, json.loads(frame[1:]))
    assert [each[3] for each in heard] == ["true", "token-expired"]
    assert json.loads(frame[1:]) == [4502, "Token expired"]


async def test_wrong_tokens_delay_their_address_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten the next answer waits; meanwhile others join, and members talk."""
    monkeypatch.setattr(limits, "FIRST_DELAY", 2.0)
    a, b = await server.client(), await server.client()
    await enter(a, "a")
    guesser = await server.client()
    for _ in range(FAILURES):
        assert (await enter(guesser, "g", "room", "nonsense"))[3] == "unauthorized"
    began = asyncio.get_running_loop().time()
    await b.say(connect("b"))
    visitor = await Visitor.enter(server.url, "raw", source=ELSEWHERE)
    await visitor.say(connect("v"))
    await a.hears(("connect", "v", "room", "false"))
    await a.send("broadcast", "a", "room", 1)
    role, text = await visitor.hear(), await visitor.hear()
    assert [brief(*role)[0], brief(*text)[0]] == ["connect", "broadcast"]
    assert await b.heard() == ("connect", "b", "room", "false")
    assert asyncio.get_running_loop().time() - began >= 2.0


async def test_a_client_that_leaves_while_it_waits_is_never_seated(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that breaks during the delay gets no seat after it."""
    monkeypatch.setattr(limits, "FIRST_DELAY", 1.0)
    a = await server.client()
    await enter(a, "a")
    guesser = await server.client()
    for _ in range(FAILURES):
        await enter(guesser, "g", "room", "nonsense")
    ghost, after = await server.client(), await server.client()
    await ghost.say(connect("ghost"))
    await after.say(connect("after"))
    ghost.reset()
    # The delays end in order: when the second is over, the first would have been heard.
    await a.hears(("connect", "after", "room", "false"))
    assert await a.users() == ["a", "after"]


async def test_a_member_that_closes_while_it_waits(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others hear of its close at once, although its own connect is still delayed."""
    monkeypatch.setattr(limits, "FIRST_DELAY", 3600.0)
    monkeypatch.setattr(limits, "LONGEST_DELAY", 3600.0)
    a, b = await server.client(), await server.client()
    await enter(a, "a")
    await enter(b, "b")
    await a.hears(("connect", "b", "room", "false"))
    guesser = await server.client()
    for _ in range(FAILURES):
        await enter(guesser, "g", "room", "nonsense")
    await b.say(connect("b"))
    await b.socket.close()
    await a.hears(("disconnect", "b", "room", ""))


async def test_empty_messages_count_while_a_connect_waits() -> None:
    """What a client sends during its delay is bounded, however short its messages are."""
    options = Options(max_backlog_bytes=4096, max_packet_bytes=1 << 20)
    async with signaller(transport=options) as server:
        guesser = await server.client()
        for _ in range(FAILURES):
            await enter(guesser, "g", "room", "nonsense")
        flooder = await server.client("sockjs")
        await flooder.say(connect("f"))
        await flooder.socket.send_str(json.dumps([""] * 100_000))
        assert await flooder.closed() == 4003


@pytest.mark.parametrize("key", [b"k" * 60_000, b"\\u0000\\u001b[2J\\r\\n" * 3000])
async def test_an_error_is_bounded(key: bytes) -> None:
    """A stranger's text is not multiplied: an error repeats a bounded part, in the log too."""
    async with signaller() as server:
        client = await server.client()
        for text in (
            '{"Header":{"Event":"%s","UserId":"a","RoomId":"r"},"Payload":1}',
            '{"Header":{"Event":"ping","UserId":"%s","RoomId":"r"},"Payload":1}',
            '{"Header":{"Event":"ping","UserId":"a","RoomId":"%s"},"Payload":1}',
            '{"Header":{"Event":"ping","UserId":"a","Id":"%s"},"Payload":1}',
            '{"%s":1}',
        ):
            await client.say(text % key.decode())
            answer = await client.text()
            assert brief(answer)[3] == "invalid-packet"
            assert len(answer) < 1000
