"""The browser client in real Chromium: calls between pages through a real server."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import pytest
from browser import Page
from client_site import ALL_FLOW, FLOWS, PAYLOADS, Site, call, every, room, site
from fakes import packet
from tokens import SECRET, hs256

import videre
from videre.auth import Grant, TokenAuth, secret_key
from videre.ice import IceServers, StaticServer
from videre.ids import RoomId, UserId

__all__ = ["room", "site"]

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="session")]


async def test_two_people_see_each_other(site: Site, room: str) -> None:
    """Frames advance on both sides, and the remaining user sees that the other has left."""
    ann, bob = await call(site, room)
    assert await ann.run("return [v.isInitiator, v.signaller.users];") == [True, ["ann", "bob"]]
    assert await bob.run("return [v.isInitiator, v.signaller.users];") == [False, ["ann", "bob"]]
    await ann.run("v.disconnect();")
    # The call may end before the server's packet arrives.
    assert await bob.run("await until(() => !v.peers.size); return until(() => v.isInitiator);")
    assert await bob.run("return v.remoteVideoElement.srcObject;") is None
    assert await ann.run("return [v.localStream, v.localVideoElement.srcObject];") == [None, None]


async def test_three_people_are_a_mesh(site: Site, room: str) -> None:
    """Each sees both others; when one closes its page, the other two go on."""
    ann = await site.client("ann", room)
    bob, cid = await asyncio.gather(site.client("bob", room), site.client("cid", room))
    assert await every([ann, bob, cid], ALL_FLOW, 2) == [2, 2, 2]
    await cid.close()
    await every([ann, bob], "await until(() => v.peers.size === 1);")
    assert await every([ann, bob], FLOWS) == [True, True]
    assert await every([ann, bob], "return v.heard.filter((e) => e.type === 'error').length") == [
        0,
        0,
    ]


async def test_the_old_clients_interface(site: Site, room: str) -> None:
    """Its options, methods and callbacks work as they did."""
    other = await site.client("other", room)
    page = await site.open()
    assert await page.run(
        """
        const told = [];
        const [local, remote] = [video(), video()];
        globalThis.v = new Videre({
          signallerURL: SIGNALLER,
          localVideoElement: local,
          remoteVideoElement: remote,
          initComplete: () => told.push("initComplete"),
        });
        told.push("constructed");
        v.onLocalStream = function () {
          told.push("onLocalStream", this === v, local.srcObject === v.localStream);
        };
        v.onRemoteStream = function () {
          told.push("onRemoteStream", this === v, remote.srcObject === v.remoteStream);
        };
        v.onVideoError = v.onAudioError = () => told.push("error");
        v.connect(arg);
        await until(() => told.includes("onRemoteStream"));
        await advances(remote);
        await advances(local);
        return told;
        """,
        room,
    ) == [
        *("initComplete", "constructed", "onLocalStream", True, True),
        *("onRemoteStream", True, True),
    ]
    assert await page.run(
        """
        const tracks = v.localStream.getTracks();
        const enabled = () => tracks.map(({ kind, enabled }) => `${kind} ${enabled}`);
        const found = [enabled()];
        for (const method of ["muteMic", "unmuteMic", "muteVideo", "unmuteVideo"]) {
          v[method]();
          found.push(enabled());
        }
        v.disconnect();
        found.push(tracks.map(({ readyState }) => readyState));
        return found;
        """
    ) == [
        ["audio true", "video true"],
        ["audio false", "video true"],
        ["audio true", "video true"],
        ["audio true", "video false"],
        ["audio true", "video true"],
        ["ended", "ended"],
    ]
    assert await other.run("await until(() => !v.peers.size); return v.signaller.users") == [
        "other"
    ]
    # A track muted before a call is muted in it, and a client can connect again.
    await page.run("v.muteMic(); await v.connect(arg);", room)
    assert await page.run("return v.localStream.getAudioTracks()[0].enabled;") is False
    assert await every([page, other], FLOWS) == [True, True]


async def test_a_disconnect_while_the_user_is_asked(site: Site, room: str) -> None:
    """A client that disconnects before it has the camera does not join, and raises no error."""
    page = await site.open()
    assert await page.run(
        """
        const v = client();
        const connected = v.connect(arg);
        v.disconnect();
        return [await connected, v.localStream, v.signaller.room];
        """,
        room,
    ) == [None, None, None]


async def test_data_channels(site: Site, room: str) -> None:
    """Messages go to all or to one, including those sent before the channel was open."""
    ann, bob = await site.client("ann", room), await site.client("bob", room)
    await ann.run("await until(() => v.peers.size); v.send('early');")
    cid = await site.client("cid", room)
    await every([ann, bob, cid], "await until(() => v.peers.size === 2);")
    await ann.run("v.send('to all'); v.send('to cid', { to: 'cid' });")
    await bob.run("v.send(new Uint8Array([1, 2, 3]));")
    code = """
    await until(() => v.heard.filter(({ type }) => type === "message").length === arg);
    return v.heard.filter(({ type }) => type === "message").map(({ detail: { user, data } }) =>
      [user, typeof data === "string" ? data : [...new Uint8Array(data)]]).sort();
    """
    assert await ann.run(code, 1) == [["bob", [1, 2, 3]]]
    assert await bob.run(code, 2) == [["ann", "early"], ["ann", "to all"]]
    assert await cid.run(code, 3) == [["ann", "to all"], ["ann", "to cid"], ["bob", [1, 2, 3]]]


async def test_a_broken_connection_is_resumed(site: Site, room: str) -> None:
    """The call goes on meanwhile; each message of both sides arrives exactly once, in order."""
    ann, bob = await call(site, room)
    bystander = await site.eve(room)
    await ann.run("v.signaller.broadcast('before');")
    site.wire.cut()
    await ann.run("await until(() => v.signaller.state === 'waiting');")
    for number in range(3):
        await bystander.send_str(packet("broadcast", "eve", room, f"away {number}"))
        await ann.run("v.signaller.broadcast(`while cut ${arg}`);", number)
    await ann.run("globalThis.peer = v.peers.get('bob'); await advances(v.remoteVideoElement);")
    site.wire.mend()
    # By chance a client may have failed often by now, and wait longer than its seat is kept.
    await every([ann, bob], "dispatchEvent(new Event('online'));")
    told = "return v.told.map(({ type }) => type).filter((type) => type.startsWith('re'));"
    resumed = "await until(() => v.told.some(({ type }) => type === 'resumed'));"
    await every([ann, bob], resumed)
    await ann.run("v.signaller.broadcast('after');")
    await bob.run(f"await until(() => (() => {{ {PAYLOADS} }})().includes('after'));")
    away = ["away 0", "away 1", "away 2"]
    cut = ["while cut 0", "while cut 1", "while cut 2"]
    heard = await bob.run(PAYLOADS)
    assert [word for word in heard if word in away] == away
    assert [word for word in heard if word not in away] == ["before", *cut, "after"]
    assert await ann.run(PAYLOADS) == away
    assert await every([ann, bob], told) == [["resumed"], ["resumed"]]
    assert await every([ann, bob], FLOWS) == [True, True]
    assert await ann.run("return v.peers.get('bob') === peer;") is True
    left = "return v.told.filter(({ type }) => type === 'left').length;"
    assert await every([ann, bob], left) == [0, 0]


async def test_a_restarted_server(site: Site, room: str) -> None:
    """Both rejoin, the same call goes on, and a third member can be called."""
    ann, bob = await call(site, room)
    await every([ann, bob], "globalThis.before = [...v.peers.values()];")
    await site.silence()
    await every([ann, bob], "await until(() => v.signaller.state !== 'joined');")
    assert await every([ann, bob], FLOWS) == [True, True]
    await site.signal()
    await every([ann, bob], "await until(() => v.told.some(({ type }) => type === 'rejoined'));")
    cid = await site.client("cid", room)
    assert await every([ann, bob, cid], ALL_FLOW, 2) == [2, 2, 2]
    assert (
        await every([ann, bob], "return v.peers.values().next().value === before[0];") == [True] * 2
    )
    hung_up = "return v.heard.filter(({ type }) => /hangup|error/.test(type)).length;"
    assert await every([ann, bob, cid], hung_up) == [0, 0, 0]


SCREEN = """
navigator.mediaDevices.getDisplayMedia = async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 321, height: 123 });
  const context = canvas.getContext("2d");
  setInterval(() => context.fillRect(Math.random() * 300, Math.random() * 100, 9, 9), 30);
  context.fillStyle = "red";
  return canvas.captureStream(30);
};
"""


async def test_the_screen_is_shown_in_place_of_the_camera(site: Site, room: str) -> None:
    """All members see it, later ones too, until it is stopped."""
    ann, bob = await site.client("ann", room, init=SCREEN), await site.client("bob", room)
    wide = """
    const { remoteVideoElement: video } = v;
    await until(() => (video.videoWidth / video.videoHeight > 2) === arg);
    return true;
    """
    assert await bob.run(wide, False)
    await ann.run("await v.shareScreen();")
    assert await bob.run(wide, True)
    cid = await site.client("cid", room)
    width = "const { ann } = v.remote; return ann && ann.videoWidth / ann.videoHeight > 2;"
    assert await cid.run(f"return until(() => {{ {width} }});")
    await ann.run("await v.stopSharing();")
    assert await bob.run(wide, False)
    assert await ann.run("return v.localStream.getVideoTracks()[0].readyState;") == "live"


async def test_a_client_without_devices_can_watch(site: Site, room: str) -> None:
    """When the user refuses, callbacks say so, others are seen, and the screen can be shared."""
    shy = await site.open(devices=False, init=SCREEN)
    refusals = await shy.run(
        """
        globalThis.v = client({ userId: "shy" });
        const refusals = [];
        v.onVideoError = ({ name }) => refusals.push(["video", name]);
        v.onAudioError = ({ name }) => refusals.push(["audio", name]);
        v.onLocalStream = () => refusals.push("a stream");
        await v.connect(arg);
        return refusals;
        """,
        room,
    )
    assert refusals == [["audio", "NotAllowedError"], ["video", "NotAllowedError"]]
    later = await site.client("later", room)
    third = await site.open(devices=False, init=SCREEN)
    assert await shy.run(FLOWS) is True
    await third.run("globalThis.v = client(); await v.connect(arg);", room)
    assert await third.run(FLOWS) is True
    assert await later.run("await until(() => v.peers.size === 2); return v.remoteStream;") is None
    await every([shy, third], "await v.shareScreen();")
    seen = "return advances(await until(() => v.remote[arg]));"
    assert await every([later, third], seen, "shy") == [True, True]
    assert await every([later, shy], "return v.peers.size;") == [2, 2]
    assert await later.run("await until(() => Object.keys(v.remote).length === 2); return true;")
    assert await shy.run(ALL_FLOW, 2) == 2


async def old(site: Site, user: str, room: str) -> Page:
    """Open a page with a script that behaves like the old client."""
    page = await site.open()
    await page.run(
        """
        await import("/old_page.mjs");
        const small = { audio: true, video: { width: 160 } };
        const stream = await navigator.mediaDevices.getUserMedia(small);
        globalThis.shown = video();
        globalThis.o = new OldPage(SIGNALLER, arg[0], arg[1], stream, shown);
        await until(() => o.socket.readyState === 1);
        """,
        [user, room],
    )
    return page


OLD_FLOWS = "return advances(shown);"


async def test_an_old_client_is_called(site: Site, room: str) -> None:
    """Only the initiator calls it; the other new client waits, although it joined earlier."""
    ann, bob = await site.client("ann", room), await site.client("bob", room)
    eve = await old(site, "eve", room)
    assert await eve.run(OLD_FLOWS) is True
    assert await every([ann, bob], "return [...v.peers.keys()];") == [
        ["bob", "eve"],
        ["ann"],
    ]
    assert await ann.run(ALL_FLOW, 2) == 2
    signals = await eve.run("return o.signals.filter((type) => type !== 'Ice Candidate');")
    assert signals == ["Ice Offer"]
    assert await eve.run("return o.errors;") == []
    await eve.run("o.hangUp();")
    await ann.run("await until(() => v.peers.size === 1);")
    assert await every([ann, bob], FLOWS) == [True, True]


async def test_an_old_client_calls(site: Site, room: str) -> None:
    """It calls the next to join; later members have a call with that old client only."""
    eve = await old(site, "eve", room)
    ann = await site.client("ann", room)
    assert await eve.run(OLD_FLOWS) is True
    assert await ann.run(FLOWS) is True
    bob = await site.client("bob", room)
    assert await bob.run(ALL_FLOW, 1) == 1
    assert await every([ann, bob], "return [...v.peers.keys()];") == [["eve", "bob"], ["ann"]]
    assert await eve.run("return o.errors;") == []
    # It can change its path, like any other call.
    await ann.run("v.peers.get('eve').restart();")
    await eve.run("await until(() => o.signals.filter((type) => type === 'Ice Offer').length);")
    assert await eve.run(OLD_FLOWS) is True
    # A packet of the room that is no signal does not affect a call.
    await bob.run("v.signaller.broadcast('{'); v.signaller.broadcast(null);")
    await ann.run("v.disconnect();")
    assert await eve.run("return until(() => o.ended);") is True


async def test_sockjs_is_used_if_loaded(site: Site, room: str) -> None:
    """The page has loaded sockjs-client, and the call uses it."""
    ann, bob = (
        await site.client("ann", room, script="sockjs.min.js"),
        await site.client("bob", room),
    )
    assert await every([ann, bob], FLOWS) == [True, True]
    urls = "return performance.getEntriesByType('resource').map(({ name }) => name);"
    assert any("/echo/info" in url for url in await ann.run(urls))
    assert not any("/echo/info" in url for url in await bob.run(urls))
    site.wire.break_()
    await every([ann, bob], "await until(() => v.told.some(({ type }) => type === 'resumed'));")


BLOCKED = {
    "absent": "delete globalThis.WebSocket;",
    "refused": """
    globalThis.WebSocket = class {
      constructor() { setTimeout(() => this.onclose({ code: 1006, reason: "" })); }
      close() {}
    };
    """,
}


@pytest.mark.parametrize("how", BLOCKED)
async def test_without_websockets(site: Site, room: str, how: str) -> None:
    """The call starts by polling, is resumed, and ends."""
    ann = await site.client("ann", room, init=BLOCKED[how])
    bob = await site.client("bob", room)
    assert await every([ann, bob], FLOWS) == [True, True]
    site.wire.cut()  # the browser itself repeats a request that only breaks
    await ann.run("await until(() => v.signaller.state === 'waiting');")
    site.wire.mend()
    await ann.run("await until(() => v.told.some(({ type }) => type === 'resumed'));")
    await bob.run("v.signaller.broadcast('視');")
    await ann.run(f"await until(() => (() => {{ {PAYLOADS} }})().includes('視'));")
    await ann.run("for (const _ of [1, 2]) v.signaller.broadcast('視'.repeat(20_000));")
    long = f"const heard = () => {{ {PAYLOADS} }}; await until(() => heard().length === 2);"
    assert await bob.run(f"{long} return heard().map(({{ length }}) => length);") == [
        20_000,
        20_000,
    ]
    await ann.run("v.disconnect();")
    await bob.run("await until(() => !v.peers.size);")


async def test_a_wrong_token(site: Site, room: str) -> None:
    """The promise is rejected with the protocol's code; a valid token is then fetched and used."""
    await site.restart(videre.Config(auth=TokenAuth([secret_key(SECRET)])))
    page = await site.open()
    told = """
    const v = client({ userId: "ann", ...arg[1] });
    const error = await v.connect(arg[0]).catch((error) => error);
    return [error instanceof SignallerError, error.code, error.retry, v.signaller.state];
    """
    assert await page.run(told, [room, {"token": "wrong"}]) == [
        True,
        "unauthorized",
        False,
        "closed",
    ]
    assert await page.run(told, [room, {}]) == [True, "unauthorized", False, "closed"]
    now = time.time()
    good = hs256({"sub": "ann", "room": room, "exp": now + 600})
    assert await page.run(
        """
        const asked = [];
        const token = async (who) => { asked.push(who); return arg[1]; };
        globalThis.v = client({ userId: "ann", token });
        const { Users } = await v.connect(arg[0]);
        return [Users, asked];
        """,
        [room, good],
    ) == [["ann"], [{"room": room, "user": "ann"}]]
    site.wire.break_()
    await page.run("await until(() => v.told.some(({ type }) => type === 'resumed'));")


class Impatient(TokenAuth):
    """Lets its first grant end a second after it was given, however late its token came."""

    _given = False

    def grant(self, token: object, user: UserId, room: RoomId, now: float) -> Grant:
        grant = super().grant(token, user, room, now)
        if not self._given:
            grant = dataclasses.replace(grant, expires=now + 1)
        self._given = True
        return grant


async def test_an_expiring_token_is_replaced(site: Site, room: str) -> None:
    """If the token is a function, it is called again, and nobody else notices."""
    await site.restart(videre.Config(auth=Impatient([secret_key(SECRET)])))
    page = await site.open()
    now = time.time()
    tokens = [hs256({"sub": "ann", "room": room, "exp": now + ttl}) for ttl in (500, 600)]
    asked = await page.run(
        """
        let asked = 0;
        const token = () => arg[1][Math.min(asked++, 1)];
        const v = client({ userId: "ann", constraints: false, token });
        await v.connect(arg[0]);
        await until(() => asked === 2);
        await v.signaller.ping();
        return v.told.map(({ type, detail }) => detail?.code ?? type);
        """,
        [room, tokens],
    )
    assert asked == ["state", "state", "token-expired"]


async def test_a_removed_user_does_not_return(site: Site, room: str) -> None:
    """A close of 4500 and above is final: it is reported as an error, and ends all calls."""
    ann, bob = await call(site, room)
    assert await site.rooms.kick(room, "bob", "Be nice")
    told = await bob.run(
        """
        const { detail } = await until(() => v.told.find(({ type }) => type === "closed"));
        return [detail.code, detail.message, v.signaller.state, v.peers.size, v.localStream];
        """
    )
    assert told == [4504, "Be nice", "closed", 0, None]
    await ann.run("await until(() => !v.peers.size);")


async def test_the_servers_ice_servers_are_used(site: Site, room: str) -> None:
    """The welcome has them, and fresh ones are used when fetched."""
    server = StaticServer(urls=("stun:127.0.0.1:9",))
    await site.restart(videre.Config(ice=IceServers((server,))))
    ann, bob = await site.client("ann", room), await site.client("bob", room)
    code = """
    const [peer] = await until(() => v.peers.size && [...v.peers.values()]);
    return peer.connection.getConfiguration().iceServers.map(({ urls }) => urls);
    """
    assert await every([ann, bob], code) == [[["stun:127.0.0.1:9"]]] * 2
    assert await ann.run("return (await v.signaller.ice())[0].urls;") == ["stun:127.0.0.1:9"]


async def test_the_signaller_alone(site: Site, room: str) -> None:
    """Signaller, for your own WebRTC code: members, roles and messages."""
    page = await site.open()
    assert await page.run(
        """
        const [a, b, c] = ["a", "b", "c"].map((user) => new Signaller({ url: SIGNALLER, user }));
        const heard = record(b, "joined", "left", "message", "role", "error", "closed");
        const { Users, Initiator, Resumed } = await a.join(arg);
        await b.join(arg);
        await c.join(arg);
        a.broadcast({ to: "all" });
        await a.ping(); // its answer: the server has had what comes before over this connection
        c.broadcast("for b", { to: "b" });
        c.broadcast("for a", { to: ["a"] });
        c.broadcast("for nobody", { to: "nobody" });
        const [error] = await new Promise((resolve) => c.on("error", (...all) => resolve(all)));
        const pinged = await b.ping();
        a.leave();
        await until(() => b.isInitiator && !c.users.includes("a"));
        const refused = await a.ping().catch(({ code }) => code);
        b.leave();
        return {
          welcome: [Users, Initiator, Resumed ?? null],
          heard: heard.map(({ type, detail: d }) => [type, d?.user ?? null, d?.payload ?? null]),
          error: [error.code, error.retry],
          pinged,
          refused,
          states: [a.state, b.state, c.state, b.room, b.users, c.users],
        };
        """,
        room,
    ) == {
        "welcome": [["a"], "a", None],
        "heard": [
            ["joined", "c", None],
            ["message", "a", {"to": "all"}],
            ["message", "c", "for b"],
            ["left", "a", None],
            ["role", "b", None],
            ["closed", None, None],
        ],
        "error": ["no-such-user", False],
        "pinged": ["a", "b", "c"],
        "refused": "not-in-room",
        "states": ["closed", "closed", "joined", None, [], ["b", "c"]],
    }
