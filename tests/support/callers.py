"""WebRTC peers (aiortc) that call each other, like clients of a server do."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceCandidate,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.sdp import candidate_from_sdp
from cluster import Local
from patience import WAIT_SECONDS
from process import Signaller
from signalling import Framing, Packet, Signalling, connect

CALL_SECONDS = 2 * WAIT_SECONDS  # a safety net: programs start and stop meanwhile


class Caller:
    """A WebRTC peer and its signalling; the initiator's side opens the data channel."""

    def __init__(self, signalling: Signalling) -> None:
        self.signalling = signalling
        self.rtc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.channel: asyncio.Future[RTCDataChannel] = asyncio.get_running_loop().create_future()
        self.messages: asyncio.Queue[str] = asyncio.Queue()
        self.rtc.on("datachannel", self._adopt)

    async def restart_with(self, servers: Sequence[dict[str, Any]]) -> None:
        """Start over with these ICE servers, in the W3C's form, as for a browser."""
        await self.rtc.close()
        ice = [RTCIceServer(**server) for server in servers]
        self.rtc = RTCPeerConnection(RTCConfiguration(iceServers=ice))
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
        """Return the other peer's next broadcast of this kind of ICE packet."""
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
        """Broadcast the SDP's first candidate separately too, as browsers do with all of them."""
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


async def negotiate(offerer: Caller, answerer: Caller) -> None:
    """Answer the offer, and exchange one candidate each."""
    await answerer.accepts("Ice Offer")
    await answerer.answers()
    await offerer.accepts("Ice Answer")
    await offerer.trickles()
    await answerer.trickles()
    await answerer.adds_candidate()
    await offerer.adds_candidate()


@asynccontextmanager
async def caller(
    server: Signaller | Local,
    framing: Framing,
    *,
    user: str,
    room: str,
    trust: ssl.SSLContext | None = None,
) -> AsyncIterator[Caller]:
    """Connect a peer to the server, and hang up at the end."""
    async with connect(server.url, framing, user=user, room=room, ssl=trust) as signalling:
        peer = Caller(signalling)
        try:
            yield peer
        finally:
            await peer.rtc.close()
