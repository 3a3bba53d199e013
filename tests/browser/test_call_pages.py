"""The Python Call with pages of the browser client, in real Chromium; see also test_matrix.py."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
from aiortc import MediaStreamTrack, VideoStreamTrack
from browser import Page
from client_site import Site, site
from lost_path import lose
from patience import WAIT_SECONDS

from videre.client import Blob, Call, Peer
from videre.client.call.path import Path
from videre.client.call.route import Route

__all__ = ["site"]

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

SECONDS = 2 * WAIT_SECONDS  # a safety net for a whole test


class Python:
    """A Call of user py, and its events."""

    def __init__(self, site: Site, room: str, **options: Any) -> None:
        url = f"http://127.0.0.1:{site.wire.port}/echo"
        self.call = Call(url, user="py", room=room, **options)
        self.values: asyncio.Queue[Any] = asyncio.Queue()
        self.ignored: asyncio.Queue[Any] = asyncio.Queue()
        self.states: asyncio.Queue[str] = asyncio.Queue()
        self.call.on("message", lambda value, _peer: self.values.put_nowait(value))
        self.call.on("ignored", lambda what, _from: self.ignored.put_nowait(what))
        self.call.on("state", lambda peer: self.states.put_nowait(peer.state))

    async def connected(self) -> Peer:
        """Return the peer once it is connected."""
        while await self.states.get() != "connected":
            pass
        (peer,) = self.call.peers.values()
        return peer


#: Code with which a page sends a value, and the value in Python.
SENT: list[tuple[str, Any]] = [
    ("'words'", "words"),
    ("'\u00e9'.repeat(100_000)", "\u00e9" * 100_000),
    ("new Uint8Array([0, 255])", b"\0\xff"),
    ("new Uint8Array(1_000_000).fill(7)", b"\7" * 1_000_000),
    ("({ a: [1, null, '\u00e9'] })", {"a": [1, None, "\u00e9"]}),
    ("null", None),
    ("new File(['abc'], 'a.txt', { type: 'text/plain' })", Blob(b"abc", "a.txt", "text/plain")),
]
DESCRIBE = """
const entry = await until(() => v.heard.filter(({ type }) => type === "message")[arg]);
const { data } = entry.detail;
if (data instanceof Blob) return ["blob", data.name, data.type, await data.text()];
const bytes = data instanceof ArrayBuffer && [...new Set(new Uint8Array(data))];
if (bytes) return ["bytes", bytes, data.byteLength];
return typeof data === "string" && data.length > 99 ? [data.length, data[0]] : data;
"""


@pytest.mark.parametrize("first", ["page", "python"])
async def test_values_both_ways(site: Site, first: str) -> None:
    """Values of all kinds and sizes, whoever joined first; only one that is too large fails."""
    room = str(uuid4())
    python = Python(site, room, max_bytes=2_000_000)
    more = {"devices": False}
    async with asyncio.timeout(SECONDS):
        page = await site.client("ann", room, **more) if first == "page" else None
        async with python.call as call:
            page = page or await site.client("ann", room, **more)
            await python.connected()
            for code, value in SENT:
                assert await page.run(f"await v.send({code}); return true;") is True
                assert await python.values.get() == value
            refused = "const { failed } = await v.send(new Uint8Array(2_000_001));"
            refused += "return failed[0].error.code;"
            assert await page.run(refused) == "too-large"
            for number, (value, seen) in enumerate(
                [
                    ("words", "words"),
                    ("\u00e9" * 100_000, [100_000, "\u00e9"]),
                    (b"\0", ["bytes", [0], 1]),
                    (b"\7" * 1_000_000, ["bytes", [7], 1_000_000]),
                    ({"a": [1, None]}, {"a": [1, None]}),
                    (Blob(b"abc", "a.txt", "text/plain"), ["blob", "a.txt", "text/plain", "abc"]),
                ]
            ):
                await call.send(value)
                assert await page.run(DESCRIBE, number) == seen
            assert python.ignored.empty()
            faults = "return v.heard.filter(({ type }) => /ignored|error/.test(type)).length;"
            assert await page.run(faults) == 1  # of the one that was too large


async def replaced(path: Path, before: Route | None, page: Page) -> None:
    """Return when another connection is open; a timeout says what both sides are doing."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while path._open is before:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        checks = [f"{pair} {pair.state}" for pair in path._latest._check_list]
        code = "const c = v.peers.get('py').connection;"
        state = await page.run(f"{code} return [c.signalingState, c.iceConnectionState];")
        task = path._tasks.get(path._latest)
        error.add_note(f"The page is {state}. Python: {task}, heard {path.silence} s ago, {checks}")
        raise


@pytest.mark.parametrize("first", ["page", "python"])
@pytest.mark.parametrize("who", ["page", "python"])
async def test_either_side_restarts_ice(
    site: Site, monkeypatch: pytest.MonkeyPatch, first: str, who: str
) -> None:
    """Whichever side makes the offers, a transfer goes on in the same call, over a new path."""
    room = str(uuid4())
    python = Python(site, room)
    async with asyncio.timeout(SECONDS):
        page = await site.client("ann", room) if first == "page" else None
        async with python.call as call:
            page = page or await site.client("ann", room)
            peer = await python.connected()
            ufrag = (
                "return /ufrag:(.*)/.exec(v.peers.get('py').connection.localDescription.sdp)[1];"
            )
            assert peer._path is not None
            before, ours = await page.run(ufrag), peer._path._open
            sending = asyncio.create_task(call.send(bytes(3_000_000)))
            if who == "page":
                await page.run("v.peers.get('py').restart();")
            else:
                peer.restart()
            while await page.run(ufrag) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            lose(ours, monkeypatch)  # Chromium may keep a path that works
            await replaced(peer._path, ours, page)
            await sending
            await page.run("await v.send(new Uint8Array(100_000));")
            assert await python.values.get() == bytes(100_000)
            assert call.peers == {"ann": peer}
            calls = "return v.heard.filter(({ type }) => type === 'call').length;"
            assert await page.run(calls) == 1


@pytest.mark.parametrize("first", ["page", "python"])
async def test_tracks_added_later(site: Site, first: str) -> None:
    """Python adds one, whoever makes the offers: the page sees it, and its own video goes on."""
    room = str(uuid4())
    python = Python(site, room)
    frames: asyncio.Queue[str] = asyncio.Queue()

    @python.call.on("track")
    async def watch(track: MediaStreamTrack, _peer: Peer) -> None:
        while True:
            await track.recv()
            frames.put_nowait(track.kind)

    async with asyncio.timeout(SECONDS):
        page = await site.client("ann", room) if first == "page" else None
        async with python.call as call:
            page = page or await site.client("ann", room)
            await python.connected()
            call.add_track(VideoStreamTrack())
            seen = "await until(() => v.remoteVideoElement.srcObject);"
            assert await page.run(f"{seen} return advances(v.remoteVideoElement);")
            while not frames.empty():
                frames.get_nowait()
            heard: Counter[str] = Counter()
            while min(heard["audio"], heard["video"]) < 10:  # the pictures may be held up more
                heard[await frames.get()] += 1
            faults = "return v.heard.filter(({ type }) => /ignored|error/.test(type)).length;"
            assert await page.run(faults) == 0


async def test_a_message_that_is_no_transfer(site: Site) -> None:
    """A page sends something else over the channel: it is reported, and the call goes on."""
    room = str(uuid4())
    python = Python(site, room)
    async with asyncio.timeout(SECONDS):
        page = await site.client("ann", room, devices=False)
        async with python.call:
            await python.connected()
            say = (
                "const { data } = v.peers.get('py'); await until(() => data.readyState === 'open');"
            )
            for text in ("{", "[]", '{"Type": "Stop", "Id": 1}', '{"Type": "Ack", "Id": 9}'):
                await page.run(f"{say} data.send(arg);", text)
                assert await python.ignored.get() == text
            await page.run(f"{say} data.send(new Uint8Array(3));")
            assert await python.ignored.get() == bytes(3)
            await page.run("await v.send({ still: 'there' });")
            assert await python.values.get() == {"still": "there"}
