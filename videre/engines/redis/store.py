"""The store of a cluster: a Redis or Valkey server, seen as the few atomic steps that rooms take.

room.lua and nodes.lua are the steps. Everything of one room has one hash tag, so that a Redis
Cluster keeps it in one place; names are digests, since a room's name is a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import orjson
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from videre.errors import EngineError

logger = logging.getLogger("videre.engines")

# Seconds after which a command that was not answered has failed. The server answers within a
# millisecond; what takes longer is a network that is gone.
COMMAND_SECONDS = 3.0

# Connections for commands: each carries one at a time.
CONNECTIONS = 32

FOLDER = Path(__file__).parent

#: A message's line, which is described in room.lua, and its body.
Message = tuple[list[Any], str]

Heard = Callable[[str, Message], None]
Broken = Callable[[], None]


class Store(Protocol):
    """What the rooms of a cluster are kept in. Everything may raise EngineError."""

    async def open(self, heard: Heard, broken: Broken) -> None:
        """Connect. `heard` is called with a room and each message in its order; `broken` when
        messages may have been lost: rooms must be subscribed anew."""

    async def close(self) -> None:
        """Disconnect; nothing is heard any more."""

    async def step(self, room: str, op: str, *arguments: str) -> Any:
        """Take one of the atomic steps of room.lua."""

    async def subscribe(self, room: str) -> None:
        """Hear of a room. Returns when nothing more of it can be missed."""

    async def unsubscribe(self, room: str) -> None:
        """Hear of a room no more."""

    async def node(self, op: str, node: str, *arguments: str) -> Any:
        """Take one of the atomic steps of nodes.lua."""

    async def note(self, node: str, room: str) -> None:
        """Note that a node has, or is about to have, seats in a room."""

    async def unnote(self, node: str, room: str) -> None:
        """Note that a node has no seats in a room any more."""

    async def noted(self, node: str) -> list[str]:
        """Return the rooms in which a node may have seats."""

    async def rooms(self) -> list[str]:
        """Return the names of all rooms."""


def parse(message: str) -> Message:
    """Return the line and the body of a message."""
    line, _, body = message.partition("\n")
    return orjson.loads(line), body


class RedisStore:
    """A store on one server, behind Sentinels (`redis+sentinel://`), or on a cluster of them."""

    def __init__(self, url: str, namespace: str, *, keep_ms: int, keep_bytes: int | None) -> None:
        self._client = connect(url)
        self._space = f"videre:{_digest(namespace)}"
        self._keep = (str(keep_ms), "" if keep_bytes is None else str(keep_bytes))
        self._room_script = _Script(self._client, FOLDER / "room.lua")
        self._node_script = _Script(self._client, FOLDER / "nodes.lua")
        self._node_keys = [f"{self._space}:{{nodes}}:{each}" for each in ("leases", "condemned")]
        self._sharded = False
        self._pubsub: PubSub | None = None
        self._channels: dict[str, str] = {}  # channel -> room
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}  # for channels to be subscribed
        self._reader: asyncio.Task[None] | None = None
        self._heard: Heard
        self._broken: Broken

    async def open(self, heard: Heard, broken: Broken) -> None:
        """See Store.open."""
        self._heard, self._broken = heard, broken
        with _engine_errors():
            (known,) = await self._client.execute_command("COMMAND", "INFO", "SPUBLISH")
            self._sharded = bool(known)

    async def close(self) -> None:
        """See Store.close."""
        await self._end_reading()
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()

    # Steps.

    async def step(self, room: str, op: str, *arguments: str) -> Any:
        """See Store.step."""
        tag = self._tag(room)
        keys = [f"{tag}:{each}" for each in ("room", "seats", "meta", "order", "skips", "log")]
        publish = "SPUBLISH" if self._sharded else "PUBLISH"
        return await self._room_script(keys, (op, tag, publish, *self._keep, *arguments))

    async def node(self, op: str, node: str, *arguments: str) -> Any:
        """See Store.node."""
        return await self._node_script(self._node_keys, (op, node, *arguments))

    async def note(self, node: str, room: str) -> None:
        """See Store.note."""
        with _engine_errors():
            await self._client.sadd(self._noted(node), room)

    async def unnote(self, node: str, room: str) -> None:
        """See Store.unnote."""
        with _engine_errors():
            await self._client.srem(self._noted(node), room)

    async def noted(self, node: str) -> list[str]:
        """See Store.noted."""
        with _engine_errors():
            return sorted(await self._client.smembers(self._noted(node)))

    async def rooms(self) -> list[str]:
        """See Store.rooms."""
        with _engine_errors():
            keys = [key async for key in self._client.scan_iter(f"{self._space}:{{*:room", 1000)]
            names = await asyncio.gather(*(self._client.hget(key, "name") for key in keys))
        return [name for name in names if name is not None]

    def _tag(self, room: str) -> str:
        return f"{self._space}:{{{_digest(room)}}}"

    def _noted(self, node: str) -> str:
        return f"{self._space}:node:{node}"

    # Messages.

    async def subscribe(self, room: str) -> None:
        """See Store.subscribe."""
        channel = self._tag(room)
        confirmed = asyncio.get_running_loop().create_future()
        self._channels[channel] = room
        self._waiting.setdefault(channel, []).append(confirmed)
        with _engine_errors():
            if self._pubsub is None:
                self._pubsub = self._client.pubsub()
            await (self._pubsub.ssubscribe if self._sharded else self._pubsub.subscribe)(channel)
            if self._reader is None:
                self._reader = asyncio.create_task(self._read(self._pubsub))
            async with asyncio.timeout(COMMAND_SECONDS):
                await confirmed

    async def unsubscribe(self, room: str) -> None:
        """See Store.unsubscribe."""
        channel = self._tag(room)
        self._channels.pop(channel, None)
        if (pubsub := self._pubsub) is not None:
            with _engine_errors():
                await (pubsub.sunsubscribe if self._sharded else pubsub.unsubscribe)(channel)

    async def _read(self, pubsub: PubSub) -> None:
        """Hand over what comes, until the connection is lost."""
        try:
            while True:
                found = await pubsub.get_message(timeout=COMMAND_SECONDS)
                if found is None:  # nothing was said: is there anybody?
                    await pubsub.ping()
                    found = await pubsub.get_message(timeout=COMMAND_SECONDS)
                    if found is None:
                        raise ConnectionError("nothing is heard")
                self._take(found)
        except (RedisError, OSError, RuntimeError) as error:
            logger.warning("the store's messages are lost: %s", error)
        self._reader = None
        await self._end_reading()
        self._broken()

    def _take(self, found: dict[str, Any]) -> None:
        channel = found["channel"]
        if found["type"] in ("message", "smessage"):
            room = self._channels.get(channel)
            if room is not None:
                self._heard(room, parse(found["data"]))
        elif found["type"] in ("subscribe", "ssubscribe"):
            for waiting in self._waiting.pop(channel, ()):
                if not waiting.done():
                    waiting.set_result(None)

    async def _end_reading(self) -> None:
        reader, self._reader = self._reader, None
        pubsub, self._pubsub = self._pubsub, None
        if reader is not None:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
        for waiting in self._waiting.values():
            for each in waiting:
                each.cancel()
        self._waiting.clear()
        self._channels.clear()
        if pubsub is not None:
            with contextlib.suppress(RedisError, OSError, RuntimeError):
                await pubsub.aclose()  # type: ignore[no-untyped-call]


class _Script:
    """A script that the server may have forgotten."""

    def __init__(self, client: Any, path: Path) -> None:
        self._client = client
        self._text = path.read_text()
        self._sha = hashlib.sha1(self._text.encode()).hexdigest()  # noqa: S324  # what EVALSHA wants

    async def __call__(self, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        with _engine_errors():
            try:
                return await self._client.evalsha(self._sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return await self._client.eval(self._text, len(keys), *keys, *arguments)


@contextlib.contextmanager
def _engine_errors() -> Any:
    """Turn what can go wrong with a server into EngineError."""
    try:
        yield
    except ResponseError as error:
        logger.error("the store refuses: %s", error)
        raise EngineError("The store refuses") from error
    except (RedisError, OSError, TimeoutError, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        raise EngineError("The store cannot be reached") from error


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def connect(url: str) -> Any:
    """Return a client for a URL; raises ValueError for one that is none."""
    parts = urlsplit(url)
    settings: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": COMMAND_SECONDS,
        "socket_connect_timeout": COMMAND_SECONDS,
        "max_connections": CONNECTIONS,
    }
    # Whoever asks is told at once; asking again is the engine's.
    once = Retry(NoBackoff(), 0)
    if parts.scheme in ("redis+cluster", "rediss+cluster"):
        plain = urlunsplit(parts._replace(scheme=parts.scheme.partition("+")[0]))
        return RedisCluster.from_url(plain, **settings)
    if parts.scheme == "redis+sentinel":
        sentinels = [_host_port(each) for each in parts.netloc.rpartition("@")[2].split(",")]
        service = parts.path.strip("/") or "mymaster"
        sentinel = Sentinel(sentinels, socket_timeout=COMMAND_SECONDS)  # type: ignore[no-untyped-call]
        return sentinel.master_for(
            service, password=parts.password, username=parts.username, retry=once, **settings
        )
    pool = BlockingConnectionPool.from_url(url, retry=once, timeout=COMMAND_SECONDS, **settings)
    return Redis.from_pool(pool)


def _host_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
