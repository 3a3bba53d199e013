"""Cameras and microphones of the browser client: none outlives its call; they can be changed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from browser import Page, chromium
from client_site import FLOWS, Site, every, room, site

__all__ = ["room", "site"]

pytestmark = [pytest.mark.process, pytest.mark.long, pytest.mark.asyncio(loop_scope="session")]

#: Records every requested track; the user decides when the test says so.
DEVICES = """
globalThis.made = [];
globalThis.asked = [];
const { mediaDevices } = navigator;
const ask = mediaDevices.getUserMedia.bind(mediaDevices);
mediaDevices.getUserMedia = async (wanted) => {
  asked.push(JSON.parse(JSON.stringify(wanted)));
  await globalThis.gate;
  const refused = globalThis.refuse?.(wanted);
  if (refused) throw new DOMException("No", refused);
  const stream = await ask(wanted);
  made.push(...stream.getTracks());
  return stream;
};
globalThis.live = () => made.filter(({ readyState }) => readyState === "live").length;
globalThis.hold = () => {
  let open;
  globalThis.gate = new Promise((resolve) => (open = resolve));
  return () => {
    globalThis.gate = null;
    open();
  };
};
"""

#: Sequences of steps, and the tracks alive at the end. `open()` lets the user decide.
ORDERS = {
    "StrictMode, then left": (
        "one = v.connect(room); v.disconnect(); two = v.connect(room); open(); await two;"
        "v.disconnect();",
        0,
    ),
    "StrictMode": (
        "one = v.connect(room); v.disconnect(); two = v.connect(room); open(); await two;",
        2,
    ),
    "left while it asks": ("one = v.connect(room); v.disconnect(); open();", 0),
    "left, and left again": ("one = v.connect(room); v.disconnect(); v.disconnect(); open();", 0),
    "another room": ("one = v.connect(room); two = v.connect(`${room} 2`); open(); await two;", 2),
    "three rooms, then left": (
        "one = v.connect(room); two = v.connect('b'); three = v.connect(room); open();"
        "await three; v.disconnect();",
        0,
    ),
    "again, and left while it asks": (
        "one = v.connect(room); v.disconnect(); two = v.connect(room); v.disconnect(); open();",
        0,
    ),
    "the devices come between": (
        "one = v.connect(room); open(); await until(() => made.length); v.disconnect();"
        "two = v.connect(room); v.disconnect();",
        0,
    ),
    "a stream of its own, meanwhile": (
        "one = v.connect(room); v.disconnect(); v.localStream = new MediaStream();"
        "two = v.connect(room); open(); await one; await two;",
        0,
    ),
    "the signaller's own leave": (
        "one = v.connect(room); open(); await one; v.signaller.leave();",
        0,
    ),
    "left in a callback": (
        "v.onLocalStream = () => v.disconnect(); one = v.connect(room); open();",
        0,
    ),
    "an error in a callback": (
        "v.onLocalStream = () => { throw new Error('mine'); }; one = v.connect(room); open();",
        0,
    ),
    "the signaller refuses": ("refuseSignaller(); one = v.connect(room); open();", 0),
    "the signaller cannot be reached": ("forbid(); one = v.connect(room); open();", 0),
    "no token": ("noToken(); one = v.connect(room); open();", 0),
    "the microphone alone": (
        "refuse = (wanted) => wanted.video && 'NotAllowedError'; one = v.connect(room); open();"
        "await one;",
        1,
    ),
    "the microphone alone, left while it asks": (
        "refuse = (wanted) => wanted.video && 'NotAllowedError'; one = v.connect(room);"
        "v.disconnect(); open();",
        0,
    ),
    "nothing at all": ("refuse = () => 'NotFoundError'; one = v.connect(room); open();", 0),
    "another camera, left while it asks": (
        "one = v.connect(room); open(); await one; open = hold();"
        "two = quiet(v.useDevice('video')); v.disconnect(); open();",
        0,
    ),
    "another camera, in the next call": (
        "one = v.connect(room); open(); await one; open = hold();"
        "two = quiet(v.useDevice('video')); v.disconnect(); three = v.connect(room); open();"
        "await three;",
        2,
    ),
    "two other cameras at once": (
        "one = v.connect(room); open(); await one; open = hold();"
        "two = quiet(v.useDevice('video')); three = v.useDevice('video'); open(); await three;",
        2,
    ),
    "another camera, while it asks for both": (
        "one = v.connect(room); gate = null; await v.useDevice('video'); open(); await one;",
        2,
    ),
    "both, while it asks for another camera": (
        "gate = null; one = v.connect(room); open = hold(); two = v.useDevice('video'); await one;"
        "open(); await two;",
        2,
    ),
    "the screen, left while it asks": (
        "one = v.connect(room); open(); await one; open = hold();"
        "two = v.shareScreen(); v.disconnect(); open();",
        0,
    ),
}
SET_UP = """
const room = arg;
let [open, one, two, three] = [hold()];
globalThis.refuse = null;
const forbid = () => (globalThis.WebSocket = class { constructor() { throw new Error("No"); } });
let token = () => "";
const quiet = (promise) => (promise.catch(() => {}), promise);
const noToken = () => (token = () => { throw new Error("no token"); });
const refuseSignaller = () => (v.signaller.user = "");
globalThis.v = client({ token: () => token() });
navigator.mediaDevices.getDisplayMedia = async () => {
  await globalThis.gate;
  const stream = document.createElement("canvas").captureStream(1);
  made.push(...stream.getTracks());
  return stream;
};
"""


@pytest.mark.parametrize("name", ORDERS)
async def test_no_track_outlives_its_call(site: Site, room: str, name: str) -> None:
    """It holds for any order of connect, disconnect, refusal and failure."""
    code, live = ORDERS[name]
    page = await site.open(init=DEVICES)
    assert await page.run(
        f"""
            {SET_UP} {code}
            const ends = await Promise.allSettled([one, two, three]);
            await new Promise((resolve) => setTimeout(resolve, 100)); // nothing comes later
            return [live(), v.localStream?.getTracks().length ?? 0];
            """,
        room,
    ) == [live, live]
    await page.run("v.disconnect();")
    assert await page.run("return live();") == 0


async def test_a_repeated_connect_waits_for_the_same_devices(site: Site, room: str) -> None:
    """The user is asked once; the first promise yields null, the second the welcome."""
    page = await site.open(init=DEVICES)
    found = await page.run(
        f"""
        {SET_UP}
        one = v.connect(room);
        v.disconnect();
        two = v.connect(room);
        open();
        return [await one, (await two).Users.length, asked.length, made.length, v.peers.size];
        """,
        room,
    )
    assert found == [None, 1, 1, 2, 0]


async def two(site: Site, room: str, **more: str) -> tuple[Page, Page]:
    """Open two pages in a call; tests look at the first one."""
    ann = await site.open(init=DEVICES)
    options = ", ".join(f"{name}: {value}" for name, value in more.items())
    code = f"globalThis.v = client({{ userId: 'ann', {options} }}); await v.connect(arg);"
    await ann.run(code, room)
    bob = await site.client("bob", room)
    assert await every([ann, bob], FLOWS) == [True, True]
    return ann, bob


@pytest_asyncio.fixture(loop_scope="session")
async def two_cameras() -> AsyncIterator[Site]:
    """Run a Chromium with two cameras."""
    async with chromium("--use-fake-device-for-media-stream=device-count=2") as running:
        site = Site(running)
        await site.start()
        try:
            yield site
        finally:
            await running.close()
            await site.stop()
        assert running.faults == []


async def test_another_camera(two_cameras: Site, room: str) -> None:
    """It is seen without a renegotiation, and is used in the next call too."""
    ann, _bob = await two(two_cameras, room)
    found = await ann.run(
        """
        const { connection } = v.peers.get("bob");
        let negotiated = 0;
        connection.addEventListener("signalingstatechange", () => negotiated++);
        const [before] = v.localStream.getVideoTracks();
        const all = await v.devices();
        const { deviceId } = before.getSettings();
        const other = all.find(({ kind, id }) => kind === "video" && id !== deviceId);
        const track = await v.useDevice("video", other.id);
        const [sender] = connection.getSenders().filter(({ track }) => track?.kind === "video");
        await new Promise((resolve) => setTimeout(resolve, 200));
        globalThis.other = other.id;
        return [
          [...new Set(all.map(({ kind }) => kind))].sort(),
          all.every(({ id, label, group }) => id && label && typeof group === "string"),
          track.getSettings().deviceId === other.id, sender.track === track,
          before.readyState, v.localStream.getVideoTracks().length,
          v.localVideoElement.srcObject === v.localStream, negotiated, live(),
        ];
        """
    )
    assert found == [["audio", "output", "video"], True, True, True, "ended", 1, True, 0, 2]
    # The clock of Chromium's second fake camera is behind the first one's, so its frames are not
    # sent. test_a_device_that_disappears shows that a replaced track is seen.
    assert await ann.run("return advances(v.localVideoElement);") is True
    told = """
    return v.heard.filter(({ type }) => type === "device").map(({ detail }) => detail.kind);
    """
    assert await ann.run(told) == ["video"]
    again = """
    v.disconnect();
    await v.connect(arg);
    return v.localStream.getVideoTracks()[0].getSettings().deviceId === other;
    """
    assert await ann.run(again, room) is True
    # If it is gone by then, the default one is used.
    gone = """
    v.disconnect();
    globalThis.refuse = ({ video }) => {
      if (video?.deviceId?.exact === other) throw new OverconstrainedError("deviceId");
    };
    await v.connect(arg);
    return v.localStream.getTracks().map(({ kind }) => kind).sort();
    """
    assert await ann.run(gone, room) == ["audio", "video"]


async def test_a_camera_that_is_in_use(site: Site, room: str) -> None:
    """If only one can be open at a time, the old one is closed first."""
    ann, _bob = await two(site, room)
    found = await ann.run(
        """
        const isOpen = ({ kind, readyState }) => kind === "video" && readyState === "live";
        globalThis.refuse = ({ video }) => video && made.some(isOpen) && "NotReadableError";
        const track = await v.useDevice("video");
        globalThis.refuse = () => "NotFoundError";
        const { name } = await v.useDevice("audio", "gone").catch((error) => error);
        return [track.readyState, v.localStream.getTracks().length, name, live()];
        """
    )
    assert found == ["live", 2, "NotFoundError", 2]


@pytest.mark.parametrize("kind", ["audio", "video"])
async def test_a_device_that_disappears(site: Site, room: str, kind: str) -> None:
    """The client reports it, and uses another one if there is one, which the others see."""
    ann, bob = await two(site, room)
    lose = """
    const track = v.localStream.getTracks().find(({ kind }) => kind === arg);
    track.stop();
    track.dispatchEvent(new Event("ended"));
    """
    told = """
    return v.heard.filter(({ type }) => /ended|device/.test(type)).map(({ type, detail }) =>
      [type, detail.kind, detail.track.readyState]);
    """
    replaced = "await until(() => v.heard.some(({ type }) => type === 'device'));"
    await ann.run(lose + replaced, kind)
    assert await ann.run(told) == [["ended", kind, "ended"], ["device", kind, "live"]]
    assert await every([ann, bob], FLOWS) == [True, True]
    sent = """
    const [{ connection }] = v.peers.values();
    return until(() => connection.getSenders().every(({ track }) => track.readyState === "live"));
    """
    assert await ann.run(sent) is True
    failed = await ann.run(
        f"""
        globalThis.refuse = () => "NotFoundError";
        const told = [];
        v.onAudioError = ({{ name }}) => told.push(["audio", name]);
        v.onVideoError = ({{ name }}) => told.push(["video", name]);
        {lose}
        await until(() => told.length);
        return [told, v.roomId !== null];
        """,
        kind,
    )
    assert failed == [[[kind, "NotFoundError"]], True]


async def test_a_custom_stream(site: Site, room: str) -> None:
    """The end of its tracks is reported, and no device replaces them."""
    page = await site.open(init=DEVICES)
    found = await page.run(
        """
        globalThis.v = client({ userId: "ann" });
        v.localStream = document.createElement("canvas").captureStream(5);
        await v.connect(arg);
        const [track] = v.localStream.getTracks();
        track.stop();
        track.dispatchEvent(new Event("ended"));
        await new Promise((resolve) => setTimeout(resolve, 100));
        return [v.heard.map(({ type }) => type), asked.length];
        """,
        room,
    )
    assert found == [["ended"], 0]


async def test_a_track_in_place_of_the_camera(site: Site, room: str) -> None:
    """It is used in this call, for later members and in the next call, until it is removed."""
    ann, bob = await two(site, room)
    wide = """
    const { remoteVideoElement: video } = v;
    await until(() => (video.videoWidth / video.videoHeight > 2) === arg);
    return true;
    """
    await ann.run(
        """
        const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 120 });
        const context = canvas.getContext("2d");
        setInterval(() => context.fillRect(Math.random() * 300, Math.random() * 100, 9, 9), 30);
        [globalThis.own] = canvas.captureStream(30).getTracks();
        await v.replaceTrack("video", own);
        """
    )
    assert await bob.run(wide, True) is True
    cid = await site.client("cid", room)
    seen = "const { ann } = v.remote; return ann && ann.videoWidth / ann.videoHeight > 2;"
    assert await cid.run(f"return until(() => {{ {seen} }});")
    await cid.close()
    await ann.run("v.disconnect();")
    await bob.run("await until(() => !v.peers.size);")
    await ann.run("await v.connect(arg);", room)
    await bob.run("await until(() => v.peers.size);")
    assert await bob.run(wide, True) is True
    mute = "v.muteVideo(); const { enabled } = own; v.unmuteVideo(); return enabled;"
    assert await ann.run(mute) is False
    await ann.run("await v.replaceTrack('video', null);")
    assert await bob.run(wide, False) is True
    assert await ann.run("v.disconnect(); return own.readyState;") == "live"


async def test_levels(site: Site, room: str) -> None:
    """They are off by default; a speaker's level is high, and a muted one's is zero."""
    ann, bob = await two(site, room, levels="50")
    hear = """
    globalThis.levels ??= (() => {
      const levels = [];
      v.on("level", (each) => levels.push({ ...each, at: performance.now() }));
      return levels;
    })();
    """
    await every([ann, bob], hear)
    loud = """
    const { user, level } = await until(() => levels.find(({ level }) => level > 0.01));
    return [user, level <= 1];
    """
    assert await ann.run(loud) == ["bob", True]
    await bob.run("v.muteMic();")
    # Between two beeps it is silent, too. They come every second.
    silent = "performance.now() - levels.findLast(({ level }) => level).at > 2_000"
    await ann.run(f"await until(() => {silent}); await until(() => levels.at(-1).level === 0);")
    assert await ann.run("return v.peers.get('bob').level;") == 0
    assert await bob.run("return levels.length;") == 0


async def test_quality_of_a_call(site: Site, room: str) -> None:
    """It is given in numbers; rates need two measurements."""
    ann, bob = await two(site, room)
    measure = "const [peer] = v.peers.values(); return peer.quality();"
    first = await ann.run(measure)
    assert first["sent"]["bitRate"] is None and first["received"]["loss"] is None
    await every([ann, bob], FLOWS)
    found = await ann.run(
        """
        const [peer] = v.peers.values();
        return until(async () => {
          const quality = await peer.quality();
          return quality.sent.bitRate && quality.received.bitRate && quality;
        });
        """
    )
    assert found.keys() == {"roundTrip", "path", "sent", "received"}
    assert 0 <= found["roundTrip"] < 5_000
    kinds = {"host", "prflx", "srflx"}
    path = found["path"]
    assert path["local"] in kinds and path["remote"] in kinds
    assert (path["protocol"], path["relayed"]) == ("udp", False)
    for flow in (found["sent"], found["received"]):
        assert flow.keys() == {"bitRate", "loss", "width", "height", "frames"}
        assert 1_000 < flow["bitRate"] < 50_000_000
        assert (flow["width"], flow["height"]) == (160, 120)
        assert flow["loss"] is None or 0 <= flow["loss"] <= 1
    watcher = await site.open(devices=False)
    await watcher.run("globalThis.v = client(); await v.connect(arg);", room)
    await ann.run("await until(() => v.peers.size === 2);")
    nothing = await watcher.run("await until(() => v.peers.size);" + measure)
    assert nothing["sent"]["width"] is None


async def test_a_browser_without_devices() -> None:
    """The list is empty or names no camera, and asking for one fails."""
    async with chromium("--use-fake-device-for-media-stream=device-count=0") as blind:
        site = Site(blind)
        await site.start()
        try:
            page = await site.open()
            found = await page.run(
                """
                const v = client();
                const cameras = (await v.devices()).filter(({ kind }) => kind === "video");
                const { name } = await v.useDevice("video").catch((error) => error);
                return [cameras, name];
                """
            )
            assert found == [[], "NotFoundError"]
        finally:
            await blind.close()
            await site.stop()
