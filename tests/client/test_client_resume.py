"""The Python client across connections that break anywhere: each packet arrives once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from inprocess import Server, serving
from patience import WAIT_SECONDS
from ports import free_port
from scripted import Proxy, budgets, listening
from skipping import skip
from tokens import SECRET

import videre
from videre.auth import TokenAuth, secret_key, sign
from videre.client import (
    Backoff,
    Client,
    Joined,
    Left,
    Lost,
    Message,
    Rejoined,
    Resumed,
    Role,
)
from videre.config import Config
from videre.settings import Limits

pytestmark = pytest.mark.usefixtures("nothing_is_left")

SOON = Backoff(first=0.001, most=0.01)
UNLIMITED = Config(limits=Limits(packets_per_second=None, bytes_per_second=None))
TTL = 10.0  # of tokens, in seconds
MESSAGES = 150
LAST = "last"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run a signaller."""
    async with serving(videre.create_app()) as running:
        yield running


async def everything(room: Client) -> list[Any]:
    """Return the packets up to the last message."""
    events: list[Any] = []
    async for event in room:
        if isinstance(event, Message) and event.payload == LAST:
            return events
        events.append(event.payload if isinstance(event, Message) else event)
    raise AssertionError("it ended before")


async def speak(sender: Client, receiver: Client) -> list[Any]:
    """Send messages from one client to another while connections break; return those received."""
    receiving = asyncio.create_task(everything(receiver))
    for number in range(MESSAGES):
        await sender.broadcast({"number": number, "padding": "x" * (number % 50 * 10)})
        if number % 5 == 0:
            await sender.ping()
            await receiver.ping()
    # A seat lost by a gap is absent for a moment: from this answer on, it is there again.
    await receiver.ping()
    await sender.broadcast(LAST)
    return await receiving


def numbers(events: list[Any]) -> list[int]:
    """Return the numbers of the messages."""
    return [event["number"] for event in events if isinstance(event, dict)]


@pytest.mark.parametrize("seed", range(8))
async def test_exactly_once(seed: int) -> None:
    """Connections break at any point after the seat is taken."""
    async with (
        serving(videre.create_app(UNLIMITED)) as server,
        Proxy(f"{server.url}/echo", budgets(seed, 12, 2_500, 12_000)) as proxy,
        Client(f"{server.url}/echo", user="sender", room="room") as sender,
        Client(proxy.url, user="receiver", room="room", backoff=SOON) as receiver,
    ):
        events = await speak(sender, receiver)
        assert proxy.cuts > 3
        assert numbers(events) == list(range(MESSAGES))
        assert Rejoined() not in events
        assert events.count(Resumed()) == proxy.cuts
        assert receiver.users == ["sender", "receiver"]
    # The sender notices nothing but, maybe, that the receiver left at the end.
    assert [event async for event in sender] in (
        [Joined("receiver")],
        [Joined("receiver"), Left("receiver")],
    )


@pytest.mark.parametrize("seed", range(8))
async def test_once_or_reported(seed: int) -> None:
    """Connections break anywhere, even in the handshake: no duplicate, and no unreported gap."""
    async with (
        serving(videre.create_app(UNLIMITED)) as server,
        Client(f"{server.url}/echo", user="sender", room="room") as sender,
        # The first connection is spared at first, because entering tries only once.
        Proxy(f"{server.url}/echo", prefixed(3_000, budgets(seed, 9, 1, 1_500))) as proxy,
        Client(proxy.url, user="receiver", room="room", backoff=SOON) as receiver,
    ):
        events = await speak(sender, receiver)
        heard = numbers(events)
        assert proxy.cuts > 3
        assert heard == sorted(set(heard))
        known = -1
        gap = False
        for event in events:
            if event == Rejoined():
                gap = True
            elif isinstance(event, dict):
                assert event["number"] == known + 1 or gap
                known, gap = event["number"], False
        assert known == MESSAGES - 1 or gap


@pytest.mark.parametrize("pinging", [True, False])
@pytest.mark.parametrize("seed", range(4))
async def test_sent_packets_arrive_once(seed: int, pinging: bool) -> None:
    """In order, including those lost with a connection, with or without confirming pings."""
    async with (
        serving(videre.create_app(UNLIMITED)) as server,
        Proxy(f"{server.url}/echo", budgets(seed, 9, 2_500, 6_000)) as proxy,
        Client(f"{server.url}/echo", user="receiver", room="room") as receiver,
        Client(proxy.url, user="sender", room="room", backoff=SOON) as sender,
    ):
        receiving = asyncio.create_task(everything(receiver))
        for number in range(MESSAGES):
            await sender.broadcast({"number": number})
            if pinging:
                await sender.ping()
        while proxy.cuts < 9:
            await sender.ping()
        await sender.broadcast(LAST)
        assert numbers(await receiving) == list(range(MESSAGES))


def prefixed(first: int, rest: Iterator[int]) -> Iterator[int]:
    """Yield a number before the others."""
    yield first
    yield from rest


async def test_events_missed_meanwhile() -> None:
    """Joins, leaves and roles are replayed in order; the members equal the server's."""
    sleeping, awake = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        sleeping.set()
        await awake.wait()

    async with (
        serving(videre.create_app()) as server,
        Proxy(f"{server.url}/echo", iter(())) as proxy,
    ):
        a = Client(f"{server.url}/echo", user="a", room="room")
        await a.__aenter__()
        async with (
            Client(f"{server.url}/echo", user="b", room="room") as b,
            Client(proxy.url, user="me", room="room", backoff=Backoff(sleep=sleep)) as room,
        ):
            proxy.cut()
            await sleeping.wait()
            assert not room.connected
            async with Client(f"{server.url}/echo", user="c", room="room") as c:
                await c.broadcast("for all")
                await c.broadcast("for b", to="b")
                await c.broadcast("for me", to=["me"])
                await a.__aexit__(None, None, None)
                assert await c.ping() == ["b", "me", "c"]
            asking = asyncio.create_task(room.ping())
            awake.set()
            assert await asking == ["b", "me"]
            events = [await room.receive() for _ in range(8)]
            briefs = [event.payload if isinstance(event, Message) else event for event in events]
            assert isinstance(briefs.pop(0), Lost)
            left = briefs.index(Left("a"))
            role = briefs.pop(left + 1)
            assert isinstance(role, Role) and role.initiator == "b"
            briefs.remove(Left("a"))
            assert briefs == [Resumed(), Joined("c"), "for all", "for me", Left("c")]
            assert (room.users, room.initiator) == (["b", "me"], "b")
            assert await b.ping() == ["b", "me"]


async def test_after_a_fresh_token() -> None:
    """The seat can still be resumed with the secret of the last welcome."""
    key = secret_key(SECRET)
    fetched = asyncio.Semaphore(0)

    def fetch() -> str:
        fetched.release()
        now = time.time()
        return sign(key, "me", "room", now=now, ttl=TTL, exp=now + TTL)

    config = Config(auth=TokenAuth([key]), leeway=TTL)
    async with (
        serving(videre.create_app(config)) as server,
        Proxy(f"{server.url}/echo", iter(())) as proxy,
        Client(proxy.url, user="me", room="room", token=fetch, backoff=SOON) as room,
    ):
        await fetched.acquire()
        skip(TTL)
        await fetched.acquire()
        assert await room.ping() == ["me"]  # the answer to the fresh token came before
        proxy.cut()
        assert [type(await room.receive()) for _ in range(2)] == [Lost, Resumed]


async def test_a_restarted_server() -> None:
    """It uses the same port, but its rooms are gone: the client joins afresh and says so."""
    async with asyncio.timeout(WAIT_SECONDS):
        port = free_port()
        async with listening(videre.create_app(), port) as url:
            room = Client(url, user="me", room="room", backoff=SOON)
            await room.__aenter__()
        assert isinstance(lost := await room.receive(), Lost)
        assert lost.code == 1001
        async with listening(videre.create_app(), port):
            assert await room.ping() == ["me"]
            assert await room.receive() == Rejoined()
            assert room.is_initiator
            await room.__aexit__(None, None, None)


async def test_the_grace_is_over() -> None:
    """The seat is gone: the others hear a leave, and the client joins afresh."""
    sleeping, awake = asyncio.Event(), asyncio.Event()

    async def sleep(seconds: float) -> None:
        sleeping.set()
        await awake.wait()

    app = videre.create_app(Config(limits=Limits(grace=0.05)))
    async with (
        serving(app) as server,
        Proxy(f"{server.url}/echo", iter(())) as proxy,
        Client(f"{server.url}/echo", user="a", room="room") as a,
        Client(proxy.url, user="me", room="room", backoff=Backoff(sleep=sleep)) as room,
    ):
        proxy.cut()
        assert [await a.receive(), await a.receive()] == [Joined("me"), Left("me")]
        awake.set()
        assert await a.receive() == Joined("me")
        assert [type(await room.receive()) for _ in range(2)] == [Lost, Rejoined]
        assert room.users == ["a", "me"]
