"""How many connections one process may have, and each address of it: counted from accept to end.

A session is counted by the transport (`MaxConnections`); here every connection is, also one that
never says a word, since each holds a descriptor. As descriptors run out, connections that wait for
a request are kept for a shorter time; when there are hardly any left, those of whom holds most go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Protocol

from videre.config import Config
from videre.logs import EventLog
from videre.transport.clients import Proxies, owner
from videre.transport.holdings import Holdings

# Seconds that a connection without a request may stay open (see KeepAlive) where no descriptor is
# left: more than a round trip, and a TLS handshake.
LEAST_KEEP_ALIVE = 3.0
# The shares of the connections that may be had from which they are kept for a shorter time, from
# which who holds most pays, and to which it does.
BUSY, FULL, RELIEVED = 0.5, 0.9, 0.8
# Connections that one address may have for each session that it may: a browser that polls has up
# to six, and a page that only loads the demo has them without a session.
FOR_A_SESSION, LEAST_FOR_AN_ADDRESS = 6, 32
# Descriptors that are no connections of clients: the engine's, the admin port's, logs, the loop.
RESERVED = 200
SWEEP = 1.0  # seconds
SWEPT_AT_ONCE = 2000  # connections
LOG = 60.0  # seconds between two lines about what was refused

#: Why a connection is refused, or dropped: there are too many; or too many of its address; no
#: descriptor is left; it was idle when they ran out; or it
#: began without the PROXY protocol.
REFUSALS = ("sockets", "sockets-per-address", "descriptors", "idle", "proxy-protocol")


def raise_file_limit() -> int | None:
    """Raise the soft limit of open files to the hard one, and return it; None for no limit.

    As Node and Go do: the soft one, of 1024 mostly, is for programs that use select(2).
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # more than the kernel allows any process
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def most_sockets(config: Config, files: int | None) -> int | None:
    """Return how many connections there may be: MaxSockets, as far as `files` allow."""
    if files is None:
        return config.max_sockets
    allowed = files - min(RESERVED, files // 4)
    return allowed if config.max_sockets is None else min(allowed, config.max_sockets)


class Kept(Protocol):
    """A connection that the gate looks after, of an address that is counted."""

    address: str

    @property
    def idle_since(self) -> float:
        """When it began to wait for a request, by the loop's clock; infinity if it does not."""

    def force_close(self) -> None:
        """End it at once."""


class Gate:
    """Admits connections, and lets go of idle ones when it has to."""

    def __init__(self, config: Config, log: EventLog, files: int | None) -> None:
        self._log = log
        self._files = files
        self._connections: set[Kept] = set()
        self._addresses: Counter[str] = Counter()
        self.open = 0  # those whose handshake goes on are in neither of the above
        self.refused: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        self._told: Counter[str] = Counter()
        self._telling: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Go by another configuration: for connections from now on."""
        self.most = most_sockets(config, self._files)
        self._longest = config.keep_alive
        self._proxy_protocol = config.proxy_protocol
        self._proxies = Proxies(config.transport.trusted_proxies)
        self._per_address = config.max_sockets_per_address
        sessions = config.transport.max_connections_per_address
        if self._per_address is None and sessions:
            self._per_address = max(LEAST_FOR_AN_ADDRESS, FOR_A_SESSION * sessions)

    def admit(self, address: str) -> str | None:
        """Count a connection from an address, and return what it is counted for.

        Returns None where it is refused. `leave` must be called once for each that was admitted.
        """
        if self.most is not None and self.open >= self.most:
            self.refuse("sockets")
            return None
        payer = owner(address)
        limit = self._per_address
        if limit is not None and self._addresses[payer] >= limit and not self._exempt(address):
            self.refuse("sockets-per-address")
            return None
        self._addresses[payer] += 1
        self.open += 1
        if self.most is not None and self.open > BUSY * self.most and self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        return payer

    def speaks_proxy_protocol(self, address: str) -> bool:
        """Tell whether a connection from an address begins with the PROXY protocol."""
        return self._proxy_protocol and self._proxies.trusts(address)

    def _exempt(self, address: str) -> bool:
        return not address or self._proxies.trusts(address)

    def leave(self, payer: str) -> None:
        """Count a connection that was admitted no more."""
        self.open -= 1
        self._addresses[payer] -= 1
        if not self._addresses[payer]:
            del self._addresses[payer]

    def add(self, connection: Kept) -> None:
        """Look after a connection: it is ready for requests."""
        self._connections.add(connection)

    def remove(self, connection: Kept) -> None:
        """Look after a connection no more."""
        self._connections.discard(connection)

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count what was refused or dropped; the log says so at once, then once a minute."""
        self.refused[reason] += count
        if self._telling is None:
            self._tell()

    def _tell(self) -> None:
        fresh = self.refused - self._told
        self._told = self.refused.copy()
        self._telling = None
        if fresh:
            counts = {reason.replace("-", "_"): count for reason, count in fresh.items()}
            self._log("sockets-refused", open=self.open, most=self.most, **counts)
            self._telling = asyncio.get_running_loop().call_later(LOG, self._tell)

    async def _sweep(self) -> None:
        """Let go of idle connections for as long as there are many."""
        while self.most is not None and self.open > BUSY * self.most:
            dropped = await self._drop_idle(self.keep_alive)
            if self.open > FULL * self.most:
                dropped += self._make_room(self.open - int(RELIEVED * self.most))
            if dropped:
                self.refuse("idle", dropped)
            await asyncio.sleep(SWEEP)
        self._sweeper = None

    @property
    def keep_alive(self) -> float:
        """Seconds for which an idle connection is kept, now."""
        if self.most is None:
            return self._longest
        pressure = (self.open / self.most - BUSY) / (FULL - BUSY)
        return max(LEAST_KEEP_ALIVE, min(1.0, 1.0 - pressure) * self._longest)

    async def _drop_idle(self, seconds: float) -> int:
        dropped, since = 0, asyncio.get_running_loop().time() - seconds
        for number, connection in enumerate(list(self._connections), 1):
            if connection.idle_since <= since:
                dropped += 1
                connection.force_close()
            if number % SWEPT_AT_ONCE == 0:
                await asyncio.sleep(0)
        return dropped

    def _make_room(self, excess: int) -> int:
        """Drop so many idle connections, if there are any: of the address that has most first."""
        idle: Holdings[Kept] = Holdings()
        for connection in self._connections:
            if connection.idle_since < float("inf"):
                idle.add(connection, 1)
        paying = idle.heaviest(excess)
        for connection in paying:
            connection.force_close()
        return len(paying)

    def close(self) -> None:
        """Stop looking after connections, and say what has not been said."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._telling is not None:
            self._telling.cancel()
            self._tell()
        if self._telling is not None:
            self._telling.cancel()
