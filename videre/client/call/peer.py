"""The call with one other member: its media, its data, and its network path."""

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

from videre.client.call import path, signals, video_buffer
from videre.client.call.data import Data
from videre.client.call.negotiation import Negotiation
from videre.client.call.outgoing import Progress
from videre.client.call.signals import Signal
from videre.client.call.tracks import close, source_id
from videre.client.call.values import Encoded, gone

State = Literal["new", "connecting", "connected", "disconnected", "failed", "closed"]

# Seconds between checks of the path.
LOOK = 1.0
# Seconds of silence after which a path counts as broken: more than one of aioice's checks (6 s).
SILENCE = 8.0
# Seconds for a broken path to recover; longer if the other end makes the offers: it notices, too.
BREAK, THEIR_BREAK = 2.0, 6.0
# Seconds in which a restart must succeed before the next one.
SEARCH = 15.0

_ICE = re.compile(r"^a=ice-(ufrag|pwd):(\S+)\s*$", re.MULTILINE)


class Host(Protocol):
    """The call that a peer belongs to."""

    @property
    def receive(self) -> Collection[str]:
        """The kinds of media to receive."""

    @property
    def max_bytes(self) -> int:
        """The largest value to receive, in bytes."""

    def servers(self) -> list[RTCIceServer]:
        """Return the ICE servers that are valid now."""

    def outgoing(self) -> list[MediaStreamTrack]:
        """Return a copy of each track to send."""

    def can_signal(self) -> bool:
        """Tell whether the server is connected, as far as is known."""

    def has_left(self, user: str) -> bool:
        """Tell whether a user is no longer in the room, as far as is known."""

    async def signal_to(self, user: str, payload: dict[str, Any]) -> None:
        """Send a signal to one member."""

    def emit(self, event: str, *args: Any) -> None:
        """Call the application's handlers of an event."""

    def ended_by(self, peer: Peer) -> None:
        """End the call with a peer that has hung up or failed."""


class Peer:
    """The call with `user`. `call` is its name, None with an old client.

    `connection` is its RTCPeerConnection, for statistics; `tracks` are those received.
    """

    def __init__(self, host: Host, user: str, call: str | None, *, caller: bool) -> None:
        self.user = user
        self.call = call
        self.tracks: list[MediaStreamTrack] = []
        self.state: State = "new"
        self._host = host
        self._data: Data | None = None
        self._prepared: asyncio.Future[Data] = asyncio.get_running_loop().create_future()
        self._in_order = asyncio.Lock()  # who waits for that goes on before who comes later
        self._path: path.Path | None = None
        self._waiting: list[MediaStreamTrack] = []  # to send with our next offer
        self._remote = ""  # the ICE user name of the other end
        self._try_at = float("inf")  # when to restart, by the event loop's clock
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

    # For the call.

    def begin(self) -> None:
        """Make the call."""
        self._negotiation.begin()

    def hear(self, signal: Signal) -> None:
        """Handle a signal from the other end."""
        self._negotiation.hear(signal)

    def add_track(self, track: MediaStreamTrack) -> None:
        """Send another track."""

        async def add() -> None:
            self._waiting.append(track)
            self._negotiation.need_offer()

        if self._path is not None:  # if not, `prepare` will add all tracks
            self._negotiation.step(add)

    def remove_track(self, track_id: str) -> None:
        """Stop sending a track."""

        async def remove() -> None:
            self._waiting = [each for each in self._waiting if source_id(each) != track_id]
            for sender in self.connection.getSenders():
                if sender.track is not None and source_id(sender.track) == track_id:
                    sender.track.stop()
                    sender.replaceTrack(None)

        if self._path is not None:  # if not, `prepare` will not add it
            self._negotiation.step(remove)

    def repair(self) -> None:
        """Repeat signals that may have been lost while the server was disconnected."""
        self._negotiation.step(self._negotiation.repair)
        if self.state != "connected":
            self.restart()

    def restart(self) -> None:
        """Restart ICE, with the servers that are valid now."""
        if self.state != "connected":  # if it is, the old path goes on until it breaks
            self._try_at = asyncio.get_running_loop().time() + SEARCH
        self._negotiation.restart()

    async def send(self, value: Encoded, progress: Progress | None) -> None:
        """Send a value; see `Call.send`. Raises TransferError."""
        async with self._in_order:
            data = await asyncio.shield(self._prepared)
            await data.opened()
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
            self._prepared.exception()  # retrieved, so that asyncio does not log it
        await close(self.connection)
        self._become("closed")

    # For the negotiation.

    def prepare(self, kinds: list[str] | None) -> None:
        """Add media and channels; `kinds` are the sections of their offer, None for one of ours.

        aiortc runs ICE for the whole call in the transport created first, and stops that transport
        if it does not belong to the first section.
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
        """Send the first waiting track of a kind; return False if there is none."""
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
        """Begin a new ICE connection if their offer (`remote`) does, or if we want one (None)."""
        is_new = remote is None or _credentials(remote)[0] != self._remote
        if self._path is not None and is_new:
            await self._path.renew()

    def arrange(self, *, offer: bool) -> None:
        """Add waiting tracks to an offer of ours, and stop receiving kinds that are not wanted.

        Adding a track that their offer has no section for would make aiortc's answer fail.
        """
        while offer and self._waiting:
            self.connection.addTrack(self._waiting.pop(0))
        for transceiver in self.connection.getTransceivers():
            if transceiver.kind not in self._host.receive:
                sends = transceiver.sender.track is not None
                transceiver.direction = "sendonly" if sends else "inactive"

    def agreed(self, signal: Signal, description: RTCSessionDescription) -> None:
        """Start ICE: both ends are described."""
        if self._data is not None:
            self._data.agree(min(signal.data, signals.DATA), description.sdp)
        self._remote, password = _credentials(description)
        if self._path is not None:
            self._path.start(self._remote, password)

    def is_settled(self) -> bool:
        """Tell whether every track to send is in a description."""
        return not self._waiting

    async def signal(self, payload: dict[str, Any]) -> None:
        """Send a signal if the server is connected; if not, `repair` sends it later."""
        if self._host.can_signal():
            await self._host.signal_to(self.user, payload)

    def failed(self, error: Exception) -> None:
        """Report a failed step to the application."""
        self._host.emit("error", error)

    def _on_track(self, track: MediaStreamTrack) -> None:
        video_buffer.install(self.connection, track)
        if track.kind in self._host.receive:
            self.tracks.append(track)
            self._host.emit("track", track, self)

    # Its path.

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self._look()

    def _look(self) -> None:
        """Update the state; if the path has been broken for too long, restart ICE or hang up."""
        if self._closed:
            return
        self._become(self._found_state())
        is_due = asyncio.get_running_loop().time() >= self._try_at
        if self.state in ("failed", "closed") or (is_due and self._host.has_left(self.user)):
            self._host.ended_by(self)
        elif is_due:
            self._try_at = float("inf")
            self.restart()

    def _found_state(self) -> State:
        state = self.connection.connectionState
        if state == "connected" and self._path is not None:
            broken = not self._path.is_open or self._path.silence > SILENCE
            return "disconnected" if broken else "connected"
        known: State = state  # type: ignore[assignment]  # the same words
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
    """Return the ICE user name and password of the first section, which all sections share."""
    found: dict[str, str] = {}
    for key, value in _ICE.findall(description.sdp):
        found.setdefault(key, value)
    return found.get("ufrag", ""), found.get("pwd", "")
