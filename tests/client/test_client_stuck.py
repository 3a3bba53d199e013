"""The Python client on a connection that takes no more data."""

from __future__ import annotations

import asyncio
import gc
import select
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import WSMessage, WSMsgType
from patience import WAIT_SECONDS, eventually
from scripted import Link, Scripted, scripted

from videre.client import Backoff, Client, Lost, Rejoined

pytestmark = pytest.mark.usefixtures("nothing_is_left")

LARGE = "x" * 1_000_000


@asynccontextmanager
async def seated() -> AsyncIterator[tuple[Scripted, Client, Link]]:
    """Give a scripted server, a client seated there without limits, and the server's end of it."""
    async with asyncio.timeout(WAIT_SECONDS), scripted() as server:
        room = Client(server.url, user="me", room="room", backoff=Backoff(first=0.0))
        entering = asyncio.create_task(room.__aenter__())
        link = await server.link()
        await link.seat("me", Limits={})
        await entering
        yield server, room, link
        leaving = asyncio.create_task(room.__aexit__(None, None, None))
        await asyncio.sleep(0)  # it has started: the client knows that it is to leave
        server.end()
        await leaving


async def flood(room: Client) -> None:
    """Send without end."""
    while True:
        await room.broadcast(LARGE)


async def stuck(room: Client, link: Link) -> asyncio.Task[None]:
    """Return a task that floods a server that reads nothing, once all buffers are full."""
    flooding = asyncio.create_task(flood(room))
    connection: Any = room._link.connection
    socket = connection._socket.get_extra_info("socket")
    server: Any = link._request.protocol
    await eventually(lambda: server._reading_paused and not select.select([], [socket], [], 0)[1])
    return flooding


@pytest.mark.parametrize("broken", [True, False])
async def test_waiting_broadcasts_use_the_next_connection(broken: bool) -> None:
    """Whether the old one breaks, or its server never reads the rest; it does not linger."""
    async with seated() as (server, room, link):
        flooding = await stuck(room, link)
        old: Any = room._link.connection
        socket = old._socket.get_extra_info("socket")
        if broken:
            link.cut()
        else:
            transport: Any = link._request.transport
            transport.write(b"\x88\x02" + (4001).to_bytes(2, "big"))  # a close frame
        link = await server.link()
        await link.seat("me", Limits={}, Resumed=False)
        assert (await link.hears("broadcast"))["Payload"] == LARGE
        flooding.cancel()
        with suppress(asyncio.CancelledError):
            await flooding
        await eventually(lambda: socket.fileno() == -1)
        assert [type(await room.receive()) for _ in range(2)] == [Lost, Rejoined]


async def test_a_cancelled_broadcast_cancels_no_other() -> None:
    """Not even one that waits for the same connection."""
    async with seated() as (_, room, link):
        (await stuck(room, link)).cancel()
        other = asyncio.create_task(room.broadcast("other" + LARGE))
        while (await link.hears("broadcast"))["Payload"] == LARGE:
            pass
        await other


async def test_a_ping_that_cannot_be_answered() -> None:
    """The connection has broken after the ping arrived: it is lost like any other."""
    async with seated() as (server, room, _):
        connection: Any = room._link.connection
        socket = connection._socket
        socket._reader.feed_data(WSMessage(WSMsgType.PING, b"", None), 0)
        socket._writer.transport.abort()
        await (await server.link()).seat("me", Resumed=False)
        assert [type(await room.receive()) for _ in range(2)] == [Lost, Rejoined]


async def test_a_closed_connection_pings_no_more() -> None:
    """A timer would keep it, and all that it has received, for the time of a heartbeat."""
    async with seated() as (_, room, link):
        connection: Any = room._link.connection
        socket = weakref.ref(connection._socket)
        del connection
        ended = asyncio.create_task(link.ended())
        await room.__aexit__(None, None, None)
        assert await ended == 1000
        gc.collect()
        assert socket() is None
