"""A call with everybody in a room: a seat, and a Peer for each other member."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from ssl import SSLContext
from typing import Any, Self

from aiohttp import ClientSession
from aiortc import MediaStreamTrack, RTCIceServer
from aiortc.mediastreams import MediaStreamError

from videre.client import wire
from videre.client.backoff import Backoff
from videre.client.call import options
from videre.client.call.emitter import Emitter
from videre.client.call.meeting import Meeting
from videre.client.call.outgoing import Progress, to_all
from videre.client.call.peer import Peer
from videre.client.call.servers import Servers
from videre.client.call.tracks import Tracks, discard
from videre.client.call.values import MAX_SIZE, encode
from videre.client.client import Client
from videre.client.errors import TransferError
from videre.client.events import Event, Joined, Left, Message, Rejoined, Resumed
from videre.client.joining import Token
from videre.errors import NoSuchUser, PeerError

# Signals whose refusal is recognized: more than are under way, at 50 packets per second.
RECENT = 1000

# Seconds that handlers of `hangup` get when the application leaves: they may have a file to finish.
PARTING = 5.0


class Call(Emitter):
    """A call with all other members of `room`, within `async with`.

    Leaving stops its tracks, and so does a failure to enter.

    The options up to `give_up_after` are those of `Client`. `receive` names the kinds of media to
    receive; `ice_servers` precede those of the welcome; `max_bytes` limits the size of a value
    received over a data channel.

    Events, for `on`: `peer` (peer): a call begins; `hangup` (peer): it has ended; `state` (peer);
    `track` (track, peer); `message` (value, peer); `progress` (incoming, peer); `room` (event):
    what a Client would receive; `ignored` (message, peer or user): a message in no known format, or
    a signal too many; `error` (exception). Without a handler for `track`, the media received are
    discarded.

    Raises TypeError or ValueError for an invalid option, and names it.
    """

    EVENTS = frozenset(
        ("peer", "hangup", "state", "track", "message", "progress", "room", "ignored", "error")
    )
    DONE = (MediaStreamError,)  # ends a handler that reads a track to its end

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
        own_servers = options.servers(ice_servers)
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
        self._servers = Servers(self.client, own_servers)
        self._tracks = Tracks()
        self._meeting = Meeting(self, self.client, lambda: bool(self._tracks or self.receive))
        self.peers = self._meeting.peers
        self._signals: deque[int] = deque(maxlen=RECENT)  # their ids
        self._stack = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def user(self) -> str:
        """This client's name in the room."""
        return self.client.user

    def __repr__(self) -> str:
        return f"<Call {self.user!r} with {list(self.peers)}>"

    # What is sent.

    def add_track(self, track: MediaStreamTrack) -> None:
        """Send a track to all peers, now and later.

        Raises TypeError if it is not one, ValueError if it is sent already.
        """
        self._tracks.add(track)
        for peer in self.peers.values():
            peer.add_track(self._tracks.copy(track))

    def remove_track(self, track: MediaStreamTrack) -> None:
        """Stop sending a track; raise ValueError if it was not being sent."""
        self._tracks.remove(track)
        for peer in self.peers.values():
            peer.remove_track(track.id)

    async def send(
        self, data: Any, to: str | None = None, *, on_progress: Progress | None = None
    ) -> None:
        """Send a string, bytes, a Blob or a JSON value, up to 256 MiB, to all peers or to one.

        Returns when they have received it or, for short strings and bytes, when it is on its way.
        `on_progress` is called with the bytes that one peer has received, and the total. Old
        clients, which have no data channel, are left out if `to` is None.

        With `to`, raises TransferError, or KeyError if there is no call with that user; without,
        TransfersFailed with a TransferError for each peer that failed. Raises TypeError or
        ValueError for a value that cannot be sent.
        """
        value = encode(data)
        if to is not None:
            peer = self.peers[to]
            if peer.call is None:
                raise TransferError("unsupported", to, "An old client has no data channel")
            await peer.send(value, on_progress)
            return
        peers = [peer for peer in self.peers.values() if peer.call is not None]
        await to_all([peer.send(value, on_progress) for peer in peers])

    # Its life.

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.finish, "hangup", PARTING)  # the seat is given up first
            stack.callback(self._tracks.stop)  # even if entering fails; `_end` does it sooner
            await stack.enter_async_context(self.client)
            stack.push_async_callback(self._end)
            self._task = asyncio.create_task(self._listen(), name=f"videre call {self.user}")
            self._renewing = asyncio.create_task(self._servers.keep_valid(self._failed_request))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _end(self) -> None:
        try:
            tasks = [each for each in (self._task, self._renewing) if each is not None]
            for task in tasks:
                task.cancel()  # both at once: this may be cancelled itself
            await asyncio.wait(tasks)
            await self._meeting.end()
        finally:
            self._tracks.stop()

    async def ended(self) -> None:
        """Wait until the seat is lost for good; raise the error that `Client.receive` raises."""
        if self._task is None:
            raise RuntimeError("Use `async with` first")
        await asyncio.shield(self._task)

    async def _listen(self) -> None:
        """Handle the room's events until the seat is lost."""
        try:
            while True:
                try:
                    event = await self.client.receive()
                except PeerError as error:
                    if self.client.is_end(error):
                        raise
                    if not self._is_late_signal(error):
                        super().emit("error", error)
                else:
                    self._hear(event)
        finally:
            await self._meeting.end()

    def _is_late_signal(self, error: PeerError) -> bool:
        """Tell whether a signal of ours was refused because its receiver has just left."""
        return isinstance(error, NoSuchUser) and error.packet_id in self._signals

    def _hear(self, event: Event) -> None:
        match event:
            case Joined(user):
                self._meeting.meet(user, event.header.get("Calls"))
            case Left(user):
                self._meeting.forget(user)
            case Message(user, payload):
                self._meeting.take(user, payload)
            case Resumed() | Rejoined():
                self._meeting.repair()
        super().emit("room", event)

    # What a Peer needs.

    def servers(self) -> list[RTCIceServer]:
        """Return the ICE servers that are valid now."""
        return self._servers.valid()

    def _failed_request(self, error: Exception) -> None:
        super().emit("error", error)

    def outgoing(self) -> list[MediaStreamTrack]:
        """Return a copy of each track to send."""
        return self._tracks.copies()

    def can_signal(self) -> bool:
        """Tell whether the server is connected, as far as is known."""
        return self.client.connected

    def has_left(self, user: str) -> bool:
        """Tell whether a user is no longer in the room, as far as is known."""
        return self.client.connected and user not in self.client.users

    async def signal_to(self, user: str, payload: dict[str, Any]) -> None:
        """Send a signal to one member."""
        write = wire.broadcast(self.user, self.client.room, payload, {"To": user})

        def make(identity: int) -> str:
            # Noted before it is sent: the call may end meanwhile, which cancels this.
            self._signals.append(identity)
            return write(identity)

        await self.client._broadcast(make, user)

    def emit(self, event: str, *args: Any) -> None:
        """Call the application's handlers of an event; see the class."""
        if event == "track" and not self.listens("track"):
            self._run("track", discard(args[0]))
        super().emit(event, *args)

    def ended_by(self, peer: Peer) -> None:
        """End the call with a peer that has hung up or failed."""
        if self.peers.get(peer.user) is peer:
            self._meeting.hang_up(peer.user)
