"""Set up real WebRTC data channels, between aiortc peers, through a running signaller."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aioice.ice
import pytest
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceCandidate,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.sdp import candidate_from_sdp
from process import Signaller, self_signed, signaller
from signalling import Framing, Packet, Signalling, connect

CALL_SECONDS = 30  # a safety net: a call takes less than a second


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ICE use the one address that every machine has, and that none can be reached at."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])


class Caller:
    """A WebRTC peer and its signalling; the initiator's side opens the data channel."""

    def __init__(self, signalling: Signalling) -> None:
        self.signalling = signalling
        self.rtc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel: asyncio.Future[RTCDataChannel] = asyncio.get_running_loop().create_future()
        self.messages: asyncio.Queue[str] = asyncio.Queue()
        self.rtc.on("datachannel", self._adopt)

    def _adopt(self, channel: RTCDataChannel) -> None:
        channel.on("message", self.messages.put_nowait)
        if channel.readyState == "open":
            self.channel.set_result(channel)
        else:
            channel.on("open", lambda: self.channel.set_result(channel))

    async def hears(self, event: str, payload: str, *, user: str) -> None:
        heard = await self.signalling.receive()
        header = {"Event": event, "UserId": user, "RoomId": self.signalling.room}
        assert heard == {"Header": header, "Payload": payload}

    async def receives(self, kind: str) -> Any:
        """Return the packet of ICE of this kind that the other peer broadcasts next."""
        packet: Packet = await self.signalling.receive()
        assert packet["Header"]["Event"] == "broadcast"
        assert packet["Header"]["UserId"] != self.signalling.user
        assert packet["Payload"]["Type"] == kind
        return packet["Payload"]["IcePacket"]

    async def broadcasts(self, kind: str, ice: dict[str, Any]) -> None:
        payload = {"Type": kind, "IcePacket": ice}
        await self.signalling.send(self.signalling.packet("broadcast", payload))

    async def offers(self) -> None:
        self._adopt(self.rtc.createDataChannel("videre"))
        await self._describes(await self.rtc.createOffer())

    async def answers(self) -> None:
        await self._describes(await self.rtc.createAnswer())

    async def _describes(self, description: RTCSessionDescription) -> None:
        await self.rtc.setLocalDescription(description)  # gathers the candidates into the SDP
        local = self.rtc.localDescription
        await self.broadcasts(f"Ice {local.type.title()}", {"type": local.type, "sdp": local.sdp})

    async def accepts(self, kind: str) -> None:
        ice = await self.receives(kind)
        await self.rtc.setRemoteDescription(RTCSessionDescription(**ice))

    async def trickles(self) -> None:
        """Broadcast the first candidate of the SDP by itself too, as browsers do with all."""
        lines = self.rtc.localDescription.sdp.splitlines()
        line = next(line for line in lines if line.startswith("a=candidate:"))
        candidate = {"candidate": line[2:], "sdpMid": "0", "sdpMLineIndex": 0}
        await self.broadcasts("Ice Candidate", candidate)

    async def adds_candidate(self) -> None:
        ice = await self.receives("Ice Candidate")
        candidate: RTCIceCandidate = candidate_from_sdp(ice["candidate"].removeprefix("candidate:"))
        candidate.sdpMid, candidate.sdpMLineIndex = ice["sdpMid"], ice["sdpMLineIndex"]
        assert candidate.ip == "127.0.0.1"
        await self.rtc.addIceCandidate(candidate)


@asynccontextmanager
async def running(
    secure: bool, tmp: Path
) -> AsyncIterator[tuple[Signaller, ssl.SSLContext | None]]:
    """Run a signaller, plain or with a certificate of its own, and a context that trusts it."""
    if not secure:
        async with signaller(tmp=tmp) as server:
            yield server, None
        return
    certificate, key = self_signed(tmp)
    config = {"TLS": True, "Cert": str(certificate), "Key": str(key)}
    async with signaller(tmp=tmp, config=config) as server:
        assert server.url.startswith("https://")
        yield server, ssl.create_default_context(cafile=str(certificate))


@asynccontextmanager
async def caller(
    server: Signaller, framing: Framing, *, user: str, room: str, trust: ssl.SSLContext | None
) -> AsyncIterator[Caller]:
    async with connect(server.url, framing, user=user, room=room, ssl=trust) as signalling:
        peer = Caller(signalling)
        try:
            yield peer
        finally:
            await peer.rtc.close()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("framing", ["sockjs", "raw"])
async def test_two_peers_talk_over_a_data_channel(
    framing: Framing, secure: bool, tmp_path: Path
) -> None:
    """The seven steps set up a data channel that carries messages, and one hears the other go."""
    room = str(uuid4())
    async with asyncio.timeout(CALL_SECONDS), AsyncExitStack() as stack:
        server, trust = await stack.enter_async_context(running(secure, tmp_path))

        async def enter(user: str) -> Caller:
            who = caller(server, framing, user=user, room=room, trust=trust)
            peer = await stack.enter_async_context(who)
            await peer.signalling.send(peer.signalling.packet("connect"))
            return peer

        peer1 = await enter("peer1")
        await peer1.hears("connect", "true", user="peer1")
        peer2 = await enter("peer2")
        await peer2.hears("connect", "false", user="peer2")
        await peer1.hears("connect", "false", user="peer2")

        await peer1.offers()
        await peer2.accepts("Ice Offer")
        await peer2.answers()
        await peer1.accepts("Ice Answer")
        await peer1.trickles()
        await peer2.trickles()
        await peer2.adds_candidate()
        await peer1.adds_candidate()

        (await peer1.channel).send("Do you see me?")
        assert await peer2.messages.get() == "Do you see me?"
        (await peer2.channel).send("Video! 👀")
        assert await peer1.messages.get() == "Video! 👀"

        await peer1.signalling.close()
        await peer2.hears("disconnect", "", user="peer1")
        await peer2.hears("connect", "true", user="peer2")
