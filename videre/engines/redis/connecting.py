"""Clients for a store's URL: one server, a server behind Sentinels, or a cluster."""

from __future__ import annotations

from typing import Any

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    Redis,
    RedisCluster,
    Sentinel,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError
from redis.maint_notifications import MaintNotificationsConfig

from videre.engine_url import EngineURL

# Seconds after which an unanswered command fails. A server answers within a millisecond; if it
# takes longer, the network is gone. A small NodeTimeout shortens it, see command_seconds.
COMMAND_SECONDS = 3.0

# Most connections of redis-py's own to a server, for rare operations: the checks at the start,
# notes, the list of rooms. At most three are in use at once; some may still be closing.
CONNECTIONS = 8


def command_seconds(node_timeout: float) -> float:
    """Return after how many seconds a command fails, for a NodeTimeout in seconds.

    A node renews its lease every quarter of NodeTimeout. It must notice a lost renewal, and repeat
    it, before the others give it up.
    """
    return min(COMMAND_SECONDS, node_timeout / 3)


def connect(
    url: EngineURL, server: tuple[str, int] | None = None, *, timeout: float = COMMAND_SECONDS
) -> Any:
    """Return a client for a URL, or for one server of a cluster (its host and port).

    `timeout` is in seconds, for connecting and for each answer.
    """
    if server is None and url.kind == "sentinel":
        return _behind_sentinels(url, timeout)
    if server is None and url.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in url.servers]
        tls = {"ssl": True, **url.ssl} if url.tls else {}
        return RedisCluster(startup_nodes=nodes, **_login(url), **tls, **_settings(timeout))
    if url.kind == "unix":
        place: dict[str, Any] = {
            "connection_class": UnixDomainSocketConnection,
            "path": url.path,
        }
    else:
        place = _place(*(server or url.servers[0]), tls=url.ssl if url.tls else None)
    pool = BlockingConnectionPool(
        timeout=timeout, db=url.database, **place, **_login(url), **_settings(timeout)
    )
    return Redis.from_pool(pool)


def sentinels_of(client: Any) -> list[Any]:
    """Return the clients for Sentinels that a client uses."""
    pool = getattr(client, "connection_pool", None)
    return list(pool.sentinel_manager.sentinels) if isinstance(pool, SentinelConnectionPool) else []


def _settings(timeout: float) -> dict[str, Any]:
    return {
        "decode_responses": True,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "max_connections": CONNECTIONS,
        # Notices of Redis Enterprise. With them redis-py 8.1 does not check whether a pooled
        # connection is still open: after a restart of the server, each one costs a failed command.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        # No retries: callers get the error at once and decide, since no step may be taken twice.
        "retry": Retry(NoBackoff(), 0),
    }


def _login(url: EngineURL) -> dict[str, Any]:
    return {"username": url.username, "password": url.password}


def _place(host: str, port: int, *, tls: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = {"host": host, "port": port, "connection_class": Connection}
    return found if tls is None else found | {"connection_class": SSLConnection, **tls}


def _behind_sentinels(url: EngineURL, timeout: float) -> Any:
    sentinel = Sentinel([], **_settings(timeout))  # type: ignore[no-untyped-call]
    sentinel.sentinels = [_sentinel(url, *each, timeout=timeout) for each in url.servers]
    tls = {"ssl": True, **url.ssl} if url.tls else {}
    return sentinel.master_for(url.service, db=url.database, **_login(url), **tls)


def _sentinel(url: EngineURL, host: str, port: int, *, timeout: float) -> Any:
    """Return a client for one of the Sentinels."""
    place = _place(host, port, tls=url.ssl if url.sentinel_tls else None)
    if url.sentinel_login is not None:
        place |= dict(zip(("username", "password"), url.sentinel_login, strict=True))
    elif url.password is not None:
        place |= _login(url)
        place["connection_class"] = _AskedTLS if url.sentinel_tls else _Asked
    return Redis.from_pool(ConnectionPool(**place, **_settings(timeout)))


class _AskedLogin:
    """Logs in only if the other side asks for it.

    Most Sentinels have the server's login, or none; one without any would refuse a login.
    """

    username: str | None
    password: str | None
    is_asked = False

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Greet the other side, at first without a login."""
        greet = super().on_connect_check_health  # type: ignore[misc]
        if self.is_asked:
            await greet(check_health=check_health)
            return
        login = self.username, self.password
        self.username = self.password = None
        try:
            await greet(check_health=check_health)
        except AuthenticationError:
            self.is_asked = True
        finally:
            self.username, self.password = login
        if self.is_asked:  # redis-py has closed the connection; the next one logs in at once
            await self.disconnect()  # type: ignore[attr-defined]
            await self.connect_check_health(check_health=check_health)  # type: ignore[attr-defined]


class _Asked(_AskedLogin, Connection):
    pass


class _AskedTLS(_AskedLogin, SSLConnection):
    pass
