"""Who can call whom, and what a call survives: each cell of docs/moving.md's table, in real calls.

The kinds are the browser client and the simple-peer example in Chromium, a script that behaves like
the old client (tests/node/old_page.mjs), and the Python Call, each joining first once. One side's
connection to the server is reset, then dead for five seconds, then the other's; then the server is
restarted.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
import test_documents_browser
from aiortc import MediaStreamTrack
from aiortc.contrib.media import MediaPlayer
from browser import Browser, Page, Wire
from client_site import Site
from documents import Block, claim
from film import make_film
from patience import patient

from videre.client import Backoff, Call, Event, Peer, Rejoined, Resumed

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

SECONDS = patient(180)  # a safety net for a whole test
DEAD_SECONDS = 5.0

SIMPLE: Block = claim("docs/moving.md", "new SimplePeer")


class Member(ABC):
    """One side of a call, with its own wire to the server."""

    def __init__(self, hall: Hall, user: str) -> None:
        self.hall = hall
        self.user = user
        self.wire = Wire()

    @property
    def url(self) -> str:
        """The server's URL, through the wire."""
        return f"http://127.0.0.1:{self.wire.port}/echo"

    @abstractmethod
    async def enter(self) -> None:
        """Join the room."""

    @abstractmethod
    async def flows(self) -> None:
        """Return when new frames of the other have arrived."""

    @abstractmethod
    async def back(self, event: str, times: int) -> None:
        """Return when the seat was `resumed`, or the room `rejoined`, this many times."""

    @abstractmethod
    async def calls(self) -> int:
        """Return how many calls there were: one, if it is still the first."""

    @abstractmethod
    async def restart(self) -> None:
        """Restart ICE, where the client can."""

    @abstractmethod
    async def say(self, words: str) -> None:
        """Send a text over the data channel."""

    @abstractmethod
    async def hears(self, words: str) -> None:
        """Return when this text has arrived."""

    async def leave(self) -> None:  # noqa: B027
        """Leave; a page is closed by its browser."""


class PageMember(Member):
    """A page of the browser client."""

    page: Page

    async def enter(self) -> None:
        init = f"globalThis.SIGNALLER = '{self.url}';"
        self.page = await self.hall.site.client(self.user, self.hall.room, init=init)

    async def flows(self) -> None:
        code = "await until(() => v.remoteVideoElement.srcObject);"
        assert await self.page.run(f"{code} return advances(v.remoteVideoElement);")

    async def back(self, event: str, times: int) -> None:
        count = "v.told.filter(({ type }) => type === arg.event).length"
        code = f"return until(() => {count} >= arg.times);"
        assert await self.page.run(code, {"event": event, "times": times})

    async def calls(self) -> int:
        code = "return v.heard.filter(({ type }) => type === 'call').length;"
        return int(await self.page.run(code))

    async def restart(self) -> None:
        await self.page.run("v.peers.values().next().value.restart();")

    async def say(self, words: str) -> None:
        await self.page.run("v.send(arg);", words)

    async def hears(self, words: str) -> None:
        heard = "v.heard.some(({ type, detail }) => type === 'message' && detail.data === arg)"
        assert await self.page.run(f"return until(() => {heard});", words)


class PythonMember(Member):
    """A Call in Python."""

    def _hear(self, value: Any, _peer: Peer) -> None:
        self.words.append(value)
        self.changed.set()

    async def enter(self) -> None:
        self.events: list[Event] = []
        self.peers: list[Peer] = []
        self.words: list[Any] = []
        self.frames = 0
        self.changed = asyncio.Event()
        backoff = Backoff(first=0.1, most=1.0)
        self.call = Call(self.url, user=self.user, room=self.hall.room, backoff=backoff)
        video = MediaPlayer(str(self.hall.film)).video
        assert video is not None
        self.call.add_track(video)
        self.call.on("room", self.events.append)
        self.call.on("room", lambda _event: self.changed.set())
        self.call.on("peer", self.peers.append)
        self.call.on("message", self._hear)
        self.call.on("track", self._watch)
        await self.call.__aenter__()

    async def _watch(self, track: MediaStreamTrack, _peer: Peer) -> None:
        while True:
            await track.recv()
            if track.kind == "video":
                self.frames += 1
                self.changed.set()

    async def _until(self, look: Any) -> None:
        while not look():
            self.changed.clear()
            await self.changed.wait()

    async def flows(self) -> None:
        before = self.frames
        await self._until(lambda: self.frames >= before + 5)

    async def back(self, event: str, times: int) -> None:
        kind = {"resumed": Resumed, "rejoined": Rejoined}[event]
        await self._until(lambda: sum(isinstance(e, kind) for e in self.events) >= times)

    async def calls(self) -> int:
        return len(self.peers)

    async def restart(self) -> None:
        for peer in self.call.peers.values():
            peer.restart()

    async def say(self, words: str) -> None:
        await self.call.send(words)

    async def hears(self, words: str) -> None:
        await self._until(lambda: words in self.words)

    async def leave(self) -> None:
        await self.call.__aexit__(None, None, None)


class OldMember(Member):
    """A page with a script that behaves like the old client."""

    page: Page

    async def enter(self) -> None:
        self.page = await self.hall.site.open(init=f"globalThis.SIGNALLER = '{self.url}';")
        code = """
        await import("/old_page.mjs");
        const small = { audio: true, video: { width: 160 } };
        const stream = await navigator.mediaDevices.getUserMedia(small);
        globalThis.shown = video();
        globalThis.o = new OldPage(SIGNALLER, arg[0], arg[1], stream, shown);
        await until(() => o.socket.readyState === 1);
        """
        await self.page.run(code, [self.user, self.hall.room])

    async def flows(self) -> None:
        assert await self.page.run("return advances(shown);")

    async def back(self, event: str, times: int) -> None:
        raise NotImplementedError("An old client does not come back")

    async def restart(self) -> None:
        raise NotImplementedError("It has no such wish")

    async def say(self, words: str) -> None:
        raise NotImplementedError("It has no data channel")

    async def hears(self, words: str) -> None:
        raise NotImplementedError("It has no data channel")

    async def calls(self) -> int:
        return int(await self.page.run("return o.ended ? 0 : 1;"))


class SimpleMember(Member):
    """A page of docs/moving.md's example with npm's simple-peer."""

    page: Page

    async def enter(self) -> None:
        before = """
        const back = [], met = [];
        const show = (user, words) => said.push(words);
        const play = (user, stream) => {
          const video = document.createElement("video");
          Object.assign(video, { autoplay: true, muted: true, srcObject: stream });
          globalThis.shown = video;
          document.body.append(video);
          met.push(user);
        };
        """
        library = '<script src="/npm/simplepeer.min.js/simplepeer.min.js"></script>'
        media = "const stream = await navigator.mediaDevices.getUserMedia({ video: true });"
        text = SIMPLE.text.replace('url: "/echo"', f'url: "{self.url}"')
        text = text.replace("a-long-random-room-id", self.hall.room)
        assert self.url in text and self.hall.room in text
        after = """
        for (const event of ["resumed", "rejoined"]) signaller.on(event, () => back.push(event));
        Object.assign(globalThis, { peers });
        """
        self.page = await self.hall.documents.module(
            media + text, before=f"{before}</script>{library}<script>", after=after
        )

    async def flows(self) -> None:
        # Another call, after a restart of the server, has another video, and counts from nought.
        code = """
        let least = Infinity;
        return until(() => {
          const frames = globalThis.shown?.getVideoPlaybackQuality().totalVideoFrames ?? Infinity;
          least = Math.min(least, frames);
          return frames > least + 3;
        });
        """
        assert await self.page.run(code)

    async def back(self, event: str, times: int) -> None:
        code = "return until(() => back.filter((each) => each === arg[0]).length >= arg[1]);"
        assert await self.page.run(code, [event, times])

    async def calls(self) -> int:
        return int(await self.page.run("return met.length;"))

    async def restart(self) -> None:
        """Do nothing: simple-peer does not restart ICE."""

    async def say(self, words: str) -> None:
        # Media may flow before the channel is open.
        code = """
        const ready = () => [...peers.values()].filter(({ connected }) => connected);
        await until(() => peers.size && ready().length === peers.size);
        for (const peer of ready()) peer.send(arg);
        """
        await self.page.run(code, words)

    async def hears(self, words: str) -> None:
        assert await self.page.run("return until(() => said.includes(arg));", words)


KINDS: dict[str, type[Member]] = {
    "browser": PageMember,
    "python": PythonMember,
    "old": OldMember,
    "simple": SimpleMember,
}


class Hall:
    """A room with two members, and the server."""

    def __init__(self, site: Site, documents: test_documents_browser.Site, film: Path) -> None:
        self.site = site
        self.documents = documents
        self.film = film
        self.room = str(uuid4())
        self.members: list[Member] = []

    async def enter(self, *kinds: str) -> list[Member]:
        """Let members of these kinds join, one after the other."""
        for number, kind in enumerate(kinds):
            member = KINDS[kind](self, f"{number}-{kind}")
            self.members.append(member)
            member.wire.target = self.site.wire.target
            await member.wire.start()
            await member.enter()
        return self.members

    async def both_flow(self) -> None:
        """Return when each sees the other."""
        await asyncio.gather(*(member.flows() for member in self.members))

    async def cut(self, member: Member, *, dead: bool) -> None:
        """Break a member's connection, at once or after it was dead for a while."""
        if dead:
            member.wire.dead = True
            await member.restart()  # whose signals are lost
            await self.both_flow()
            await asyncio.sleep(DEAD_SECONDS)  # the length of the outage; waits for nothing else
        member.wire.break_()
        member.wire.dead = False

    async def restart(self) -> None:
        """Stop the server, and start another one in its place."""
        await self.site.silence()
        await self.both_flow()
        await self.site.signal()
        for member in self.members:
            member.wire.target = self.site.wire.target

    async def stop(self) -> None:
        """Let all members leave."""
        for member in self.members:
            await member.leave()
            await member.wire.stop()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a film that no test outlasts."""
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", seconds=round(SECONDS))


@pytest_asyncio.fixture(loop_scope="session")
async def hall(browser: Browser, film: Path) -> AsyncIterator[Hall]:
    """Give a room; no page in it may fail."""
    site, documents = Site(browser), test_documents_browser.Site(browser)
    await site.start()
    await documents.start()
    hall = Hall(site, documents, film)
    try:
        yield hall
    finally:
        await hall.stop()
        await browser.close()
        await documents.stop()
        await site.stop()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(("browser", "browser"), ("browser", "python"), ("python", "browser")),
        *(("python", "python"), ("simple", "simple")),
    ],
)
async def test_a_call_survives(hall: Hall, first: str, second: str) -> None:
    """It stays the same to the end, with media flowing all the time, and then a text arrives."""
    async with asyncio.timeout(SECONDS):
        members = await hall.enter(first, second)
        await hall.both_flow()
        for member in members:
            for number, dead in enumerate((False, True), 1):
                await hall.cut(member, dead=dead)
                await hall.both_flow()
                await member.back("resumed", number)
        await hall.both_flow()
        await hall.restart()
        for member in members:
            await member.back("rejoined", 1)
        await hall.both_flow()
        for one, other in (members, members[::-1]):
            await one.say(f"from {one.user}")
            await other.hears(f"from {one.user}")
        # simple-peer's calls have no name by which to recognise them after the restart.
        calls = 2 if first == "simple" else 1
        assert [await member.calls() for member in members] == [calls, calls]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(("old", "old"), ("old", "browser"), ("browser", "old")),
        *(("old", "python"), ("python", "old")),
    ],
)
async def test_a_call_with_an_old_client(hall: Hall, first: str, second: str) -> None:
    """It survives faults of the new client's connection."""
    async with asyncio.timeout(SECONDS):
        members = await hall.enter(first, second)
        await hall.both_flow()
        for member in members:
            if isinstance(member, OldMember):
                continue
            for number, dead in enumerate((False, True), 1):
                await hall.cut(member, dead=dead)
                await hall.both_flow()
                await member.back("resumed", number)
        await hall.both_flow()
        assert [await member.calls() for member in members] == [1, 1]
