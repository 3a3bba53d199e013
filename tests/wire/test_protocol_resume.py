"""Resuming end to end, over real sockets: protocol.md, 3.2, on every way to lose a connection."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fakes import COUNTED, brief, packet
from resuming import LIMITS, Texts, namespace, speak, welcome_in
from sockjs_client import fresh, poll, send
from visitors import Visitor

from videre.settings import Limits
from videre.transport import Options

# A connection that breaks.


@pytest.mark.parametrize(
    ("lost", "back"),
    [
        *(("raw", "raw"), ("raw", "websocket"), ("raw", "xhr"), ("raw", "xhr_streaming")),
        *(("websocket", "websocket"), ("websocket", "xhr"), ("websocket", "eventsource")),
        *(("xhr_streaming", "raw"), ("xhr_streaming", "xhr"), ("eventsource", "websocket")),
        *(("xhr", "raw"), ("xhr", "xhr"), ("xhr", "websocket")),
    ],
)
async def test_a_broken_connection_resumes(lost: str, back: str) -> None:
    """After a RST on any transport it resumes on any other with all packets; peers hear nothing."""
    async with namespace(transport=Options(disconnect_delay=1.0)) as space:
        visitor = await space.enter(lost)
        role, _ = await space.take(visitor)
        assert role == "true"
        b = await space.server.client()
        await b.join("b")
        assert brief((await visitor.hear())[0])[:2] == ("connect", "b")
        visitor.wire.reset()
        await space.lost()
        await speak(b, 1, {"type": "offer"}, "three")
        texts, role, welcome = await space.back(back)
        assert (role, welcome["Resumed"], welcome["Users"]) == ("true", True, ["a", "b"])
        await texts.are(1, {"type": "offer"}, "three")
        await texts.visitor.say(packet("broadcast", "a", "room", "back"))
        await b.hears(("broadcast", "a", "room", "back"))
        assert await b.users() == ["a", "b"]


async def test_a_polling_client_that_stops() -> None:
    """Packets that waited for its next poll, and later ones, arrive once."""
    async with namespace(transport=Options(disconnect_delay=0.3)) as space:
        session = fresh()
        url = space.server.url
        assert await poll(url, session) == "o\n"
        await send(url, session, packet("connect", "a", "room", {"Welcome": True}))
        space.secret = welcome_in(await poll(url, session))
        b = await space.server.client()
        await b.join("b")
        await speak(b, 1, 2)
        await space.lost()
        await speak(b, 3)
        texts, role, welcome = await space.back("websocket")
        assert (role, welcome["Resumed"]) == ("true", True)
        assert (await texts.next())[:2] == ("connect", "b")
        await texts.are(1, 2, 3)
        await b.quiet()


async def test_an_unread_stream_breaks() -> None:
    """The packets that it did not read come again, with those sent after the loss."""
    limits = replace(LIMITS, max_resume_bytes=None)
    async with namespace(limits, transport=Options(max_backlog_bytes=None)) as space:
        visitor = await Visitor.enter(space.server.url, "xhr_streaming", receive_buffer=4096)
        await visitor.say(packet("connect", "a", "room", {"Welcome": True}))
        await space.take(visitor)
        for _ in range(200):  # at once, so that they are one frame, larger than socket buffers
            await space.rooms.send("room", "x" * 60_000)
        b = await space.server.client()
        await b.join("b")
        await speak(b, 1, 2)
        visitor.wire.reset()
        await space.lost()
        texts, _, welcome = await space.back()
        assert welcome["Resumed"] is True
        for _ in range(200):
            assert (await texts.next())[3] == "x" * 60_000
        assert (await texts.next())[:2] == ("connect", "b")
        await texts.are(1, 2)


async def test_repeated_losses() -> None:
    """Ten in a row, with a count each time: every packet arrives exactly once, in order."""
    async with namespace() as space:
        visitor = await space.enter()
        await space.take(visitor)
        b = await space.server.client()
        await b.join("b")
        texts, received, number = Texts(visitor), 0, 0
        heard: list[Any] = []
        for _ in range(10):
            await speak(b, number, number + 1)
            heard.append((await texts.next())[3])  # one is read, the others are in flight
            received += 1
            texts.visitor.wire.reset()
            await space.lost()
            await speak(b, number + 2)
            number += 3
            texts, _, welcome = await space.back(Received=received)
            assert welcome["Resumed"] is True
            received = 0
        while heard[-1] != number - 1:
            heard.append((await texts.next())[3])
        assert heard == ["false", *range(number)]
        await texts.are()


# What counts as a loss.


@pytest.mark.parametrize("code", [b"", (1000).to_bytes(2, "big"), (1001).to_bytes(2, "big")])
@pytest.mark.parametrize("transport", ["raw", "websocket"])
async def test_a_normal_close_is_final(transport: str, code: bytes) -> None:
    """The others hear it at once, and the secret resumes nothing."""
    async with namespace() as space:
        visitor = await space.enter(transport)
        await space.take(visitor)
        b = await space.server.client()
        await b.join("b")
        assert visitor.socket is not None
        visitor.socket.send(code, 8)
        await b.hears(("disconnect", "a", "room", ""), ("connect", "b", "room", "true"))
        _, role, welcome = await space.back()
        assert (role, welcome["Resumed"]) == ("false", False)


@pytest.mark.parametrize("how", ["3000", "4000", "fin", "half a frame", "broken frame"])
async def test_any_other_end_is_a_loss(how: str) -> None:
    """A close with another code, an end without one, and an invalid frame."""
    async with namespace() as space:
        visitor = await space.enter()
        await space.take(visitor)
        b = await space.server.client()
        await b.join("b")
        assert visitor.socket is not None
        if how.isdigit():
            visitor.socket.send(int(how).to_bytes(2, "big"), 8)
        elif how == "broken frame":
            visitor.wire.writer.write(b"\xff\xff\xff\xff")
        else:
            if how == "half a frame":
                visitor.wire.writer.write(b"\x81")
            await visitor.wire.close()
        await space.lost()
        await b.quiet()
        assert (await space.back())[2]["Resumed"] is True


async def test_a_disconnect_is_final() -> None:
    """If the connection breaks afterwards, the seat is already gone."""
    async with namespace() as space:
        visitor = await space.enter()
        await space.take(visitor)
        b = await space.server.client()
        await b.join("b")
        await visitor.say(packet("disconnect", "a", "room"))
        await b.hears(("disconnect", "a", "room", ""), ("connect", "b", "room", "true"))
        visitor.wire.reset()
        assert (await space.back())[2]["Resumed"] is False


async def test_closing_for_a_rate_is_a_loss() -> None:
    """Closed with 4003 the seat is kept, with 4500 it is not."""
    limits = Limits(packets_per_second=0.001, packet_burst=10, join_timeout=None)
    async with namespace(limits) as space:
        visitor = await space.enter()
        await space.take(visitor)
        for _ in range(30):
            await visitor.say(packet("ping", "a", "room"))
        await space.lost()
        texts, _, welcome = await space.back()
        assert welcome["Resumed"] is True
        for _ in range(10):
            await texts.visitor.say("nonsense")
        await space.log.until("leave", user="a", reason="closed-by-server")


async def test_packets_fetched_after_the_close_are_not_sent_again() -> None:
    """The last packets of a polling session closed with 4003 arrive once."""
    limits = Limits(packets_per_second=0.001, packet_burst=10, join_timeout=None)
    async with namespace(limits) as space:
        session, url = fresh(), space.server.url
        assert await poll(url, session) == "o\n"
        await send(url, session, packet("connect", "a", "room", {"Welcome": True}))
        space.secret = welcome_in(await poll(url, session))
        b = await space.server.client()
        await b.join("b")
        await speak(b, 1, 2)
        await send(url, session, *[packet("ping", "a", "room")] * 30)
        await space.lost()
        heard = [brief(text) for text in json.loads((await poll(url, session))[1:])]
        fetched = [each[3] for each in heard if each[0] == "broadcast"]
        received = sum(each[0] in COUNTED for each in heard)
        assert (await poll(url, session)).startswith("c[4003")
        texts, _, welcome = await space.back(Received=received)
        assert welcome["Resumed"] is True
        await texts.are(*[payload for payload in (1, 2) if payload not in fetched])
