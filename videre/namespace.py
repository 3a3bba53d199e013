"""A namespace: what is served below one prefix, how it is set anew, and how it drains."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import time
from collections.abc import Iterator

from videre import settings, transport
from videre.config import Config
from videre.errors import CloseCode
from videre.ice import IceServers
from videre.logs import EventLog, Journal
from videre.packets import Decoder
from videre.peers.context import Context
from videre.peers.peer import Peer
from videre.rooms import Rooms
from videre.rooms.lost import LostSeats
from videre.settings import JoinPolicy, Limits, Options
from videre.tally import Lag, Tally

# When clients are asked to come back, as shares of the drain: not before a load balancer has found
# out, and all of them before the end, so that nobody is cut off.
EARLIEST, LATEST = 0.2, 0.8

# Clients that are told to go away before others are served again.
TOLD_AT_ONCE = 200

# Peers that go by other limits before others are served again: some 2 ms.
REFRESHED_AT_ONCE = 500

# Fields of the transport's options that SIGHUP changes.
RELOADED_OPTIONS = [field.name for field, known in settings.of(Options).values() if known.reloaded]


@dataclasses.dataclass
class IceOffer:
    """What a member is told of STUN and TURN, and of the limits; both may be set anew."""

    servers: IceServers
    limits: Limits

    def __call__(self, user: str) -> dict[str, object]:
        """Return the members of an answer to `ice`, for a user."""
        return self.servers.offer(user, time.time())

    def welcome(self, user: str) -> dict[str, object]:
        """Return what a welcome says beside that: the rates, for clients to pace themselves."""
        return {**self(user), "Limits": self.limits.told()}


def join_policy(config: Config) -> JoinPolicy:
    """Return who may join which room."""
    return JoinPolicy(
        replace=config.duplicate == "replace",
        capacity=config.limits.room_capacity,
        max_rooms=config.limits.max_rooms,
    )


def limit_lost_seats(lost: LostSeats, config: Config) -> None:
    """Have as many lost seats as there may be connections, in all and of an address."""
    options = config.transport
    lost.in_all = options.max_connections or None
    lost.per_address = (
        options.max_connections_per_address or config.limits.max_lost_seats_per_address
    )


@dataclasses.dataclass(frozen=True)
class Namespace:
    """What is served below one prefix; it shares no room with any other.

    `lag` is that of the application's event loop, and `journal` what it logs to: namespaces of one
    application share them.
    """

    prefix: str
    rooms: Rooms
    sessions: transport.Manager
    context: Context
    ice: IceOffer
    log: EventLog
    tally: Tally
    lag: Lag
    journal: Journal

    @property
    def ready(self) -> bool:
        """Whether clients can be taken: the engine is there, and the namespace does not drain."""
        return self.rooms.ready and not self.sessions.admission.closing

    def _peers(self) -> Iterator[Peer]:
        for handler in self.sessions.handlers():
            if isinstance(handler, Peer):
                yield handler

    def reload(self, config: Config) -> None:
        """Go by another configuration, as far as it concerns a namespace and may change.

        Who is connected stays, with the token it came with. Of many sessions the first go by it at
        once, the others within some turns of the event loop. See schema.RELOADED.
        """
        context = self.context
        grace, max_resume_bytes = context.limits.grace, context.limits.max_resume_bytes
        context.limits = dataclasses.replace(
            config.limits, grace=grace, max_resume_bytes=max_resume_bytes
        )
        context.decoder = Decoder(config.max_packet_bytes)
        context.auth = config.auth
        context.leeway = config.leeway
        context.trace = self.log.trace
        self.ice.servers, self.ice.limits = config.ice, config.limits
        self.rooms.policy = join_policy(config)
        limit_lost_seats(self.rooms.lost, config)
        changed = {name: getattr(config.transport, name) for name in RELOADED_OPTIONS}
        self.sessions.configure(dataclasses.replace(self.sessions.options, **changed))
        peers = self._peers()
        if _refresh(peers):
            self.sessions.shared.jobs.spawn(_refresh_rest(peers))

    async def drain(self, seconds: float) -> None:
        """Take no new session, and send those that are there away, as gently as can be.

        New ones are refused with 503. Each client is told (`goaway`) when to connect elsewhere, and
        is served as before until it does. Returns when all have gone; those that are still there
        after so many seconds are closed with 4005, their seats kept for their grace.
        """
        end = asyncio.get_running_loop().time() + seconds
        self.sessions.admission.close(seconds)
        for number, peer in enumerate(self._peers(), 1):
            peer.go_away(random.uniform(EARLIEST, LATEST) * seconds)  # noqa: S311  # no secret
            if number % TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)
        await self.sessions.drained(end - asyncio.get_running_loop().time())
        await self.sessions.shutdown(CloseCode.DRAINING, CloseCode.DRAINING.reason)


def _refresh(peers: Iterator[Peer]) -> bool:
    """Have the next peers go by what the context says now; tell whether there were enough."""
    some = list(itertools.islice(peers, REFRESHED_AT_ONCE))
    for peer in some:
        peer.refresh()
    return len(some) == REFRESHED_AT_ONCE


async def _refresh_rest(peers: Iterator[Peer]) -> None:
    more = True
    while more:
        await asyncio.sleep(0)
        more = _refresh(peers)
