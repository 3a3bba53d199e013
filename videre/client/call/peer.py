"""The call with one other member of the room: its media, its data, and the way to it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from typing import Any, Literal, Protocol

from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)

from videre.client.call import path, signals
from videre.client.call.data import Data
from videre.client.call.negotiation import Negotiation
from videre.client.call.outgoing import Progress
from videre.client.call.signals import Signal
from videre.client.call.values import Encoded, gone

State = Literal["new", "connecting", "connected", "disconnected", "failed", "closed"]

# Seconds between two looks at the way to the other end.
LOOK = 1.0
# Seconds of silence after which a way counts as broken: more than one of aioice's checks (6 s).
SILENCE = 8.0
# Seconds that a broken way has to come back by itself; longer where the other end makes the offers,
# and has probably seen it as well.
BREAK, THEIR_BREAK = 2.0, 6.0
# Seconds in which a new way must be found, before another one is tried.
SEARCH = 15.0

_ICE = re.compile(r"^a=ice-(ufrag|pwd):(\S+)\s*$", re.MULTILINE)


class Host(Protocol):
    """The call that a peer is part of."""

    @property
    def receive(self) -> Collection[str]:
        """The kinds of media that are wanted."""

    @property
    def max_bytes(self) -> int:
        """Bytes of the largest value that is taken."""

    def servers(self) -> list[RTCIceServer]:
        """Return the ICE servers that are good now."""

    def outgoing(self) -> list[MediaStreamTrack]:
        """Return a copy of each track that is to be sent."""

    def can_signal(self) -> bool:
        """Tell whether there is a connection to the signaller, as far as is known."""

    async def signal_to(self, user: str, payload: dict[str, Any]) -> None:
        """Send a signal to one member."""

    def emit(self, event: str, *args: Any) -> None:
        """Tell the application."""

    def ended_by(self, peer: Peer) -> None:
        """Hear that the other end has hung up."""


class Peer:
    """The call with `user`. `call` is its name, None with an old client.

    `connection` is its RTCPeerConnection, for statistics; `tracks` what is received.
    """

    def __init__(self, host: Host, user: str, call: str | None, *, caller: bool) -> None:
        self.user = user
        self.call = call
        self.tracks: list[MediaStreamTrack] = []
        self.state: State = "new"
        self._host = host
        self._data: Data | None = None
        self._prepared: asyncio.Future[Data] = asyncio.get_running_loop().create_future()
        self._path: path.Path | None = None
        self._waiting: list[MediaStreamTrack] = []  # to be sent, with the next offer of ours
        self._remote = ""  # the user name of the other end's ICE
        self._try_at = float("inf")  # to look for another way, by the loop's clock
        self._closed = False
        configuration = RTCConfiguration(
            iceServers=host.servers(), bundlePolicy=RTCBundlePolicy.MAX_BUNDLE
        )
        self.connection = RTCPeerConnection(configuration)
        self.connection.on("track", self._on_track)
        self.connection.on("connectionstatechange", self._look)
        self._negotiation = Negotiation(self, call, caller=caller)
        self._watching = asyncio.create_task(self._watch())

    def __repr__(self) -> str:
        return f"<Peer {self.user!r} {self.state}>"

    # What the call asks for.

    def begin(self) -> None:
        """Make the call."""
        self._negotiation.begin()

    def hear(self, signal: Signal) -> None:
        """Take what the other has sent."""
        self._negotiation.hear(signal)

    def add_track(self, track: MediaStreamTrack) -> None:
        """Send one more track."""

        async def add() -> None:
            self._waiting.append(track)
            self._negotiation.need_offer()

        self._negotiation.step(add)

    def remove_track(self, track_id: str) -> None:
        """Send a track no more."""

        async def remove() -> None:
            self._waiting = [each for each in self._waiting if source_id(each) != track_id]
            for sender in self.connection.getSenders():
                if sender.track is not None and source_id(sender.track) == track_id:
                    sender.track.stop()
                    sender.replaceTrack(None)

        self._negotiation.step(remove)

    def repair(self) -> None:
        """Do again what may have been lost while there was no connection to the signaller."""
        self._negotiation.step(self._negotiation.repair)
        if self.state != "connected":
            self.restart()

    def restart(self) -> None:
        """Find a new way to the other end, with ICE servers that are good now."""
        self._try_at = asyncio.get_running_loop().time() + SEARCH
        self._negotiation.restart()

    async def send(self, value: Encoded, progress: Progress | None) -> None:
        """Send a value; see `Call.send`. Raises TransferError."""
        data = await asyncio.shield(self._prepared)
        await data.send(value, progress)

    async def close(self) -> None:
        """Hang up."""
        if self._closed:
            return
        self._closed = True
        self._watching.cancel()
        await asyncio.wait([self._watching])
        await self._negotiation.close()
        if self._data is not None:
            self._data.close()
        elif not self._prepared.done():
            self._prepared.set_exception(gone(self.user))
            self._prepared.exception()  # whether or not somebody waits for it
        for sender in self.connection.getSenders():
            if sender.track is not None:
                sender.track.stop()
        await self.connection.close()
        self._become("closed")

    # What its negotiation asks for.

    def prepare(self, kinds: list[str] | None) -> None:
        """Make what is described; `kinds` are those of the sections of their offer, if any.

        aiortc looks for the way of all in what is made first, and stops it when that is not of the
        first section.
        """
        wanted = sorted(self._host.receive) if kinds is None else kinds
        if wanted[:1] == ["application"]:
            self._open_channels()
        self._waiting = self._host.outgoing()
        for kind in wanted:
            if kind not in ("audio", "video"):
                continue
            if not self._add_waiting(kind):
                self.connection.addTransceiver(kind, "recvonly")
        if kinds is None:
            self.arrange(offer=True)
        self._open_channels()
        self._path = path.install(self.connection, self._host.servers, self._look)

    def _add_waiting(self, kind: str) -> bool:
        """Send the first track of a kind that waits; tell whether there is one."""
        track = next((each for each in self._waiting if each.kind == kind), None)
        if track is None:
            return False
        self._waiting.remove(track)
        self.connection.addTrack(track)
        return True

    def _open_channels(self) -> None:
        if self.call is not None and self._data is None:
            limit = self._host.max_bytes
            self._data = Data(self.connection, self, self._host.emit, max_bytes=limit)
            self._prepared.set_result(self._data)

    async def renew_way(self, remote: RTCSessionDescription | None) -> None:
        """Begin a new way: the other end has, by this description; None: we want one."""
        is_new = remote is None or _credentials(remote)[0] != self._remote
        if self._path is not None and is_new:
            await self._path.renew()

    def arrange(self, *, offer: bool) -> None:
        """Send what waits, with an offer of ours, and receive no kind that is not wanted.

        A track that is not in an offer of theirs would fail aiortc's answer to it.
        """
        while offer and self._waiting:
            self.connection.addTrack(self._waiting.pop(0))
        for transceiver in self.connection.getTransceivers():
            if transceiver.kind not in self._host.receive:
                sends = transceiver.sender.track is not None
                transceiver.direction = "sendonly" if sends else "inactive"

    def agreed(self, signal: Signal, description: RTCSessionDescription) -> None:
        """Look for a way, now that both ends are described."""
        if self._data is not None:
            self._data.agree(min(signal.data, signals.DATA))
        self._remote, password = _credentials(description)
        if self._path is not None:
            self._path.start(self._remote, password)

    def is_settled(self) -> bool:
        """Tell whether all that is to be sent has found its place."""
        return not self._waiting

    async def signal(self, payload: dict[str, Any]) -> None:
        """Send a signal to the other end; `repair` makes up for what is not sent here."""
        if self._host.can_signal():
            await self._host.signal_to(self.user, payload)

    def failed(self, error: Exception) -> None:
        """Tell the application that a step has failed."""
        self._host.emit("error", error)

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind in self._host.receive:
            self.tracks.append(track)
            self._host.emit("track", track, self)

    # Its way.

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self._look()

    def _look(self) -> None:
        """See how the connection is, and look for another way if this one is broken."""
        if self._closed:
            return
        self._become(self._found_state())
        if self.state in ("failed", "closed"):
            self._host.ended_by(self)
        elif asyncio.get_running_loop().time() >= self._try_at:
            self._try_at = float("inf")
            self.restart()

    def _found_state(self) -> State:
        state = self.connection.connectionState
        if state == "connected" and self._path is not None:
            broken = not self._path.is_open or self._path.silence > SILENCE
            return "disconnected" if broken else "connected"
        known: State = state  # type: ignore[assignment]  # of the same words
        return known

    def _become(self, state: State) -> None:
        if state == self.state:
            return
        self.state = state
        patience = {
            "connecting": SEARCH,
            "disconnected": BREAK if self._negotiation.ours else THEIR_BREAK,
        }
        self._try_at = asyncio.get_running_loop().time() + patience.get(state, float("inf"))
        self._host.emit("state", self)


def _credentials(description: RTCSessionDescription) -> tuple[str, str]:
    """Return the user name and password of ICE, of the first section: all share one way."""
    found: dict[str, str] = {}
    for key, value in _ICE.findall(description.sdp):
        found.setdefault(key, value)
    return found.get("ufrag", ""), found.get("pwd", "")


def source_id(track: MediaStreamTrack) -> str:
    """Return the id of the track that a copy is of."""
    source: str = getattr(track, "source_id", track.id)
    return source
