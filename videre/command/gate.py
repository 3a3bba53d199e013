"""Limits the TCP connections of a process, in all and per address, from accept to close.

The transport limits sessions (`MaxConnections`); the gate limits all connections, even silent
ones, because each holds a descriptor. As descriptors run out, it closes idle connections sooner.
When hardly any descriptors are left, it closes idle connections at once, and begins with those of
the addresses that hold most.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Protocol

from videre.config import Config
from videre.logs import EventLog
from videre.transport.clients import Proxies, owner
from videre.transport.holdings import Holdings

# Seconds that an idle connection may stay open (see KeepAlive) when no descriptor is left: longer
# than a round trip and a TLS handshake.
LEAST_KEEP_ALIVE = 3.0
# Shares of the connection limit: above BUSY, idle connections close sooner; above FULL, those of
# the heaviest addresses close at once, until RELIEVED is reached.
BUSY, FULL, RELIEVED = 0.5, 0.9, 0.8
# Connections allowed per address for each session it may have: a polling browser opens up to six.
# The minimum is for pages that load the demo without a session.
FOR_A_SESSION, LEAST_FOR_AN_ADDRESS = 6, 32
# Descriptors reserved for other uses: the engine, the admin port, logs, the event loop.
RESERVED = 200
SWEEP = 1.0  # seconds
SWEPT_AT_ONCE = 2000  # connections
LOG = 60.0  # seconds between two log lines about refusals

#: Why a connection was refused or dropped: too many in all; too many from its address; no
#: descriptor left; idle when descriptors ran out; or no PROXY protocol at its start.
REFUSALS = ("sockets", "sockets-per-address", "descriptors", "idle", "proxy-protocol")


def raise_file_limit() -> int | None:
    """Raise the soft limit of open files to the hard limit, and return it; None for no limit.

    Node and Go do the same: the soft limit, usually 1024, is for programs that use select(2).
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # above the kernel's limit per process
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def most_sockets(config: Config, files: int | None) -> int | None:
    """Return the limit of connections: MaxSockets, or less if `files` allows fewer."""
    if files is None:
        return config.max_sockets
    allowed = files - min(RESERVED, files // 4)
    return allowed if config.max_sockets is None else min(allowed, config.max_sockets)


class Kept(Protocol):
    """A connection that the gate tracks; `address` is what it counts against."""

    address: str

    @property
    def idle_since(self) -> float:
        """When it became idle, by the loop's clock; infinity if it is not idle."""

    def force_close(self) -> None:
        """Close it at once."""


class Gate:
    """Admits connections, and closes idle ones under pressure."""

    def __init__(self, config: Config, log: EventLog, files: int | None) -> None:
        self._log = log
        self._files = files
        self._connections: set[Kept] = set()
        self._addresses: Counter[str] = Counter()
        self.open = 0  # includes connections in their TLS handshake, which _connections lacks
        self.refused: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        self._told: Counter[str] = Counter()
        self._telling: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._longest = config.keep_alive
        self._proxy_protocol = config.proxy_protocol
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Apply the reloadable settings of a configuration to new connections."""
        self.most = most_sockets(config, self._files)
        self._proxies = Proxies(config.transport.trusted_proxies)
        self._per_address = config.max_sockets_per_address
        sessions = config.transport.max_connections_per_address
        if self._per_address is None and sessions:
            self._per_address = max(LEAST_FOR_AN_ADDRESS, FOR_A_SESSION * sessions)

    def admit(self, address: str) -> str | None:
        """Count a connection; return the address (or network) it counts against.

        Returns None if the connection is refused. Call `leave` once for each admitted connection.
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
        """Tell whether connections from this address must begin with the PROXY protocol."""
        return self._proxy_protocol and self._proxies.trusts(address)

    def _exempt(self, address: str) -> bool:
        return not address or self._proxies.trusts(address)

    def leave(self, payer: str) -> None:
        """Uncount an admitted connection."""
        self.open -= 1
        self._addresses[payer] -= 1
        if not self._addresses[payer]:
            del self._addresses[payer]

    def add(self, connection: Kept) -> None:
        """Track a connection that is ready for requests."""
        self._connections.add(connection)

    def remove(self, connection: Kept) -> None:
        """Stop tracking a connection."""
        self._connections.discard(connection)

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count refused or dropped connections; log the first at once, the rest once a minute."""
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
        """Close idle connections while there are too many connections."""
        while self.most is not None and self.open > BUSY * self.most:
            dropped = await self._drop_idle(self.keep_alive)
            if self.open > FULL * self.most:
                dropped += await self._make_room(self.open - int(RELIEVED * self.most))
            if dropped:
                self.refuse("idle", dropped)
            await asyncio.sleep(SWEEP)
        self._sweeper = None

    @property
    def keep_alive(self) -> float:
        """Seconds that an idle connection may currently stay open."""
        if self.most is None:
            return self._longest
        pressure = (self.open / self.most - BUSY) / (FULL - BUSY)
        return max(LEAST_KEEP_ALIVE, min(1.0, 1.0 - pressure) * self._longest)

    async def _drop_idle(self, seconds: float) -> int:
        dropped, since = 0, asyncio.get_running_loop().time() - seconds
        async for connection in self._idle(since):
            dropped += 1
            connection.force_close()
        return dropped

    async def _make_room(self, excess: int) -> int:
        """Close up to `excess` idle connections, those of the heaviest addresses first."""
        idle: Holdings[Kept] = Holdings()
        now = asyncio.get_running_loop().time()
        async for connection in self._idle(now):
            idle.add(connection, 1)
        dropped = 0
        for number, connection in enumerate(idle.heaviest(excess), 1):
            if connection.idle_since <= now:  # still
                dropped += 1
                connection.force_close()
            if number % SWEPT_AT_ONCE == 0:
                await asyncio.sleep(0)
        return dropped

    async def _idle(self, since: float) -> AsyncIterator[Kept]:
        """Yield the connections idle since then; pause after every SWEPT_AT_ONCE."""
        for number, connection in enumerate(list(self._connections), 1):
            if connection.idle_since <= since:
                yield connection
            if number % SWEPT_AT_ONCE == 0:
                await asyncio.sleep(0)

    def close(self) -> None:
        """Stop sweeping, and log the refusals not logged yet."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._telling is not None:
            self._telling.cancel()
            self._tell()
        if self._telling is not None:
            self._telling.cancel()
