"""A real coturn accepts our credentials, and a call uses only its relay."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import aioice
import aioice.ice
import pytest
import pytest_asyncio
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection
from callers import CALL_SECONDS, Caller, caller
from coturn import HOST, RELAY_PORTS, Coturn, coturn
from inprocess import serving
from process import signaller

import videre
from videre.client import Call, Peer
from videre.config import Config
from videre.ice import TTL, IceServers, SharedSecret

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]

Server = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def turn(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Coturn]:
    """Run a coturn for all tests."""
    async with coturn(tmp_path_factory.mktemp("coturn")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give ICE no address of the machine: only a relay works. Wait for it on a busy machine."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: [])
    gather = aioice.Connection.get_component_candidates
    waiting = functools.partialmethod(gather, timeout=CALL_SECONDS)  # not 5 s
    monkeypatch.setattr(aioice.Connection, "get_component_candidates", waiting)


def offered(secret: SharedSecret, user: str, now: float | None = None) -> Server:
    """Return the RTCIceServer given to `user`, at Unix time `now` or at present."""
    offer = IceServers([secret]).offer(user, time.time() if now is None else now)
    (server,) = offer["IceServers"]
    assert isinstance(server, dict)
    return server


async def relays(server: Server) -> list[tuple[str, int]]:
    """Return the relays that a WebRTC peer gets from a server, and check for other candidates."""
    rtc = RTCPeerConnection(RTCConfiguration(iceServers=[RTCIceServer(**server)]))
    try:
        async with asyncio.timeout(CALL_SECONDS):
            rtc.createDataChannel("videre")
            await rtc.setLocalDescription(await rtc.createOffer())
            candidates = rtc.sctp.transport.transport.iceGatherer.getLocalCandidates()  # type: ignore[union-attr]
    finally:
        await rtc.close()
    assert all(candidate.type == "relay" for candidate in candidates)
    return [(candidate.ip, candidate.port) for candidate in candidates]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_credential_allocates_a_relay(turn: Coturn, transport: str) -> None:
    """It gets one relay, on a port of coturn's."""
    ((host, port),) = await relays(offered(turn.shared(transport), "peer1"))
    assert host == HOST and port in RELAY_PORTS


@pytest.mark.parametrize(
    "user",
    [
        "a:b",
        "Anna B",
        "O'Hara",
        'a"b',
        "a\\b",
        "100%",
        "union select",
        "Union",
        "dürer",
        "👀" * 128,
    ],
)
async def test_any_user_gets_a_relay(turn: Coturn, user: str) -> None:
    """This includes users whose plain names coturn would reject, or that are too long."""
    assert len(await relays(offered(turn.shared(), user))) == 1, str(turn)


async def test_an_expired_credential_allocates_none(turn: Coturn) -> None:
    """A minute before its expiry it is valid, a minute after it is not."""
    now = time.time()
    assert len(await relays(offered(turn.shared(), "peer1", now - TTL + 60))) == 1
    assert await relays(offered(turn.shared(), "peer1", now - TTL - 60)) == []


async def test_a_forged_credential_allocates_none(turn: Coturn) -> None:
    """Neither with a later expiry or another user, nor signed with another secret."""
    server = offered(turn.shared(), "peer1")
    expiry, _, user = server["username"].partition(":")
    longer = {**server, "username": f"{int(expiry) + 1}:{user}"}
    other = {**server, "username": f"{expiry}:peer2"}
    forged = offered(dataclasses.replace(turn.shared(), secret="some other secret"), "peer1")
    for bad in (longer, other, forged):
        assert await relays(bad) == []
    assert len(await relays(server)) == 1


def selected(peer: Caller) -> list[str]:
    """Return the types of the two candidates that carry a peer's packets."""
    pair = peer.rtc.sctp.transport.transport._connection._nominated[1]  # type: ignore[union-attr]
    return [pair.local_candidate.type, pair.remote_candidate.type]


async def test_a_call_through_the_relay_only(turn: Coturn, tmp_path: Path) -> None:
    """Two peers that know only their relays' addresses talk over a data channel."""
    room = str(uuid4())
    async with asyncio.timeout(CALL_SECONDS), AsyncExitStack() as stack:
        config = {"IceServers": [turn.entry()]}
        server = await stack.enter_async_context(signaller(tmp=tmp_path, config=config))

        async def enter(user: str, payload: object, role: str) -> Caller:
            peer = await stack.enter_async_context(caller(server, "raw", user=user, room=room))
            await peer.signalling.send(peer.signalling.packet("connect", payload))
            await peer.hears("connect", role, user=user)
            return peer

        async def receive_servers(peer: Caller, event: str) -> list[Server]:
            heard = await peer.signalling.receive()
            assert heard["Header"]["Event"] == event
            servers: list[Server] = json.loads(heard["Payload"])["IceServers"]
            return servers

        peer1 = await enter("peer1", {"Welcome": True}, "true")
        await peer1.restart_with(await receive_servers(peer1, "welcome"))
        peer2 = await enter("peer2", "{}", "false")
        await peer1.hears("connect", "false", user="peer2")
        await peer2.signalling.send(peer2.signalling.packet("ice"))
        await peer2.restart_with(await receive_servers(peer2, "ice"))

        await peer1.offers()
        await peer2.accepts("Ice Offer")
        await peer2.answers()
        await peer1.accepts("Ice Answer")

        (await peer1.channel).send("Do you see me?")
        assert await peer2.messages.get() == "Do you see me?"
        (await peer2.channel).send("Video! 👀")
        assert await peer1.messages.get() == "Video! 👀"

        for peer in (peer1, peer2):
            assert selected(peer) == ["relay", "relay"]
            lines = peer.rtc.localDescription.sdp.splitlines()
            candidates = [line for line in lines if line.startswith("a=candidate:")]
            assert candidates and all(" typ relay" in line for line in candidates)


async def test_a_python_call_goes_through_the_relay(turn: Coturn) -> None:
    """It uses the welcome's servers, and another relay after an ICE restart."""
    app = videre.create_app(Config(ice=IceServers([turn.shared()])))
    heard: asyncio.Queue[Any] = asyncio.Queue()
    async with asyncio.timeout(2 * CALL_SECONDS), serving(app) as server:
        url = f"{server.url}/echo"
        async with Call(url, user="a", room="room") as a, Call(url, user="b", room="room") as b:
            b.on("message", lambda value, _peer: heard.put_nowait(value))
            states: asyncio.Queue[str] = asyncio.Queue()
            a.on("state", lambda peer: states.put_nowait(peer.state))
            while await states.get() != "connected":
                pass
            await a.send("relayed")
            assert await heard.get() == "relayed"
            peer = a.peers["b"]
            before = _relay(peer)
            peer.restart()
            while _relay(peer) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            await a.send(["again"])
            assert await heard.get() == ["again"]


def _relay(peer: Peer) -> set[int]:
    """Return the ports of the relays that this end has sent to the other."""
    sdp = peer.connection.localDescription.sdp
    lines = [line for line in sdp.splitlines() if line.startswith("a=candidate:")]
    assert lines and all(" typ relay " in line for line in lines)
    return {int(line.split()[5]) for line in lines}
