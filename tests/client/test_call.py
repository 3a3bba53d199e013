"""Calls between Python clients: real ICE, DTLS, media and data over loopback."""

from __future__ import annotations

import asyncio
import gc
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aioice.ice
import orjson
import pytest
from aiortc import AudioStreamTrack, MediaStreamTrack, VideoStreamTrack
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from alive import Alive
from inprocess import Server, serving
from lost_path import lose
from patience import WAIT_SECONDS, eventually
from scripted import Proxy, scripted
from skipping import skip

import videre
from videre.client import (
    Backoff,
    Blob,
    Call,
    Client,
    Closed,
    Joined,
    Peer,
    TransferError,
    TransfersFailed,
    Unreachable,
)
from videre.client.call import call as call_module
from videre.client.call import pace, path, servers, signals
from videre.client.call import peer as peers
from videre.client.call.pace import ANSWERS
from videre.client.call.video_buffer import VideoBuffer
from videre.config import Config
from videre.errors import NoSuchUser, TokenExpired, Unauthorized
from videre.settings import Limits

pytestmark = pytest.mark.usefixtures("nothing_is_left")

SECONDS = WAIT_SECONDS  # a safety net
SOON = Backoff(first=0.01, most=0.1)
LATE = Backoff(uniform=lambda _least, most: most)  # half a second
Start = Callable[..., Any]


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ICE use the loopback address, which every machine has."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run a signaller."""
    async with serving(videre.create_app()) as running:
        yield running


class Party:
    """A call, and all its events."""

    def __init__(self, url: str, user: str, *, watch: bool = True, **options: Any) -> None:
        self.call = Call(url, user=user, room="room", **{"backoff": SOON, **options})
        self.told: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        self.frames: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        for event in ("peer", "hangup", "state", "message", "ignored", "error"):
            self.call.on(event, lambda *args, event=event: self.told.put_nowait((event, *args)))
        if watch and options.get("receive", True):
            self.call.on("track", self._watch)

    async def _watch(self, track: MediaStreamTrack, peer: Peer) -> None:
        while True:
            await track.recv()
            self.frames.put_nowait((track.kind, peer.user))

    async def hears(self, event: str, *, user: str | None = None, value: Any = ...) -> Any:
        """Return the first argument of the next event of this name, from this user."""
        while True:
            found, *args = await self._next()
            assert found != "error" or event == "error", args
            who = getattr(args[-1], "user", args[-1])
            if found == event and user in (None, who) and value in (..., args[0]):
                return args[0]

    async def becomes(self, state: str, *, user: str) -> None:
        """Wait until the call with a user is in a state."""
        while (peer := self.call.peers.get(user)) is None or peer.state != state:
            await self._next()

    async def _next(self) -> tuple[Any, ...]:
        async with asyncio.timeout(SECONDS):
            return await self.told.get()

    async def sees(self, kind: str, user: str) -> None:
        """Wait for a new frame from a user."""
        while not self.frames.empty():
            self.frames.get_nowait()
        async with asyncio.timeout(SECONDS):
            while await self.frames.get() != (kind, user):
                pass


@pytest.fixture
async def start(server: Server) -> AsyncIterator[Start]:
    """Return a call that joins the room as a user."""
    async with AsyncExitStack() as stack:

        async def start(user: str, *tracks: MediaStreamTrack, **options: Any) -> Party:
            party = Party(options.pop("url", f"{server.url}/echo"), user, **options)
            for track in tracks:
                party.call.add_track(track)
            await stack.enter_async_context(party.call)
            return party

        yield start


async def test_two_users_see_each_other_and_talk(start: Start) -> None:
    """Media and messages go both ways, and each hears the other hang up."""
    ann = await start("ann", VideoStreamTrack(), AudioStreamTrack())
    bob = await start("bob", VideoStreamTrack(), AudioStreamTrack())
    for one, other in ((ann, "bob"), (bob, "ann")):
        await one.sees("video", other)
        await one.sees("audio", other)
    await ann.call.send("Hello")
    assert await bob.hears("message", user="ann") == "Hello"
    await bob.call.send(b"\0", to="ann")
    assert await ann.hears("message", user="bob") == b"\0"
    await bob.call.__aexit__(None, None, None)
    await ann.hears("hangup", user="bob")
    assert ann.call.peers == {}


async def test_tracks_added_and_removed_later(start: Start) -> None:
    """Either side does so: the one that makes no offers asks for its turn."""
    ann, bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    await bob.becomes("connected", user="ann")
    camera, picture = VideoStreamTrack(), VideoStreamTrack()
    bob.call.add_track(camera)
    ann.call.add_track(picture)
    await ann.sees("video", "bob")
    await bob.sees("video", "ann")
    bob.call.remove_track(camera)
    with pytest.raises(ValueError, match="track is not sent"):
        bob.call.remove_track(camera)
    with pytest.raises(ValueError, match="sent already"):
        ann.call.add_track(picture)


@pytest.mark.parametrize("repairs", [None, "ann", "bob"])
async def test_an_offer_that_fails(
    start: Start, monkeypatch: pytest.MonkeyPatch, repairs: str | None
) -> None:
    """Who had the turn gives it back, again if that was lost: the other end can make offers."""
    ann, bob = await start("ann"), await start("bob")
    await bob.becomes("connected", user="ann")
    peers = {"ann": ann.call.peers["bob"], "bob": bob.call.peers["ann"]}
    with monkeypatch.context() as patch:
        patch.setattr(peers["bob"].connection, "createOffer", lambda: 1 / 0)
        patch.setattr(bob.call, "can_signal", lambda: repairs is None)
        peers["ann"].hear(signals.Signal(signals.ASK, peers["ann"].call))
        assert isinstance(await bob.hears("error"), ZeroDivisionError)
    if repairs:
        peers[repairs].repair()
    ann.call.add_track(VideoStreamTrack())
    await bob.sees("video", "ann")


@pytest.mark.parametrize(("who", "event"), [("ann", "peer"), ("bob", "room")])
async def test_a_track_added_as_a_call_begins(
    server: Server, start: Start, who: str, event: str
) -> None:
    """Before the first description is made, which has all tracks: it is sent, and once."""
    ann, bob = await start("ann"), Party(f"{server.url}/echo", "bob")
    one, other = (ann, bob) if who == "ann" else (bob, ann)
    call = one.call

    def add(_: Any) -> None:
        if call.peers and not call._tracks:
            call.add_track(track := VideoStreamTrack())
            call.remove_track(track)
            call.add_track(track)

    call.on(event, add)
    async with bob.call:
        await other.sees("video", who)
        (peer,) = call.peers.values()
        sent = [each.track for each in peer.connection.getSenders() if each.track is not None]
        assert len([*sent, *peer._waiting]) == 1


async def test_three_users_are_a_mesh(start: Start) -> None:
    """Each sees both others by one track; when one leaves, the others go on."""
    one, two, three = [await start(user, VideoStreamTrack()) for user in ("1", "2", "3")]
    for party, others in ((one, "23"), (two, "13"), (three, "12")):
        for other in others:
            await party.sees("video", other)
    await one.call.send({"to": "all"})
    for party in (two, three):
        assert await party.hears("message", user="1") == {"to": "all"}
    await three.call.__aexit__(None, None, None)
    await one.hears("hangup", user="3")
    await one.sees("video", "2")


async def test_unwanted_media(start: Start) -> None:
    """A camera that wants no media is sent none, but is seen."""
    camera = await start("camera", VideoStreamTrack(), receive=())
    ann = await start("ann", VideoStreamTrack(), AudioStreamTrack())
    await ann.sees("video", "camera")
    assert camera.call.peers["ann"].tracks == []
    directions = {
        transceiver.kind: transceiver.currentDirection
        for transceiver in camera.call.peers["ann"].connection.getTransceivers()
    }
    assert directions["video"] == "sendonly" and directions.get("audio") in ("inactive", None)


@pytest.mark.parametrize("who", ["caller", "called", "both"])
async def test_ice_restarts(start: Start, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    """Either side or both restart ICE: it stays the same call, and its media go on."""
    monkeypatch.setattr(path, "LINGER", 0.1)
    ann, bob = await start("ann", VideoStreamTrack()), await start("bob", VideoStreamTrack())
    await ann.sees("video", "bob")
    await bob.sees("video", "ann")
    sides = (ann.call.peers["bob"], bob.call.peers["ann"])
    before = [side._path._open for side in sides]
    for side in sides if who == "both" else sides[:1] if who == "caller" else sides[1:]:
        side.restart()
    for side, old in zip(sides, before, strict=True):
        async with asyncio.timeout(SECONDS):
            while side._path._open in (old, None):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    await ann.sees("video", "bob")
    await bob.sees("video", "ann")
    await ann.call.send("still there")
    assert await bob.hears("message") == "still there"
    await eventually(lambda: all(old._closed for old in before if old is not None))
    assert (ann.call.peers["bob"], bob.call.peers["ann"]) == sides


async def test_a_restart_happens_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that has not been broken meanwhile needs no other."""
    ann, _bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    side = ann.call.peers["bob"]
    before = side._path._open
    side.restart()
    await eventually(lambda: side._path._open not in (None, before))
    renewed = side._path._latest
    monkeypatch.setattr(side._path._open, "heard", float("inf"))  # or it would count as silent
    skip(peers.SEARCH + 1)
    side._look()
    await ann.call.send("still there")
    assert side._path._latest is renewed and side.state == "connected"


async def test_a_cancelled_restart_leaves_no_socket(start: Start) -> None:
    """The connection that it gives up is closed nevertheless."""
    ann, _bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    own = ann.call.peers["bob"]._path
    await own.renew()
    own.start("user", "password")  # of nobody: it goes on connecting
    given_up = own._latest
    assert given_up._protocols
    renewing = asyncio.create_task(own.renew())
    await asyncio.sleep(0)
    renewing.cancel()
    await eventually(lambda: not given_up._protocols)


async def test_a_call_that_ends_during_a_restart_leaves_no_socket(start: Start) -> None:
    """What the restart has opened by then, and what it opens later, is closed."""
    ann, _bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    own = ann.call.peers["bob"]._path
    await own.renew()
    own.start("user", "password")
    renewing = asyncio.create_task(own.renew())
    await asyncio.sleep(0)
    await own.close()
    await renewing
    assert not own._latest._protocols


async def test_videos_bear_old_packets(start: Start) -> None:
    """Each video has the buffer that drops them."""
    ann, bob = await start("ann", VideoStreamTrack()), await start("bob", VideoStreamTrack())
    for party, other in ((ann, "bob"), (bob, "ann")):
        await party.sees("video", other)
        for receiver in party.call.peers[other].connection.getReceivers():
            if receiver.track is not None and receiver.track.kind == "video":
                buffer = receiver._RTCRtpReceiver__jitter_buffer
                assert isinstance(buffer, VideoBuffer) and buffer.capacity == 512


async def test_a_lost_path(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other end falls silent: ICE restarts, and data sent meanwhile arrives."""
    monkeypatch.setattr(peers, "SILENCE", 1.0)
    monkeypatch.setattr(peers, "LOOK", 0.05)
    ann, bob = await start("ann", VideoStreamTrack()), await start("bob", VideoStreamTrack())
    await ann.sees("video", "bob")
    await bob.sees("video", "ann")
    for side in (ann.call.peers["bob"], bob.call.peers["ann"]):
        lose(side._path._open, monkeypatch)
    await ann.becomes("disconnected", user="bob")
    sending = asyncio.create_task(ann.call.send({"sent": "meanwhile"}))
    await ann.becomes("connected", user="bob")
    await ann.sees("video", "bob")
    await bob.sees("video", "ann")
    assert await bob.hears("message") == {"sent": "meanwhile"}
    await sending


@pytest.mark.parametrize("who", ["ann", "bob"])
async def test_lost_signalling(server: Server, start: Start, who: str) -> None:
    """The call goes on and stays the same, and a third user can be called afterwards."""
    async with Proxy(f"{server.url}/echo".replace("http", "ws"), iter(())) as proxy:
        urls = {who: proxy.url}
        ann, bob = [await start(user, **_at(urls, user)) for user in ("ann", "bob")]
        await ann.becomes("connected", user="bob")
        await bob.becomes("connected", user="ann")
        sides = (ann.call.peers["bob"], bob.call.peers["ann"])
        proxy.cut()
        for side in sides:
            side.restart()  # lost signals are sent again
        await ann.call.send("through")
        assert await bob.hears("message", user="ann") == "through"
        cid = await start("cid")
        for party in (ann, bob):
            await party.becomes("connected", user="cid")
        await cid.call.send("hello")
        assert await bob.hears("message", user="cid") == "hello"
        assert (ann.call.peers["bob"], bob.call.peers["ann"]) == sides


def _at(urls: dict[str, str], user: str) -> dict[str, str]:
    return {"url": urls[user]} if user in urls else {}


@asynccontextmanager
async def left_behind(start: Start) -> AsyncIterator[tuple[Party, Proxy]]:
    """Give a member of a call, and its proxy, after a server restart that the other has missed."""
    never = Backoff(first=300, most=300, uniform=lambda _least, most: most)
    async with serving(videre.create_app()) as after, AsyncExitStack() as stack:
        before = await stack.enter_async_context(serving(videre.create_app()))
        async with Proxy(f"{before.url}/echo".replace("http", "ws"), iter(())) as proxy:
            ann = await start("ann", url=proxy.url)
            await start("bob", url=f"{before.url}/echo", backoff=never)
            await ann.becomes("connected", user="bob")
            proxy.retarget(f"{after.url}/echo".replace("http", "ws"))
            await stack.aclose()
            await eventually(lambda: ann.call.client.users == ["ann"])
            yield ann, proxy


def break_off(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a call break off, and be tried again soon."""
    monkeypatch.setattr(peers, "LOOK", 0.05)
    monkeypatch.setattr(peers, "BREAK", 0.1)
    lose(peer._path._open, monkeypatch)
    monkeypatch.setattr(peer._path._open, "heard", -math.inf)


async def test_a_member_that_does_not_come_back(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call goes on until it breaks off: nobody will answer a restart of ICE."""
    async with left_behind(start) as (ann, _proxy):
        await ann.call.send("still there", to="bob")
        sending = asyncio.create_task(ann.call.send(bytes(10_000_000)))
        break_off(ann.call.peers["bob"], monkeypatch)
        await ann.hears("hangup", user="bob")
        with pytest.raises(TransfersFailed, match="gone"):
            await sending
        assert ann.call.peers == {}


async def test_a_member_that_may_come_back(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection we do not know: the call is kept, and ICE restarted."""
    async with left_behind(start) as (ann, proxy):
        proxy.retarget("ws://127.0.0.1:9/echo")  # where nobody listens
        proxy.cut()
        await eventually(lambda: not ann.call.client.connected)
        peer, restarted = ann.call.peers["bob"], asyncio.Event()
        monkeypatch.setattr(peer, "restart", restarted.set)
        break_off(peer, monkeypatch)
        async with asyncio.timeout(SECONDS):
            await restarted.wait()
        assert ann.call.peers == {"bob": peer}


async def test_returning_after_the_grace(start: Start) -> None:
    """The members that saw the user leave call it again."""
    app = videre.create_app(Config(limits=Limits(grace=0.05)))
    async with serving(app) as short:
        target = f"{short.url}/echo".replace("http", "ws")
        async with Proxy(target, iter(())) as proxy:
            ann, bob = (
                await start("ann", url=target),
                await start("bob", url=proxy.url, backoff=LATE),
            )
            await ann.becomes("connected", user="bob")
            proxy.cut()
            await ann.hears("hangup", user="bob")
            await ann.becomes("connected", user="bob")
            await ann.call.send("again")
            assert await bob.hears("message", user="ann") == "again"


async def test_invalid_signals(server: Server, start: Start) -> None:
    """They are ignored and reported, whether or not they resemble signals; the call goes on."""
    ann, bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    async with Client(f"{server.url}/echo", user="eve", room="room") as eve:
        for words in (None, 7, "{", {"Type": "Hello"}, '{"Type": 1}', ["Ice Offer"]):
            await eve.broadcast(words, to="ann")
            assert await ann.hears("ignored", user="eve") == words
        description = {"type": "offer", "sdp": "v=0"}
        for signal in (
            {"Type": "Ice Offer"},
            {"Type": "Ice Offer", "IcePacket": {"type": "answer", "sdp": ""}, "Offer": 1},
            {"Type": "Ice Offer", "IcePacket": {"type": "offer", "sdp": 1}, "Offer": 1},
            {"Type": "Ice Offer", "IcePacket": description, "Call": 7},
            {"Type": "Ice Offer", "IcePacket": description, "Call": ""},
            {"Type": "Ice Offer", "IcePacket": description, "Call": "c" * 129},
            {"Type": "Ice Offer", "IcePacket": description, "Call": "c", "Offer": "1"},
            {"Type": "Ice Offer", "IcePacket": description, "Call": "c", "Offer": -1},
            {"Type": "Ice Answer", "IcePacket": [], "Call": "c"},
            {"Type": "Ice Turn", "Turn": True, "Call": "c"},
            {"Type": "Ice Candidate", "IcePacket": {"candidate": "x y"}, "Call": "c"},
            {"Type": "Ice Candidate", "IcePacket": {"candidate": None}, "Call": "c"},
            {"Type": "Ice Candidate", "IcePacket": CANDIDATE | {"candidate": HIGH}, "Call": "c"},
            {"Type": "Ice Candidate", "IcePacket": {"candidate": GOOD}, "Call": "c"},
        ):
            await eve.broadcast(signal, to="ann")
            assert await ann.hears("ignored", user="eve") == signal
        # Signals of unknown calls are ignored, as is an offer from a user that joined later.
        await eve.broadcast({"Type": "Ice Ask", "Call": "c"}, to="ann")
        offer = {"Type": "Ice Offer", "IcePacket": description, "Call": "c", "Offer": 1}
        await eve.broadcast(offer, to="ann")
        await eve.broadcast("done", to="ann")
        assert await ann.hears("ignored", user="eve") == "done"
    await ann.hears("hangup", user="eve")
    assert list(ann.call.peers) == ["bob"]
    await ann.call.send("Hello")
    assert await bob.hears("message") == "Hello"


GOOD = "candidate:1 1 udp 1 127.0.0.1 9 typ host"
HIGH = "candidate:1 1 udp 1 127.0.0.1 65536 typ host"
CANDIDATE = {"candidate": GOOD, "sdpMid": "0", "sdpMLineIndex": 0}


@pytest.mark.parametrize(
    ("lines", "most"),
    [
        (["m=audio 9 UDP/TLS/RTP/SAVPF 0"], 63),
        (["a=rtpmap:96 VP8/90000"], 1000),
        (["a=rtpmap:96 VP8/90000", "a=rtcp-fb:* nack"], 70),
        (["a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack"], 100),
        (["a=rtpmap:%d VP8/90000", "a=rtcp-fb:* nack"], 99),
        (["a=rtpmap:%d VP8/90000", "a=rtcp-fb:96 nack"], 447),
        (["a=rtpmap:96 VP8/90000", "a=fmtp:96 x=1"], 447),
        (["a=ssrc:1 cname:x"], 447),
        ([f"a={GOOD}"], 256),
    ],
    ids=lambda each: str(each)[:30],
)
def test_a_description_is_bounded(lines: list[str], most: int) -> None:
    """One packet with more of these would stop all calls for seconds, or take a gigabyte."""
    for end in ("\r\n", "\n", "\r", "\x0b"):
        for count in (most, most + 1):
            numbered = [line.replace("%d", str(at)) for at in range(count) for line in lines]
            sdp = end.join(["v=0", *numbered])
            signal = {"Type": "Ice Offer", "IcePacket": {"type": "offer", "sdp": sdp}}
            if count == most:
                assert signals.read(signal) is not None
            else:
                with pytest.raises(ValueError, match="too many lines"):
                    signals.read(signal)


async def test_repeated_and_endless_candidates(start: Start) -> None:
    """Each is tried once, and no more than a machine has; the call goes on."""
    ann, bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    path = ann.call.peers["bob"]._path
    before = len(path.remote_candidates)
    for port in [*range(9000, 9010)] * 5:
        line = f"1 1 udp 1 127.0.0.1 {port} typ host"
        await path.add_remote_candidate(aioice.Candidate.from_sdp(line))
    assert len(path.remote_candidates) == before + 10
    for port in range(10_000, 11_000):
        line = f"1 1 udp 1 127.0.0.1 {port} typ host"
        await path.add_remote_candidate(aioice.Candidate.from_sdp(line))
    assert len(path.remote_candidates) == 256
    await ann.call.send("Hello")
    assert await bob.hears("message") == "Hello"


async def test_too_many_requests_get_few_answers(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own rate is needed for other users, too."""
    monkeypatch.setattr(pace, "SECONDS", WAIT_SECONDS)  # no further answer during the test
    ann, bob = await start("ann"), await start("bob")
    await bob.becomes("connected", user="ann")
    call = bob.call.peers["ann"].call
    asks: list[Any] = [{"Type": "Ice Ask", "Call": call, "Turn": number} for number in range(100)]
    heard: list[Any] = []
    bob.call.on("room", lambda event: heard.append(getattr(event, "payload", None)))
    for ask in asks:
        await bob.call.client.broadcast(ask, to="ann")
    assert await ann.hears("ignored", user="bob") in asks  # more than may wait
    await ann.call.send("Hello")
    assert await bob.hears("message") == "Hello"
    turns = [each for each in heard if each and each.get("Type") == "Ice Turn"]
    assert 1 <= len(turns) <= ANSWERS


async def test_repeated_requests_may_be_deep(server: Server, start: Start) -> None:
    """However deep the keys are that mean nothing: the calls with the others go on."""
    ann, bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    deep = "[" * 1000 + "]" * 1000
    ask = orjson.Fragment(f'{{"Type": "Ice Ask", "Call": "c", "Deep": {deep}}}')
    async with Client(f"{server.url}/echo", user="eve", room="room") as eve:
        for _ in range(int(ANSWERS) + 2):
            await eve.broadcast(ask, to="ann")
        await eve.broadcast("done", to="ann")
        assert await ann.hears("ignored", user="eve") == "done"
    await ann.call.send("Hello")
    assert await bob.hears("message") == "Hello"


async def test_an_unusable_description(server: Server, start: Start) -> None:
    """It is an error of its own call only."""
    async with Client(f"{server.url}/echo", user="eve", room="room") as eve:
        ann = await start("ann")
        description = {"type": "offer", "sdp": "v=0\r\nm=audio x y z\r\n"}
        signal = {"Type": "Ice Offer", "IcePacket": description, "Call": "c", "Offer": 1}
        await eve.broadcast(signal, to="ann")
        assert isinstance(await ann.hears("error"), Exception)
        bob = await start("bob")
        await ann.becomes("connected", user="bob")
        await bob.call.send("Hello")
        assert await ann.hears("message", user="bob") == "Hello"


VALUES: list[Any] = [
    *("", "é" * 32_768, "é" * 32_769, b"", bytes(65_536), bytes(range(256)) * 300, bytearray(3)),
    *(None, True, 1.5, [], {"a": [1, "é"]}, ["x" * 70_000]),
    *(Blob(b"abc", "a.txt", "text/plain"), Blob(b"", None), Blob(bytes(70_000), "b")),
]


async def test_all_kinds_of_values(start: Start) -> None:
    """Each arrives whole, with its type; the sender hears the progress and the end."""
    ann, bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    for value in VALUES:
        progress: list[tuple[int, int]] = []
        told = progress.append
        await ann.call.send(value, on_progress=lambda *done, told=told: told(done))
        heard = await bob.hears("message")
        assert heard == value and type(heard) is (
            bytes if type(value) is bytearray else type(value)
        )
        assert progress == sorted(progress) and all(done[0] <= done[1] for done in progress)
        if progress:
            assert progress[-1][0] == progress[-1][1]


async def test_values_arrive_in_the_order_of_send(start: Start) -> None:
    """One that waits for the channel to open is not overtaken by one that comes as it opens."""
    ann, bob = await start("ann"), await start("bob")
    await ann.hears("peer")
    peer = ann.call.peers["bob"]
    sends = [asyncio.create_task(ann.call.send("first", to="bob"))]

    def send_second() -> None:
        sends.append(asyncio.create_task(ann.call.send("second", to="bob")))

    await eventually(lambda: peer._data is not None)
    peer._data._plain.on("open", send_second)
    assert [await bob.hears("message") for _ in range(2)] == ["first", "second"]
    await asyncio.gather(*sends)


async def test_values_that_cannot_be_sent(start: Start) -> None:
    """The error names the fault before anything is sent."""
    ann = await start("ann")
    for value, error in (
        ("\ud800", ValueError),
        (object(), TypeError),
        ({1: 2}, TypeError),
        (2**64, TypeError),
    ):
        with pytest.raises(error, match="data must"):
            await ann.call.send(value)
    with pytest.raises(KeyError):
        await ann.call.send("x", to="nobody")
    for arguments in (
        *((1,), (b"", 1), (b"", "x" * 256), (b"", "\ud800"), (b"", None, "\ud800")),
        (b"", "\U0001f600" * 128),  # a browser counts two for each
    ):
        with pytest.raises((TypeError, ValueError), match=r"data|name|mime"):
            Blob(*arguments)


async def test_failed_receivers(start: Start) -> None:
    """One refuses and one leaves: the error names each, and the third has the whole value."""
    ann, bob = await start("ann"), await start("bob", max_bytes=100_000)
    cid, dan = await start("cid"), await start("dan")
    for user in ("bob", "cid", "dan"):
        await ann.becomes("connected", user=user)
    dan.call.on("progress", lambda *_: ann.call._meeting.hang_up("dan"))
    with pytest.raises(TransfersFailed) as failed:
        await ann.call.send(bytes(3_000_000))
    codes = {error.user: error.code for error in failed.value.failed}
    assert codes == {"bob": "too-large", "dan": "gone"}
    assert await cid.hears("message") == bytes(3_000_000)
    with pytest.raises(TransferError, match="too-large"):
        await ann.call.send(bytes(100_001), to="bob")
    await ann.call.send(bytes(100_000), to="bob")
    assert await bob.hears("message") == bytes(100_000)


async def test_a_closed_channel(start: Start) -> None:
    """The call goes on, and short strings arrive; a transfer fails at once."""
    ann, bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    await ann.call.send(["before"])
    bob.call.peers["ann"]._data._transfers.close()  # as a page may do
    ours = ann.call.peers["bob"]._data._transfers
    await eventually(lambda: ours.readyState == "closed")
    async with asyncio.timeout(SECONDS):
        with pytest.raises(TransfersFailed, match="gone"):
            await ann.call.send(["after"])
        await ann.call.send("short")
    assert await bob.hears("message") == ["before"]
    assert await bob.hears("message") == "short"


async def test_a_name_that_was_cut(start: Start) -> None:
    """A browser may cut it inside of a character; the sender hears that it cannot be read."""
    ann, bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    await ann.call.send(["both channels are open"])
    begin = {"Type": "Start", "Id": 1, "Kind": "blob", "Size": 9, "Name": "a\ud83d"}
    bob.call.peers["ann"]._data._transfers.send(json.dumps(begin))
    refusal = {"Type": "Refuse", "Id": 1, "Code": "malformed"}
    assert json.loads(await bob.hears("ignored")) == refusal


async def test_a_receiver_of_tiny_messages(start: Start) -> None:
    """Its description leaves no room for a piece: a transfer fails at once."""
    ann, _bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    ann.call.peers["bob"]._data.agree(1, "v=0\r\na=max-message-size:8\r\n")
    async with asyncio.timeout(SECONDS):
        with pytest.raises(TransferError, match=r"of up to 8 bytes \(unsupported\)"):
            await ann.call.send(["text"], to="bob")


async def test_a_cancelled_transfer(start: Start) -> None:
    """It leaves nothing behind, and the next one arrives."""
    ann, bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    begun = asyncio.Event()
    sending = asyncio.create_task(
        ann.call.send(bytes(20_000_000), on_progress=lambda *_: begun.set())
    )
    await begun.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    await ann.call.send(["next"])
    assert await bob.hears("message") == ["next"]


async def test_expiring_ice_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are requested again in time; an invalid answer is only an error."""
    monkeypatch.setattr(servers, "IDLE", 0.01)
    monkeypatch.setattr(servers, "LEAST", 0.01)
    errors: asyncio.Queue[Any] = asyncio.Queue()
    async with asyncio.timeout(SECONDS), scripted() as server:
        call = Call(server.url, user="me", room="room")
        call.on("error", errors.put_nowait)
        entering = asyncio.create_task(call.__aenter__())
        link = await server.link()
        old, new = ([{"urls": [f"stun:{name}.example.com"]}] for name in ("old", "new"))
        await link.seat("me", IceServers=old, IceTtl=0.01)
        await entering
        assert call.servers()[0].urls == ["stun:old.example.com"]
        await link.refuse(await link.hears("ice"), "unavailable", retry=True)
        assert str(await errors.get()) == "No"
        packet = await link.hears("ice")
        await link.answer(packet, {"IceServers": new, "IceTtl": None})
        while call.servers()[0].urls != ["stun:new.example.com"]:  # noqa: ASYNC110
            await asyncio.sleep(0)
        leaving = asyncio.create_task(call.__aexit__(None, None, None))
        assert await link.ended() == 1000
        await leaving


async def test_a_broadcast_to_nobody(start: Start) -> None:
    """The application hears of its own ones, but not of a signal that came too late.

    Nor of one whose call ended while it was sent.
    """
    ann = await start("ann")
    signal = {"Type": "Ice Ask", "Call": "c"}
    await ann.call.signal_to("gone", signal)
    sending = asyncio.create_task(ann.call.signal_to("gone", signal))
    await asyncio.sleep(0)  # it is being written
    sending.cancel()
    identity = await ann.call.client.broadcast("hello", to="gone")
    error = await ann.hears("error")
    assert isinstance(error, NoSuchUser) and error.packet_id == identity


async def test_the_end_of_the_seat(server: Server, start: Start) -> None:
    """`ended` raises the reason, and all calls are closed."""
    ann, bob = await start("ann"), await start("bob")
    await bob.becomes("connected", user="ann")
    async with Client(f"{server.url}/echo", user="bob", room="room"):
        with pytest.raises(Closed, match="4503"):
            await bob.call.ended()
        assert bob.call.peers == {}
        await ann.hears("hangup", user="bob")


async def test_a_refused_return() -> None:
    """It ends the seat; an error that does not, as that of a token that expires, is an event."""
    errors: asyncio.Queue[Any] = asyncio.Queue()
    async with asyncio.timeout(SECONDS), scripted() as server:
        call = Call(server.url, user="me", room="room", token="fixed", backoff=SOON)
        call.on("error", errors.put_nowait)
        entering = asyncio.create_task(call.__aenter__())
        link = await server.link()
        await link.seat("me")
        await entering
        told = {"Code": "token-expired", "Message": "Renew", "Retry": False}
        await link.say("error", "me", told)
        assert isinstance(await errors.get(), TokenExpired)
        link.cut()
        link = await server.link()
        for _ in range(2):  # the seat is asked for again without its secret
            await link.refuse(await link.hears("connect"), "unauthorized")
        await link.ended()  # answers the close
        with pytest.raises(Unauthorized) as ended:
            await call.ended()
        assert ended.value.packet_id is None and errors.empty()
        await call.__aexit__(None, None, None)


async def test_tracks_stop_even_if_leaving_is_cancelled(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No camera stays on and no task runs on, whatever hangs."""
    camera = VideoStreamTrack()
    ann, bob = await start("ann", camera), await start("bob")
    await bob.becomes("connected", user="ann")
    renewing = ann.call._renewing
    closing, closed = asyncio.Event(), asyncio.Event()
    close = Peer.close

    async def hang(peer: Peer) -> None:
        closing.set()
        await closed.wait()
        await close(peer)

    monkeypatch.setattr(Peer, "close", hang)
    leaving = asyncio.create_task(ann.call.__aexit__(None, None, None))
    await closing.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert camera.readyState == "ended"
    closed.set()
    await asyncio.wait(ann.call._meeting._hanging_up)
    assert renewing.done()


async def test_handlers_of_hangup_finish(start: Start) -> None:
    """Leaving waits for them, once the seat is given up."""
    ann, bob = await start("ann"), await start("bob")
    await ann.becomes("connected", user="bob")
    finished: list[str] = []

    @ann.call.on("hangup")  # type: ignore[untyped-decorator]
    async def finish(peer: Peer) -> None:
        await eventually(lambda: bob.call.client.users == ["bob"])
        finished.append(peer.user)

    await ann.call.__aexit__(None, None, None)
    assert finished == ["bob"]


async def test_endless_handlers_are_cancelled(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file takes for ever."""
    monkeypatch.setattr(call_module, "PARTING", 0.05)
    ann, _bob = await start("ann"), await start("bob")
    cancelled: list[str] = []
    for event in ("state", "hangup"):

        async def wait(peer: Peer, event: str = event) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(event)

        ann.call.on(event, wait)
    await ann.becomes("connected", user="bob")
    await ann.call.__aexit__(None, None, None)
    assert set(cancelled) == {"state", "hangup"}


async def test_a_handler_that_fails_as_it_is_cancelled(start: Start) -> None:
    """A handler of `error` that begins then is cancelled, too: nothing goes on after the call."""
    ann = await start("ann")
    ended: list[str] = []

    @ann.call.on("room")  # type: ignore[untyped-decorator]
    async def wait(event: object) -> None:
        if not isinstance(event, Joined):  # but an answer of the other end
            return
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    @ann.call.on("error")  # type: ignore[untyped-decorator]
    async def report(error: Exception) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(type(error).__name__)

    await start("bob")
    await eventually(lambda: bool(ann.call._running))
    await ann.call.__aexit__(None, None, None)
    assert not ann.call._running
    assert ended == ["ZeroDivisionError"]


async def test_tracks_stop_if_entering_fails() -> None:
    """No camera stays on, just as after leaving."""
    camera = VideoStreamTrack()
    async with scripted() as server:
        server.refusal = 503
        call = Call(server.url, room="room")
        call.add_track(camera)
        with pytest.raises(Unreachable, match="503"):
            await call.__aenter__()
    assert camera.readyState == "ended"


async def test_discarded_media_is_not_kept(start: Start) -> None:
    """Without a handler for them, tracks go with their call."""
    alive = Alive(lambda kind: issubclass(kind, RemoteStreamTrack))
    watcher = await start("watcher", receive=("video",), watch=False)
    for user in ("ann", "bob"):
        party = await start(user, VideoStreamTrack())
        await watcher.becomes("connected", user=user)
        assert len(watcher.call.peers[user].tracks) == 1
        await party.call.__aexit__(None, None, None)
        await watcher.hears("hangup", user=user)
    await asyncio.wait([*watcher.call._meeting._hanging_up, asyncio.create_task(asyncio.sleep(0))])
    watcher.told = asyncio.Queue()  # the old one may hold a call, with its last state
    del party
    gc.collect()
    assert alive() == []


@pytest.mark.parametrize("watch", [True, False])
async def test_tracks_of_a_call_that_never_connects(
    start: Start, monkeypatch: pytest.MonkeyPatch, watch: bool
) -> None:
    """They end with it, so that whoever reads them does not wait for ever."""
    monkeypatch.setattr(path.Path, "start", lambda *_: None)
    ann = await start("ann", watch=watch)
    bob = await start("bob", VideoStreamTrack())
    reading = ann.call._running.values()
    await eventually(lambda: "track" in reading)
    await bob.call.__aexit__(None, None, None)
    await ann.hears("hangup", user="bob")
    await eventually(lambda: "track" not in reading)


async def test_failing_handlers(start: Start) -> None:
    """The event `error` reports them, plain and async ones; the call goes on."""
    ann, bob = await start("ann"), await start("bob")

    @bob.call.on("message")  # type: ignore[untyped-decorator]
    def fail(value: Any, _peer: Peer) -> None:
        raise ZeroDivisionError(value)

    @bob.call.on("message")  # type: ignore[untyped-decorator]
    async def fail_later(value: Any, _peer: Peer) -> None:
        raise LookupError(value)

    await ann.becomes("connected", user="bob")
    await ann.call.send("x")
    errors = [type(await bob.hears("error")) for _ in range(2)]
    assert errors == [ZeroDivisionError, LookupError]
    with pytest.raises(ValueError, match=r"event must be one of .*message.* not 'mesage'"):
        bob.call.on("mesage", fail)
    with pytest.raises(TypeError, match="handler must be a function"):
        bob.call.on("message", "fail")


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"url": 1}, TypeError, "url must be a string, not int"),
    ({"url": "ftp://h"}, ValueError, "ftp://h"),
    ({"user": 1}, TypeError, "user must be a string"),
    ({"user": ""}, ValueError, "user must have 1 to 128 characters"),
    ({"user": "x" * 129}, ValueError, "user must have 1 to 128 characters"),
    ({"user": "a\n"}, ValueError, "user must have no control"),
    ({"room": None}, TypeError, "room must be a string"),
    ({"room": "x" * 257}, ValueError, "room must have 1 to 256"),
    ({"token": 1}, TypeError, "token must be"),
    ({"ssl": True}, TypeError, "ssl must be an ssl.SSLContext"),
    ({"heartbeat": "10"}, TypeError, "heartbeat must be a number of seconds"),
    ({"heartbeat": -1}, ValueError, "heartbeat must be 0 or more"),
    ({"heartbeat": 0.0}, ValueError, "heartbeat must be more than 0"),
    ({"backoff": 1}, TypeError, "backoff must be"),
    ({"session": 1}, TypeError, "session must be an aiohttp.ClientSession"),
    ({"give_up_after": float("nan")}, ValueError, "give_up_after must be"),
    ({"receive": "video"}, TypeError, "receive must be a collection"),
    ({"receive": ["screen"]}, ValueError, "receive may hold 'audio' and 'video'"),
    ({"ice_servers": {"urls": "stun:h"}}, TypeError, "ice_servers must be a list"),
    ({"ice_servers": [{"url": "stun:h"}]}, TypeError, "ice_servers must hold dicts with 'urls'"),
    ({"ice_servers": [{"urls": "http:h"}]}, ValueError, "ice_servers: 'http:h' is not the URL"),
    ({"max_bytes": 1.5}, TypeError, "max_bytes must be an int"),
    ({"max_bytes": 0}, ValueError, "max_bytes must be 1 to"),
    ({"max_bytes": 1 << 30}, ValueError, "max_bytes must be 1 to"),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG, ids=lambda each: str(each)[:40])
def test_wrong_options(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """The error names them before a connection is opened."""
    good = {"url": "ws://h/echo", "user": "a", "room": "r"}
    with pytest.raises(error, match=words):
        Call(**{**good, **options})
    of_client = {"url", "user", "room", "token", "ssl", "heartbeat", "backoff", "session"}
    if options.keys() <= of_client:
        with pytest.raises(error, match=words):
            Client(**{**good, **options})


def test_an_invalid_track() -> None:
    """The error names it."""
    call = Call("ws://h/echo", room="r")
    with pytest.raises(TypeError, match=r"track must be an aiortc.MediaStreamTrack"):
        call.add_track("camera")  # type: ignore[arg-type]
