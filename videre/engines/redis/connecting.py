"""Clients for the URL of a store: one server, one that Sentinels name, or a cluster."""

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

from videre.engine_url import EngineURL

# Seconds after which a command that was not answered has failed. The server answers within a
# millisecond; what takes longer is a network that is gone. With a small NodeTimeout it is less, see
# command_seconds.
COMMAND_SECONDS = 3.0

# Commands that run at a time, each on a connection of its own; one more hears the messages, one
# lists rooms, and some may still be closing.
CONNECTIONS = 32
SPARE_CONNECTIONS = 32


def command_seconds(node_timeout: float) -> float:
    """Return after how many seconds a command has failed, for a NodeTimeout in seconds.

    A node renews its lease every quarter of it. It must find out that a renewal was lost, and make
    up for it, before the others give it up.
    """
    return min(COMMAND_SECONDS, node_timeout / 3)


def connect(
    url: EngineURL, server: tuple[str, int] | None = None, *, timeout: float = COMMAND_SECONDS
) -> Any:
    """Return a client for a URL, or for one server of a cluster: its host and port.

    `timeout` is in seconds: for a connection to be made, and for each answer.
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
    """Return the clients for Sentinels that a client has."""
    pool = getattr(client, "connection_pool", None)
    return list(pool.sentinel_manager.sentinels) if isinstance(pool, SentinelConnectionPool) else []


def _settings(timeout: float) -> dict[str, Any]:
    return {
        "decode_responses": True,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "max_connections": CONNECTIONS + SPARE_CONNECTIONS,
        # Who asks is told at once, and may ask again: a step must not be taken twice.
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
    """Logs in where the other side asks for it, and says nothing of it elsewhere.

    Sentinels mostly have the server's login, or none; one without would refuse any.
    """

    username: str | None
    password: str | None

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Greet the other side: without a login at first."""
        greet = super().on_connect_check_health  # type: ignore[misc]
        login = self.username, self.password
        self.username = self.password = None
        try:
            await greet(check_health=check_health)
        except AuthenticationError:
            self.username, self.password = login
            await greet(check_health=check_health)
        finally:
            self.username, self.password = login


class _Asked(_AskedLogin, Connection):
    pass


class _AskedTLS(_AskedLogin, SSLConnection):
    pass
