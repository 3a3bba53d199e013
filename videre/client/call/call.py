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
from videre.client.call import path, signals
from videre.client.call.emitter import Emitter
from videre.client.call.outgoing import Progress
from videre.client.call.peer import Peer
from videre.client.call.signals import Signal
from videre.client.call.values import MAX_SIZE, encode
from videre.client.client import Client
from videre.client.errors import TransferError, TransfersFailed
from videre.client.events import Event, Joined, Left, Message, Rejoined, Resumed
from videre.client.joining import Token
from videre.client.options import wrong_type
from videre.errors import NoSuchUser, PeerError

KINDS = ("audio", "video")


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
        receive: Iterable[str] = KINDS,
        ice_servers: Iterable[Mapping[str, Any]] = (),
        max_bytes: int = MAX_SIZE,
    ) -> None:
        super().__init__()
        self.receive = _kinds(receive)
        self.max_bytes = _size(max_bytes)
        self._ice_servers = _servers(ice_servers)
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
        self._tracks: dict[str, MediaStreamTrack] = {}
        self._relay = MediaRelay()
        self._sink = MediaBlackhole()
        self._stack = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None
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
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
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
                self._hang_up(user)
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
        except ValueError as error:
            signal = None
            super().emit("error", error)
        if signal is None:
            super().emit("ignored", payload, user)
            return
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

    def _hang_up(self, user: str) -> None:
        peer = self.peers.pop(user, None)
        if peer is None:
            return
        task = asyncio.create_task(peer.close())
        self._hanging_up.add(task)
        task.add_done_callback(self._hanging_up.discard)
        super().emit("hangup", peer)

    async def _hang_up_all(self) -> None:
        for user in list(self.peers):
            self._hang_up(user)
        if self._hanging_up:
            await asyncio.wait(self._hanging_up)

    # What a Peer needs.

    def servers(self) -> list[RTCIceServer]:
        """Return the ICE servers that are good now."""
        return path.usable([*self._ice_servers, *self.client.ice_servers])

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


def _kinds(value: Any) -> frozenset[str]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes):
        raise wrong_type("receive", value, "a collection of 'audio' and 'video'")
    found = frozenset(value)
    if wrong := found - set(KINDS):
        raise ValueError(f"receive may hold 'audio' and 'video', not {sorted(map(repr, wrong))}")
    return found


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type("max_bytes", value, "an int")
    if not 0 < value <= MAX_SIZE:
        raise ValueError(f"max_bytes must be 1 to {MAX_SIZE}, not {value}")
    return value


def _servers(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise wrong_type("ice_servers", value, "a list of dicts")
    servers = list(value)
    for server in servers:
        urls = server.get("urls") if isinstance(server, Mapping) else None
        texts = [urls] if isinstance(urls, str) else urls
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise TypeError("ice_servers must hold dicts with 'urls', a string or a list of them")
        path.usable([server], strict=True)
    return servers
