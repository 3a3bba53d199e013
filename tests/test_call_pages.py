"""The Python Call with pages of the browser client, in real Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiortc import AudioStreamTrack, VideoStreamTrack
from browser import Browser, chromium
from test_browser_client import FLOWS, Site

from videre.client import Call, Peer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECONDS = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Run one Chromium for all."""
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def site(browser: Browser) -> AsyncIterator[Site]:
    """Serve the pages and a signaller."""
    site = Site(browser)
    browser.faults.clear()
    await site.start()
    yield site
    await browser.close()
    await site.stop()
    assert browser.faults == []


def calling(site: Site, room: str, **more: Any) -> Call:
    """Return a call of py's that sends a picture and a tone."""
    call = Call(f"http://127.0.0.1:{site.wire.port}/echo", user="py", room=room, **more)
    call.add_track(VideoStreamTrack())
    call.add_track(AudioStreamTrack())
    return call


@pytest.mark.parametrize("first", ["page", "python"])
async def test_both_see_each_other(site: Site, first: str) -> None:
    room = str(uuid4())
    frames: asyncio.Queue[Any] = asyncio.Queue()
    heard: asyncio.Queue[Any] = asyncio.Queue()

    async def watch(track: Any, peer: Peer) -> None:
        for _ in range(5):
            await track.recv()
        frames.put_nowait((track.kind, peer.user))

    async with asyncio.timeout(SECONDS):
        page = await site.client("ann", room) if first == "page" else None
        call = calling(site, room)
        call.on("track", watch)
        call.on("message", lambda value, peer: heard.put_nowait((peer.user, value)))
        for each in ("state", "error", "ignored"):
            call.on(each, lambda *a, each=each: print(each, *a))
        async with call:
            page = page or await site.client("ann", room)
            assert {await frames.get(), await frames.get()} == {("audio", "ann"), ("video", "ann")}
            assert await page.run(FLOWS) is True
            await page.run("v.send('from the page');")
            assert await heard.get() == ("ann", "from the page")
            await call.send("from python")
            said = "return v.heard.find(({ type }) => type === 'message').detail.data"
            said = "await until(() => v.heard.some(({ type }) => type === 'message'));" + said
            assert await page.run(said) == "from python"
        await page.run("await until(() => !v.peers.size);")
