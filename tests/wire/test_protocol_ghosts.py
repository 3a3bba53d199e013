"""Graces that end, gaps, ghosts and tokens end to end: what a secret cannot do."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from fakes import brief, packet
from inprocess import Client
from resuming import LIMITS, Namespace, namespace, speak, welcome_in
from sockjs_client import fresh, poll, send
from tokens import SECRET
from visitors import Visitor

from videre.auth import TokenAuth, secret_key, sign
from videre.transport import Options

#: long enough to be noticed, short enough to wait for
SHORT = replace(LIMITS, grace=0.2)


async def witness(space: Namespace) -> Client:
    """Return `b`, who is in the room with `a`."""
    b = await space.server.client()
    await b.join("b")
    return b


async def hears_a_comeback(b: Client) -> None:
    """Check that `b` hears `a` leave, is promoted, and hears it join again."""
    await b.hears(
        ("disconnect", "a", "room", ""),
        ("connect", "b", "room", "true"),
        ("connect", "a", "room", "false"),
    )
    await b.quiet()


# The grace.


@pytest.mark.parametrize("transport", ["raw", "websocket", "xhr"])
async def test_a_grace_ends(transport: str) -> None:
    """The others hear a disconnect, and the initiator loses its role."""
    async with namespace(SHORT, transport=Options(disconnect_delay=0.5)) as space:
        visitor = await space.enter(transport)
        await space.take(visitor)
        b = await witness(space)
        await visitor.hear()
        visitor.wire.reset()
        await b.hears(("disconnect", "a", "room", ""), ("connect", "b", "room", "true"))
        await space.log.until("leave", user="a", reason="grace-over")
        _, role, welcome = await space.back()
        assert (role, welcome["Resumed"], welcome["Initiator"]) == ("false", False, "b")
        await b.hears(("connect", "a", "room", "false"))


async def test_graces_of_a_whole_room_end() -> None:
    """All members are lost; after the last grace the room is gone."""
    async with namespace(SHORT) as space:
        for user in "abc":
            visitor = await space.enter(user=user)
            await space.take(visitor)
            visitor.wire.reset()
        for user in "abc":
            await space.log.until("leave", user=user, reason="grace-over")
        asker = await space.server.client()
        assert await asker.users() == []


async def test_no_grace() -> None:
    """With Grace 0 a broken connection leaves at once, and the welcome has no secret."""
    async with namespace(replace(LIMITS, grace=0)) as space:
        visitor = await space.enter()
        _, welcome = await space.take(visitor)
        assert (welcome["Resume"], welcome["Grace"]) == (None, 0)
        b = await witness(space)
        visitor.wire.reset()
        await b.hears(("disconnect", "a", "room", ""), ("connect", "b", "room", "true"))


async def test_a_server_stops_during_a_grace() -> None:
    """It stops at once, and nobody hears a leave."""
    async with namespace() as space:
        visitor = await space.enter()
        await space.take(visitor)
        b = await witness(space)
        visitor.wire.reset()
        await space.lost()
        closing = asyncio.create_task(space.server.runner.cleanup())
        assert await b.closed() == 1001
        await closing
    left = [fields["user"] for event, fields in space.log.events if event == "leave"]
    assert left == ["b"]


async def test_another_server_knows_no_secret() -> None:
    """After a restart, an attempt to resume is a fresh join, and the welcome says so."""
    async with namespace() as space:
        await space.take(await space.enter())
        secret = space.secret
    async with namespace() as space:
        b = await witness(space)
        space.secret = secret
        texts, role, welcome = await space.back()
        assert (role, welcome["Resumed"], welcome["Users"]) == ("false", False, ["b", "a"])
        await b.hears(("connect", "a", "room", "false"))
        await texts.are()


# Gaps.


async def test_more_was_missed_than_is_kept() -> None:
    """Beyond MaxResumeBytes the client is told of the gap, and others hear a leave and a join."""
    async with namespace(replace(LIMITS, max_resume_bytes=1000)) as space:
        visitor = await space.enter()
        await space.take(visitor)
        b = await witness(space)
        visitor.wire.reset()
        await space.lost()
        await speak(b, "x" * 400, "x" * 400, "x" * 400)
        texts, role, welcome = await space.back()
        assert (role, welcome["Resumed"], welcome["Users"]) == ("false", False, ["b", "a"])
        await texts.are()
        await hears_a_comeback(b)


async def test_more_waited_for_a_poll_than_is_kept() -> None:
    """Messages that a polling client did not fetch in time and that are not kept are a gap too."""
    limits = replace(LIMITS, max_resume_bytes=1000)
    async with namespace(limits, transport=Options(disconnect_delay=0.3)) as space:
        session, url = fresh(), space.server.url
        assert await poll(url, session) == "o\n"
        await send(url, session, packet("connect", "a", "room", {"Welcome": True}))
        space.secret = welcome_in(await poll(url, session))
        b = await witness(space)
        await speak(b, *["x" * 400] * 5)
        await space.lost()
        assert (await space.back())[2]["Resumed"] is False
        await hears_a_comeback(b)


async def test_a_slow_reader_resumes() -> None:
    """Closed with 4002, it resumes and gets everything that it did not read."""
    options = Options(max_backlog_bytes=4096)
    async with namespace(replace(LIMITS, max_resume_bytes=None), transport=options) as space:
        visitor = await Visitor.enter(space.server.url, "raw", receive_buffer=4096)
        await visitor.say(packet("connect", "a", "room", {"Welcome": True}))
        await space.take(visitor)
        b = await witness(space)
        number = 0
        while not [event for event, _ in space.log.events if event == "lost"]:
            await speak(b, f"{number}" + "x" * 50_000)
            number += 1
        await space.log.until("lost", user="a", reason="closed-by-server", code=4002)
        texts, _, welcome = await space.back()
        assert welcome["Resumed"] is True
        assert (await texts.next())[:2] == ("connect", "b")
        for expected in range(number):
            assert (await texts.next())[3] == f"{expected}" + "x" * 50_000
        await texts.are()


# Ghosts.


@pytest.mark.parametrize("duplicate", ["replace", "reject"])
@pytest.mark.parametrize("transport", ["raw", "websocket", "xhr", "xhr_streaming"])
async def test_a_living_connection_loses_its_seat_to_its_secret(
    transport: str, duplicate: Any
) -> None:
    """It gets the reason, its seat moves, and others hear nothing, under both policies."""
    async with namespace(duplicate=duplicate) as space:
        old = await space.enter(transport)
        await space.take(old)
        b = await witness(space)
        await old.hear()
        texts, role, welcome = await space.back()
        assert (role, welcome["Resumed"]) == ("true", True)
        assert await old.goodbye() == (4503, "Replaced by a newer connection")
        await speak(b, 1)
        await texts.are(1)
        assert await b.users() == ["a", "b"]


async def test_a_stranger_of_the_same_name_replaces() -> None:
    """Without the secret: the old one gets the reason, and its secret becomes invalid."""
    async with namespace() as space:
        old = await space.enter()
        await space.take(old)
        b = await witness(space)
        await old.hear()
        newer = await space.server.client("sockjs")
        assert await newer.join("a") == "false"
        assert await old.goodbye() == (4503, "Replaced by a newer connection")
        await hears_a_comeback(b)
        thief = await space.enter(Resume=space.secret, Received=0)
        assert brief((await thief.hear())[0]) == ("error", "a", "room", "unauthorized")


async def test_a_stranger_of_the_same_name_is_refused() -> None:
    """Under the other policy, even while the connection is lost: its holder can resume."""
    async with namespace(duplicate="reject") as space:
        old = await space.enter()
        await space.take(old)
        old.wire.reset()
        await space.lost()
        newer = await space.server.client()
        await newer.send("connect", "a", "room", {"Welcome": True})
        await newer.hears(("error", "a", "room", "user-taken"))
        _, role, welcome = await space.back()
        assert (role, welcome["Resumed"]) == ("true", True)


async def test_a_secret_is_valid_once() -> None:
    """A used one is unauthorized; the new one is valid."""
    async with namespace() as space:
        visitor = await space.enter()
        await space.take(visitor)
        used = space.secret
        visitor.wire.reset()
        await space.lost()
        texts, *_ = await space.back()
        texts.visitor.wire.reset()
        await space.lost()
        for wrong in (used, "nonsense"):
            thief = await space.enter(Resume=wrong, Received=0)
            assert brief((await thief.hear())[0]) == ("error", "a", "room", "unauthorized")
        assert (await space.back())[2]["Resumed"] is True


# Tokens.


def token(user: str = "a", ttl: float = 3600) -> str:
    """Return a token for a user and the room."""
    now = time.time()
    return sign(secret_key(SECRET), user, "room", now=now, ttl=ttl, exp=now + ttl)


async def test_a_secret_is_no_token() -> None:
    """Where tokens are required, resuming also needs a valid one."""
    async with namespace(auth=TokenAuth([secret_key(SECRET)])) as space:
        visitor = await space.enter(Token=token())
        await space.take(visitor)
        visitor.wire.reset()
        await space.lost()
        client = await space.server.client()
        wrong: list[tuple[dict[str, Any], str]] = [
            ({}, "unauthorized"),
            ({"Token": token("b")}, "unauthorized"),
            ({"Token": token(ttl=-5)}, "token-expired"),
        ]
        for options, code in wrong:
            await client.send(
                "connect", "a", "room", {"Resume": space.secret, "Received": 0, **options}
            )
            await client.hears(("error", "a", "room", code))
        shown = {"Resume": "wrong", "Received": 0, "Token": token()}
        await client.send("connect", "a", "room", shown)
        await client.hears(("error", "a", "room", "unauthorized"))
        _, role, welcome = await space.back(Token=token())
        assert (role, welcome["Resumed"]) == ("true", True)


async def test_a_resumed_seat_ends_with_its_new_token() -> None:
    """The token of the lost connection no longer counts."""
    async with namespace(auth=TokenAuth([secret_key(SECRET)]), leeway=0.1) as space:
        visitor = await space.enter(Token=token(ttl=0.6))
        await space.take(visitor)
        visitor.wire.reset()
        await space.lost()
        texts, *_ = await space.back(Token=token(ttl=1.2))
        assert (await texts.next())[3] == "token-expired"
        assert await texts.visitor.goodbye() == (4502, "Token expired")
        await space.log.until("leave", user="a", reason="closed-by-server")
