"""The call with one other member of the room: its negotiation, its media and its data.

The member who was there first makes the call, names it, and makes the offers. The other asks for
its turn to make one, so that two offers never meet. Offers are numbered, for answers to say which
one they answer, and so are turns. All that is sent may be sent again: docs/browser.md, "On the
wire". An old client knows nothing of this: its calls have no name, and it never asks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
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

    async def signal(self, user: str, payload: dict[str, Any]) -> None:
        """Send a signal."""

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
        self.data: Data | None = None
        self._prepared: asyncio.Future[Data] = asyncio.get_running_loop().create_future()
        self._host = host
        self._ours = caller or call is None  # the turn
        self._due = False  # an offer of ours
        self._renew = False  # with a new way
        self._asked = False  # for the turn, by the other
        self._lent = False  # the turn, to the other
        self._turn = 0  # how often it was
        self._offers = 0  # made
        self._offer = 0  # the last one that was taken
        self._remote = ""  # the user name of the other end's ICE
        self._try_at = float("inf")  # to look for another way, by the loop's clock
        self._closed = False
        configuration = RTCConfiguration(
            iceServers=host.servers(), bundlePolicy=RTCBundlePolicy.MAX_BUNDLE
        )
        self.connection = RTCPeerConnection(configuration)
        self.connection.on("track", self._on_track)
        self.connection.on("connectionstatechange", self._look)
        self._path: path.Path | None = None
        self._steps: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._watch())]

    def __repr__(self) -> str:
        return f"<Peer {self.user!r} {self.state}>"

    # What the call asks for.

    def begin(self) -> None:
        """Make the call."""
        self._prepare("")
        self._due = True
        self._step(self._advance)

    def hear(self, signal: Signal) -> None:
        """Take what the other has sent."""

        async def take() -> None:
            await self._take(signal)
            await self._advance()

        self._step(take)

    def add_track(self, track: MediaStreamTrack) -> None:
        """Send one more track."""

        async def add() -> None:
            self.connection.addTrack(track)
            self._need_offer()

        self._step(add)

    def remove_track(self, track_id: str) -> None:
        """Send a track no more."""

        async def remove() -> None:
            for transceiver in self.connection.getTransceivers():
                track = transceiver.sender.track
                if track is not None and source_id(track) == track_id:
                    transceiver.sender.replaceTrack(None)

        self._step(remove)

    def repair(self) -> None:
        """Do again what may have been lost while there was no connection to the signaller."""

        async def again() -> None:
            local = self.connection.localDescription
            waits = self.connection.signalingState == "have-local-offer"
            if waits or (local is not None and local.type == "answer"):
                await self._describe()
            if self._lent:
                await self._lend()
            if self._due and not self._ours:
                await self._signal(signals.ASK)
            if self.state != "connected":
                self._restart()

        self._step(again)

    def restart(self) -> None:
        """Find a new way to the other end, with ICE servers that are good now."""

        async def begin() -> None:
            self._restart()

        self._step(begin)

    async def send(self, value: Encoded, progress: Progress | None) -> None:
        """Send a value; see `Call.send`. Raises TransferError."""
        data = await asyncio.shield(self._prepared)
        await data.send(value, progress)

    async def close(self) -> None:
        """Hang up."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        if self.data is not None:
            self.data.close()
        elif not self._prepared.done():
            self._prepared.set_exception(gone(self.user))
            self._prepared.exception()  # whether or not somebody waits for it
        for sender in self.connection.getSenders():
            if sender.track is not None:
                sender.track.stop()
        await self.connection.close()
        self._become("closed")

    # One step after the other.

    def _step(self, step: Callable[[], Awaitable[None]]) -> None:
        self._steps.put_nowait(step)

    async def _work(self) -> None:
        while True:
            step = await self._steps.get()
            try:
                await step()
            except Exception as error:
                if self.connection.signalingState != "closed":
                    self._host.emit("error", error)

    async def _take(self, signal: Signal) -> None:
        waits = self.connection.signalingState == "have-local-offer"
        match signal.type:
            case signals.CANDIDATE:
                await self._take_candidate(signal)
            case signals.ANSWER:
                if waits and (self.call is None or signal.number == self._offers):
                    await self._take_answer(signal)
            case signals.OFFER:
                if self.connection.signalingState == "stable":
                    await self._take_offer(signal)
            case signals.ASK if self._lent:
                await self._lend()
            case signals.ASK:
                self._asked = True
            case signals.TURN if signal.number == self._turn:
                if waits:
                    await self._describe()  # it was lost
            case signals.TURN:
                self._turn = signal.number
                await self._propose()

    async def _take_candidate(self, signal: Signal) -> None:
        # Before the first description there is nowhere to keep it; the other describes first.
        if signal.candidate is not None and self.connection.remoteDescription is not None:
            await self.connection.addIceCandidate(signal.candidate)

    async def _take_answer(self, signal: Signal) -> None:
        description = _described(signal)
        await self.connection.setRemoteDescription(description)
        self._agree(signal)
        self._look_for_way(description)

    async def _take_offer(self, signal: Signal) -> None:
        description = _described(signal)
        name, _ = _credentials(description)
        if self._path is None:
            self._prepare(description.sdp.partition("\nm=")[2].partition(" ")[0])
        elif self._remote and name != self._remote:
            self._renew = False
            await self._path.renew()
        await self.connection.setRemoteDescription(description)
        self._set_directions()
        self._offer = signal.number
        self._lent = False
        self._agree(signal)
        await self.connection.setLocalDescription()
        self._look_for_way(description)
        await self._describe()
        if self._is_unsettled():
            self._need_offer()

    def _agree(self, signal: Signal) -> None:
        if self.data is not None:
            self.data.agree(min(signal.data, signals.DATA))

    def _look_for_way(self, description: RTCSessionDescription) -> None:
        self._remote, password = _credentials(description)
        if self._path is not None:
            self._path.start(self._remote, password)

    async def _advance(self) -> None:
        """Do what is due when it is our turn."""
        if not self._ours or self._lent or self.connection.signalingState != "stable":
            return
        if self._asked:
            self._asked = False
            self._lent = True
            self._turn += 1
            await self._lend()
        elif self._due:
            await self._propose()

    def _need_offer(self) -> None:
        self._due = True
        if self._ours:
            self._step(self._advance)
        else:
            self._step(lambda: self._signal(signals.ASK))

    def _restart(self) -> None:
        if self._path is not None:
            self._renew = True
            self._try_at = asyncio.get_running_loop().time() + SEARCH
            self._need_offer()

    async def _propose(self) -> None:
        self._due = False
        if self._renew and self._path is not None:
            self._renew = False
            await self._path.renew()
        self._set_directions()
        await self.connection.setLocalDescription()
        self._offers += 1
        await self._describe()

    async def _describe(self) -> None:
        local = self.connection.localDescription
        if local is None:
            return
        is_offer = local.type == "offer"
        kind = signals.OFFER if is_offer else signals.ANSWER
        number = self._offers if is_offer else self._offer
        await self._signal(kind, number=number, description=local)

    async def _lend(self) -> None:
        await self._signal(signals.TURN, number=self._turn)

    async def _signal(self, kind: str, **more: Any) -> None:
        if self._host.can_signal():  # `repair` makes up for what is not sent here
            await self._host.signal(self.user, signals.write(kind, self.call, **more))

    # Media.

    def _prepare(self, first: str) -> None:
        """Make what is described. `first` is the kind of their offer's first section, if any.

        aiortc looks for the way of all in what is made first, and stops it when that is not of the
        first section.
        """
        if first == "application":
            self._open_channels()
        tracks = self._host.outgoing()
        for kind in ("video", "audio") if first == "video" else ("audio", "video"):
            mine = [track for track in tracks if track.kind == kind]
            for track in mine:
                self.connection.addTrack(track)
            wanted = self._ours and kind in self._host.receive
            if not mine and (wanted or kind == first):
                self.connection.addTransceiver(kind, "recvonly")
        if first != "application":
            self._open_channels()
        self._path = path.install(self.connection, self._host.servers, self._look)

    def _open_channels(self) -> None:
        if self.call is not None and self.data is None:
            self.data = Data(self.connection, self, self._host.emit, max_bytes=self._host.max_bytes)
            self._prepared.set_result(self.data)

    def _set_directions(self) -> None:
        """Receive no kind that the application does not want."""
        for transceiver in self.connection.getTransceivers():
            if transceiver.kind not in self._host.receive:
                sends = transceiver.sender.track is not None
                transceiver.direction = "sendonly" if sends else "inactive"

    def _is_unsettled(self) -> bool:
        """Tell whether a track of ours found no place in what was agreed on."""
        for transceiver in self.connection.getTransceivers():
            if transceiver.sender.track is None:
                continue
            if transceiver.mid is None or "send" not in (transceiver.currentDirection or ""):
                return True
        return False

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
        patience = {"connecting": SEARCH, "disconnected": BREAK if self._ours else THEIR_BREAK}
        self._try_at = asyncio.get_running_loop().time() + patience.get(state, float("inf"))
        self._host.emit("state", self)


def _described(signal: Signal) -> RTCSessionDescription:
    if signal.description is None:
        raise ValueError(f"{signal.type}: no description")
    return signal.description


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
