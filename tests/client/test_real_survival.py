"""A call outlives its signalling: each side's connection is cut in turn, and neither notices.

Run as a program, `test_real_survival.py URL URL DEVICE DEVICE`, this is the call inside a network
namespace, where each side's connection uses its own device.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aioice.ice
import pytest
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription
from cable import Cable, ip, namespace, no_cables
from inprocess import serving
from patience import patient
from process import WITH_SUPPORT, missing, signaller
from scripted import Proxy

import videre
from videre.client import Backoff, Client, Event, Joined, Lost, Message, Resumed
from videre.client.connection import Connection

CALL_SECONDS = patient(90)  # a safety net
HEARTBEAT = patient(2.0)  # s; a busy machine must answer a ping within half of it
SOON = Backoff(first=0.05, most=0.5)

#: Cuts the connection of side 0 or 1, which is its client's.
Cut = Callable[[int, Client], Awaitable[None]]


async def is_connected(client: Client) -> None:
    """Return when a client is connected."""
    while not client.connected:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def is_given_up(client: Client, connection: Connection | None) -> None:
    """Return when a client has given up this connection; it may have another one."""
    while client._link.connection is connection:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


class Side:
    """One side of the call: WebRTC, signalling, and all its events."""

    def __init__(self, room: Client) -> None:
        self.room = room
        self.heard: list[Event] = []
        self.said: asyncio.Queue[str] = asyncio.Queue()
        self.rtc = RTCPeerConnection(RTCConfiguration([]))
        self.rtc.on("datachannel", self.adopt)
        self.channel: asyncio.Future[RTCDataChannel] = asyncio.get_running_loop().create_future()

    def adopt(self, channel: RTCDataChannel) -> None:
        """Keep the data channel once it is open."""
        channel.on("message", self.said.put_nowait)
        if channel.readyState == "open":
            self.channel.set_result(channel)
        else:
            channel.on("open", lambda: self.channel.set_result(channel))

    async def hear(self, kind: type[Any]) -> Any:
        """Return the next event of a kind; `heard` also has the events before it."""
        while True:
            event = await self.room.receive()
            self.heard.append(event)
            if isinstance(event, kind):
                return event

    async def describe(self, description: RTCSessionDescription) -> None:
        """Send a description, with its candidates, to the other side."""
        await self.rtc.setLocalDescription(description)
        local = self.rtc.localDescription
        await self.room.broadcast({"type": local.type, "sdp": local.sdp})

    async def accept(self) -> None:
        """Apply the other side's description."""
        message = await self.hear(Message)
        await self.rtc.setRemoteDescription(RTCSessionDescription(**message.payload))


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the media use loopback only, which no cut affects."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])


async def call(urls: list[str], cut: Cut) -> list[list[Event]]:
    """Make a call whose every step happens while a connection is cut; return each side's events.

    None is cut before the client is back: without the answer to its resume it would join as new.
    """
    async with asyncio.timeout(CALL_SECONDS), AsyncExitStack() as stack:
        sides = []
        for url, user in zip(urls, ("peer1", "peer2"), strict=True):
            client = Client(url, user=user, room="room", heartbeat=HEARTBEAT, backoff=SOON)
            sides.append(Side(await stack.enter_async_context(client)))
            stack.push_async_callback(sides[-1].rtc.close)
        first, second = sides

        async def cut_off(number: int) -> None:
            await is_connected(sides[number].room)
            await cut(number, sides[number].room)

        assert (first.room.is_initiator, second.room.is_initiator) == (True, False)
        await first.hear(Joined)

        await cut_off(0)
        first.adopt(first.rtc.createDataChannel("videre"))
        await first.describe(await first.rtc.createOffer())
        await cut_off(1)
        await second.accept()
        await second.describe(await second.rtc.createAnswer())
        await cut_off(0)
        await first.accept()
        (await first.channel).send("Do you see me?")
        assert await second.said.get() == "Do you see me?"

        for side, other, number in ((first, second, 0), (second, first, 1)):
            await cut_off(number)
            await side.room.broadcast("still here")
            assert (await other.hear(Message)).payload == "still here"
            (await side.channel).send("still here")
            assert await other.said.get() == "still here"
        assert await first.room.ping() == await second.room.ping() == ["peer1", "peer2"]
        assert (first.room.is_initiator, second.room.is_initiator) == (True, False)
        return [side.heard for side in sides]


def check(heard: list[list[Event]]) -> None:
    """Check that both heard nothing but the call, and that connections were lost."""
    for events in heard:
        kinds = [type(event) for event in events]
        assert Lost in kinds and Resumed in kinds
        assert set(kinds) <= {Joined, Message, Lost, Resumed}
    assert [event for event in heard[0] if isinstance(event, Joined)] == [Joined("peer2")]
    assert not any(isinstance(event, Joined) for event in heard[1])


async def test_a_call_survives_resets() -> None:
    """Each side's connection is reset (RST) while the call is set up, and afterwards."""
    async with serving(videre.create_app()) as server, AsyncExitStack() as stack:
        url = f"{server.url}/echo"
        proxies = [await stack.enter_async_context(Proxy(url, iter(()))) for _ in range(2)]

        async def cut(side: int, client: Client) -> None:
            proxies[side].cut()
            await is_given_up(client, client._link.connection)

        check(await call([proxy.url for proxy in proxies], cut))


@pytest.mark.process
async def test_a_call_survives_a_dead_link(tmp_path: Path) -> None:
    """Each side's link is down until its client gives up the connection, which dies silently."""
    if fault := no_cables():
        missing(fault)
    async with namespace() as there:
        cables = [Cable(there), Cable(there)]
        for cable in cables:
            await cable.lay()
        async with signaller("--host", "0.0.0.0", tmp=tmp_path, within=["env"]) as server:
            urls = [f"ws://{cable.here}:{server.port}/echo" for cable in cables]
            process = await asyncio.create_subprocess_exec(
                *("ip", "netns", "exec", there, sys.executable, __file__),
                *itertools.chain(urls, [cable.device for cable in cables]),
                env=WITH_SUPPORT,
            )
            try:
                async with asyncio.timeout(CALL_SECONDS + 30):
                    assert await process.wait() == 0
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def inside(urls: list[str], devices: list[str]) -> None:
    """Make the call inside the namespace."""
    ups: dict[int, asyncio.Task[None]] = {}

    async def up(device: str, client: Client, connection: Connection | None) -> None:
        await is_given_up(client, connection)
        await ip("link", "set", device, "up")

    async def cut(side: int, client: Client) -> None:
        if side in ups:
            await ups[side]
            await is_connected(client)
        connection = client._link.connection  # it may be given up before `ip` has ended
        await ip("link", "set", devices[side], "down")
        ups[side] = asyncio.create_task(up(devices[side], client, connection))

    aioice.ice.get_host_addresses = lambda **_: ["127.0.0.1"]
    check(await call(urls, cut))
    await asyncio.gather(*ups.values())


if __name__ == "__main__":
    asyncio.run(inside(sys.argv[1:3], sys.argv[3:5]))
