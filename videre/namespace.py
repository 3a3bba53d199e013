"""A namespace: what one prefix serves, how it reloads, and how it drains."""

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
from videre.ids import UserId
from videre.logs import EventLog, Journal
from videre.packets import Decoder
from videre.peers.context import Context
from videre.peers.peer import Peer
from videre.rooms import Rooms
from videre.rooms.lost import LostSeats
from videre.settings import JoinPolicy, Limits, Options
from videre.tally import Lag, Tally

# When clients are asked to reconnect, as shares of the drain: late enough for a load balancer to
# notice the drain, and early enough that nobody is cut off at its end.
EARLIEST, LATEST = 0.2, 0.8

# `goaway` packets to send before yielding to the event loop.
TOLD_AT_ONCE = 200

# Peers to give the reloaded limits before yielding to the event loop: about 2 ms.
REFRESHED_AT_ONCE = 500

# The transport options that SIGHUP changes.
RELOADED_OPTIONS = [field.name for field, known in settings.of(Options).values() if known.reloaded]


@dataclasses.dataclass
class IceOffer:
    """The ICE servers and limits that members receive; a reload changes both."""

    servers: IceServers
    limits: Limits

    def __call__(self, user: UserId) -> dict[str, object]:
        """Return the answer to a user's `ice`: `IceServers` and `IceTtl`."""
        return self.servers.offer(user, time.time())

    def welcome(self, user: UserId) -> dict[str, object]:
        """Return the same for a welcome, plus the rate limits, so that clients pace themselves."""
        return {**self(user), "Limits": self.limits.told()}


def join_policy(config: Config) -> JoinPolicy:
    """Return the rules for joins: duplicate user ids, room capacity, number of rooms."""
    return JoinPolicy(
        replace=config.duplicate == "replace",
        capacity=config.limits.room_capacity,
        max_rooms=config.limits.max_rooms,
    )


def limit_lost_seats(lost: LostSeats, config: Config) -> None:
    """Allow as many lost seats as connections, in all and per address.

    If connections per address have no limit, MaxLostSeatsPerAddress applies.
    """
    options = config.transport
    lost.in_all = options.max_connections or None
    lost.per_address = (
        options.max_connections_per_address or config.limits.max_lost_seats_per_address
    )


@dataclasses.dataclass(frozen=True)
class Namespace:
    """What one prefix serves. Namespaces share no rooms.

    The namespaces of one application share `lag`, sampled from its event loop, and `journal`.
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
        """Whether it accepts clients: the engine is reachable and the namespace is not draining."""
        return self.rooms.ready and not self.sessions.admission.closing

    def _peers(self) -> Iterator[Peer]:
        for handler in self.sessions.handlers():
            if isinstance(handler, Peer):
                yield handler

    def reload(self, config: Config) -> None:
        """Apply the reloadable settings of a namespace (see schema.RELOADED).

        Clients stay connected with the tokens they came with. With many sessions, the first are
        updated at once and the others over the next turns of the event loop.
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
        """Refuse new sessions with 503 and ask clients to leave; return when all have gone.

        A `goaway` tells each client when to connect elsewhere; the server serves it until
        then. After `seconds`, it closes the remaining sessions with 4005, and keeps their seats for
        the grace.
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
    """Give the next REFRESHED_AT_ONCE peers the new settings; return False if there were fewer."""
    some = list(itertools.islice(peers, REFRESHED_AT_ONCE))
    for peer in some:
        peer.refresh()
    return len(some) == REFRESHED_AT_ONCE


async def _refresh_rest(peers: Iterator[Peer]) -> None:
    more = True
    while more:
        await asyncio.sleep(0)
        more = _refresh(peers)
