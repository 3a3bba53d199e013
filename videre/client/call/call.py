"""A call with everybody in a room: a seat in it, and a Peer for each other member."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from ssl import SSLContext
from typing import Any, Self

from aiohttp import ClientSession
from aiortc import MediaStreamTrack, RTCIceServer
from aiortc.contrib.media import MediaBlackhole, MediaRelay
from aiortc.mediastreams import MediaStreamError

from videre.client.backoff import Backoff
from videre.client.call import options, path, signals
from videre.client.call.emitter import Emitter
from videre.client.call.outgoing import Progress
from videre.client.call.pace import CALL_COST, Pace
from videre.client.call.peer import Peer
from videre.client.call.signals import Signal
from videre.client.call.values import MAX_SIZE, encode
from videre.client.client import Client
from videre.client.errors import TransferError, TransfersFailed
from videre.client.events import Event, Joined, Left, Message, Rejoined, Resumed
from videre.client.joining import Token
from videre.client.options import wrong_type
from videre.errors import NoSuchUser, PeerError, VidereError

# Of the time for which ICE servers are good, after which they are asked for again; seconds between
# two looks whether they end at all.
FRESH, IDLE = 0.8, 60.0


class Call(Emitter):
    """A call with all other members of `room`, within `async with`; leaving stops its tracks.

    The options up to `give_up_after` are those of `Client`. `receive` names the kinds of media to
    take from others; `ice_servers` go before those of the welcome; `max_bytes` is the largest value
    that is taken over a data channel.

    Events, by `on`: `peer` (peer) a call begins, `hangup` (peer) it has ended, `state` (peer),
    `track` (track, peer), `message` (value, peer), `progress` (incoming, peer), `room` (event) what
    a Client would receive, `ignored` (message, peer or user) what is no message of ours, and
    `error` (exception). What is received and not taken by a handler of `track` is thrown away.

    Raises TypeError or ValueError for a wrong option, by its name.
    """

    EVENTS = frozenset(
        ("peer", "hangup", "state", "track", "message", "progress", "room", "ignored", "error")
    )
    DONE = (MediaStreamError,)  # of who reads a track to its end

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        room: str,
        token: Token | None = None,
        ssl: SSLContext | None = None,
        heartbeat: float | None = 10.0,
        backoff: Backoff | None = None,
        session: ClientSession | None = None,
        give_up_after: float | None = None,
        receive: Iterable[str] = options.KINDS,
        ice_servers: Iterable[Mapping[str, Any]] = (),
        max_bytes: int = MAX_SIZE,
    ) -> None:
        super().__init__()
        self.receive = options.kinds(receive)
        self.max_bytes = options.size(max_bytes)
        self._ice_servers = options.servers(ice_servers)
        self.client = Client(
            url,
            user=secrets.token_urlsafe(9) if user is None else user,
            room=room,
            token=token,
            ssl=ssl,
            heartbeat=heartbeat,
            backoff=backoff,
            session=session,
            give_up_after=give_up_after,
            header=lambda: {"Calls": [each.call for each in self.peers.values() if each.call]},
        )
        self.peers: dict[str, Peer] = {}
        self._paces: dict[str, Pace] = {}  # of the others' signals
        self._tracks: dict[str, MediaStreamTrack] = {}
        self._relay = MediaRelay()
        self._sink = MediaBlackhole()
        self._stack = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._hanging_up: set[asyncio.Task[None]] = set()

    @property
    def user(self) -> str:
        """One's name in the room."""
        return self.client.user

    def __repr__(self) -> str:
        return f"<Call {self.user!r} with {list(self.peers)}>"

    # What is sent.

    def add_track(self, track: MediaStreamTrack) -> None:
        """Send a track to all, now and later; raise TypeError if it is none."""
        if not isinstance(track, MediaStreamTrack):
            raise wrong_type("track", track, "an aiortc.MediaStreamTrack")
        if track.id in self._tracks:
            raise ValueError("track is sent already")
        self._tracks[track.id] = track
        for peer in self.peers.values():
            peer.add_track(self._copy(track))

    def remove_track(self, track: MediaStreamTrack) -> None:
        """Send a track no more; raise ValueError if it was not."""
        if self._tracks.pop(getattr(track, "id", ""), None) is None:
            raise ValueError("track is not sent")
        for peer in self.peers.values():
            peer.remove_track(track.id)

    async def send(
        self, data: Any, to: str | None = None, *, on_progress: Progress | None = None
    ) -> None:
        """Send a string, bytes, a Blob or a JSON value, to all or to one, of up to 256 MiB.

        Returns when they have it; short strings and bytes are on their way then. `on_progress` is
        called with the bytes that one of them has, and all. Raises TransferError for the one, or
        TransfersFailed with one for each who has not got it; KeyError if there is no call with
        `to`; TypeError or ValueError for what cannot be sent.
        """
        value = encode(data)
        if to is not None:
            peer = self.peers[to]
            if peer.call is None:
                raise TransferError("unsupported", to, "An old client has no data channel")
            await peer.send(value, on_progress)
            return
        peers = [peer for peer in self.peers.values() if peer.call is not None]
        jobs = [peer.send(value, on_progress) for peer in peers]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        failed = [each for each in results if isinstance(each, TransferError)]
        for each in results:
            if isinstance(each, BaseException) and not isinstance(each, TransferError):
                raise each
        if failed:
            raise TransfersFailed(failed)

    # Its life.

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.client)
            stack.push_async_callback(self._end)
            self._task = asyncio.create_task(self._listen(), name=f"videre call {self.user}")
            self._renewing = asyncio.create_task(self._renew_servers())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _end(self) -> None:
        for task in (self._task, self._renewing):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._hang_up_all()
        for track in self._tracks.values():
            track.stop()  # no camera stays on
        await self._sink.stop()
        await self.finish()

    async def ended(self) -> None:
        """Wait until the seat is lost for good, and raise why: what `Client.receive` raises."""
        if self._task is None:
            raise RuntimeError("Use `async with` first")
        await asyncio.shield(self._task)

    async def _listen(self) -> None:
        """Take what happens in the room, until that ends."""
        try:
            while True:
                try:
                    event = await self.client.receive()
                except NoSuchUser:
                    continue  # a signal for who has just left
                except PeerError as error:
                    if error.packet_id is None:
                        raise
                    super().emit("error", error)
                else:
                    self._hear(event)
        finally:
            await self._hang_up_all()

    def _hear(self, event: Event) -> None:
        match event:
            case Joined(user):
                self._meet(user, event.header.get("Calls"))
            case Left(user):
                self._forget(user)
            case Message(user, payload):
                self._take(user, payload)
            case Resumed() | Rejoined():
                self._repair()
        super().emit("room", event)

    # Who is called by whom.

    def _meet(self, user: str, calls: object) -> None:
        """Call who has entered after us.

        An old client, which sends no `Calls`, can have one call: the initiator makes it.
        """
        peer = self.peers.get(user)
        listed = isinstance(calls, list)
        if peer is not None and peer.call and isinstance(calls, list) and peer.call in calls:
            peer.repair()  # it was away
            return
        self._hang_up(user)
        if listed or (self.client.is_initiator and (self._tracks or self.receive)):
            self._begin(user, secrets.token_urlsafe(9) if listed else None, caller=True).begin()

    def _begin(self, user: str, name: str | None, *, caller: bool) -> Peer:
        peer = self.peers[user] = Peer(self, user, name, caller=caller)
        super().emit("peer", peer)
        return peer

    def _take(self, user: str, payload: Any) -> None:
        try:
            signal = signals.read(payload)
        except ValueError:
            signal = None
        if signal is None:
            super().emit("ignored", payload, user)
            return
        cost = 1 if signal.type in (signals.OFFER, signals.ASK, signals.TURN) else 0
        peer = self.peers.get(user)
        if signal.type == signals.OFFER and (peer is None or peer.call != signal.call):
            cost = CALL_COST
        pace = self._paces.setdefault(user, Pace())
        if not pace.pass_(payload, cost, lambda: self._take_signal(user, signal)):
            super().emit("ignored", payload, user)

    def _take_signal(self, user: str, signal: Signal) -> None:
        peer = self.peers.get(user)
        if signal.type == signals.OFFER and (peer is None or peer.call != signal.call):
            if not self._accepts(user, signal):
                return
            self._hang_up(user)
            peer = self._begin(user, signal.call, caller=False)
        if peer is not None and peer.call == signal.call:
            peer.hear(signal)

    def _accepts(self, user: str, signal: Signal) -> bool:
        """Tell whether an offer makes a call.

        Who was there first makes a call, by its first offer. An old client's offer goes to all, and
        is for who came next.
        """
        users = self.client.users
        if user not in users:
            return False
        their, our = users.index(user), users.index(self.user)
        if signal.call is None:
            return our == their + 1 or len(users) < 3
        return signal.number == 1 and their < our

    def _repair(self) -> None:
        users = self.client.users
        for peer in list(self.peers.values()):
            if peer.user in users:
                peer.repair()
            elif peer.state != "connected":
                self._hang_up(peer.user)  # else it may come back

    def _forget(self, user: str) -> None:
        """Hang up, and take no more of what this one has sent."""
        if (pace := self._paces.pop(user, None)) is not None:
            pace.end()
        self._hang_up(user)

    def _hang_up(self, user: str) -> None:
        peer = self.peers.pop(user, None)
        if peer is None:
            return
        task = asyncio.create_task(peer.close())
        self._hanging_up.add(task)
        task.add_done_callback(self._hanging_up.discard)
        super().emit("hangup", peer)

    async def _hang_up_all(self) -> None:
        for user in {*self.peers, *self._paces}:
            self._forget(user)
        if self._hanging_up:
            await asyncio.wait(self._hanging_up)

    # What a Peer needs.

    def servers(self) -> list[RTCIceServer]:
        """Return the ICE servers that are good now."""
        return path.usable([*self._ice_servers, *self.client.ice_servers])

    async def _renew_servers(self) -> None:
        """Ask for ICE servers before the credentials of the last ones end."""
        while True:
            ttl = self.client.ice_ttl
            await asyncio.sleep(IDLE if ttl is None else ttl * FRESH)
            if ttl is not None and self.client.connected:  # a welcome brings them, too
                try:
                    await self.client.ice()
                except (VidereError, TimeoutError) as error:
                    super().emit("error", error)

    def outgoing(self) -> list[MediaStreamTrack]:
        """Return a copy of each track that is sent."""
        return [self._copy(track) for track in self._tracks.values()]

    def _copy(self, track: MediaStreamTrack) -> MediaStreamTrack:
        # Who is slow misses pictures, and no sound.
        copy: Any = self._relay.subscribe(track, buffered=track.kind == "audio")
        copy.source_id = track.id
        found: MediaStreamTrack = copy
        return found

    def can_signal(self) -> bool:
        """Tell whether there is a connection to the signaller, as far as is known."""
        return self.client.connected

    async def signal_to(self, user: str, payload: dict[str, Any]) -> None:
        """Send a signal to one member."""
        await self.client.broadcast(payload, to=user)

    def emit(self, event: str, *args: Any) -> None:
        """Tell the application; see the class."""
        if event == "track" and not self.listens("track"):
            track: MediaStreamTrack = args[0]
            self._sink.addTrack(track)
            self._run("track", self._sink.start())
        super().emit(event, *args)

    def ended_by(self, peer: Peer) -> None:
        """Hear that the other end has hung up, or that nothing can be had from it any more."""
        if self.peers.get(peer.user) is peer:
            self._hang_up(peer.user)
