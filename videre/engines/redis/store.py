"""The store of a cluster: a Redis or Valkey server, seen as a few atomic steps.

room.lua and nodes.lua implement the steps. All keys of one room share a hash tag, so that a Redis
Cluster keeps them on one shard; they contain digests, because a room's name is a secret.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import orjson
from redis.asyncio import RedisCluster

from videre import engine_url
from videre.engine_url import without_secrets
from videre.engines.redis import permissions
from videre.engines.redis.channels import Channels
from videre.engines.redis.connecting import COMMAND_SECONDS
from videre.engines.redis.faults import engine_errors
from videre.engines.redis.outage import StoreFull
from videre.engines.redis.servers import Script, Servers
from videre.ids import RoomId

# Rooms to query in one pipeline: one turn of the loop, a few ms.
LISTED_AT_ONCE = 100

# Rooms whose keys are cached, so that a packet need not compute them: 1 MB.
KEYS_KEPT = 4096

# The policy under which a full server refuses writes and evicts nothing.
SAFE_POLICY = "noeviction"

FOLDER = Path(__file__).parent

#: The format of what the scripts store and publish. Nodes of another format share nothing with
#: ours, and take no part while one of ours lives (nodes.lua). Raise it with any change that they
#: would not understand. The first format had no number.
FORMAT = "3"

#: A message's line, which room.lua describes, and its body.
Message = tuple[list[Any], str]

Heard = Callable[[RoomId, Message], None]
Broken = Callable[[], None]


# A room's keys in the store; room.lua describes them.
KEYS = ("room", "order", "log")


def parse(message: str) -> Message:
    """Split a message into its line and body."""
    line, _, body = message.partition("\n")
    return orjson.loads(line), body


class RedisStore:
    """A store on one server, behind Sentinels (`redis+sentinel://`), or on a cluster.

    Every method may raise EngineError. `where` is the address, without secrets. `timeout` is how
    many seconds a command waits for a connection, and again for its answer. Steps and messages have
    connections of their own, see Calls and Channels; rare operations use redis-py.
    """

    def __init__(
        self,
        url: str,
        namespace: str,
        *,
        keep_ms: int,
        keep_bytes: int | None,
        timeout: float = COMMAND_SECONDS,
    ) -> None:
        self._timeout = timeout
        self.where = without_secrets(url)
        self._servers = Servers(engine_url.read(url), timeout)
        self._client = self._servers.client
        self.format = FORMAT
        self._space = f"videre:{FORMAT}:{_digest(namespace)}"
        self._format = f"videre:{_digest(namespace)}:{{nodes}}:leases"  # the first format's leases
        self._keep = (str(keep_ms), "" if keep_bytes is None else str(keep_bytes))
        self._keys_of = functools.lru_cache(KEYS_KEPT)(self._find_keys)
        self._listing = asyncio.Lock()  # so that listing rooms takes one connection at most
        self._room_script = Script(self._servers, FOLDER / "room.lua")
        self._node_script = Script(self._servers, FOLDER / "nodes.lua")
        self._nodes = f"{self._space}:{{nodes}}"
        self._sharded, self._publish = False, "PUBLISH"
        self._rooms: dict[str, RoomId] = {}  # by channel
        self._channels = Channels(take=self._take, broken=self._lose, timeout=timeout)
        self._heard: Heard
        self._broken: Broken

    async def open(self, heard: Heard, broken: Broken) -> None:
        """Connect, and check the permissions that a node needs.

        `heard` is called with a room and each of its messages, in order; `broken` when messages may
        have been lost, and rooms must be subscribed again.
        """
        self._heard, self._broken = heard, broken
        with engine_errors():
            await self._servers.read_map()
            (known,) = await self._client.execute_command("COMMAND", "INFO", "SPUBLISH")
            self._sharded, self._publish = bool(known), "SPUBLISH" if known else "PUBLISH"
            keys = (f"{self._tag('')}:{KEYS[0]}", f"{self._nodes}:nodes", self._format)
            ways = {"channel": self._tag(""), "publish": self._publish}
            await permissions.check(self._client, keys, **ways)
            await self._servers.require_all()

    async def try_to_write(self) -> None:
        """Check that the server takes writes, unlike a replica or a full one; change nothing."""
        if await self.node("try", ""):
            raise StoreFull("The store is full")

    async def close(self) -> None:
        """Disconnect; no more messages arrive."""
        await self._channels.end()
        await self._servers.close()

    # Steps.

    def step(self, room: RoomId, op: str, *arguments: str) -> Coroutine[Any, Any, Any]:
        """Take one of the atomic steps of room.lua."""
        tag, keys = self._keys_of(room)
        return self._room_script(keys, op, tag, self._publish, *self._keep, *arguments)

    def node(self, op: str, node: str, *arguments: str) -> Coroutine[Any, Any, Any]:
        """Take one of the atomic steps of nodes.lua."""
        keys = [f"{self._nodes}:{each}" for each in ("nodes", "condemned")]
        keys += [self._noted(node), f"{self._nodes}:restoring", self._format]
        return self._node_script(keys, op, node, self.format, *arguments)

    async def noted(self, node: str) -> list[RoomId]:
        """Return the rooms in which a node may have seats."""
        with engine_errors():
            found: list[RoomId] = await self._client.zrange(self._noted(node), 0, -1)
            return found

    async def evicts(self) -> str:
        """Return the policies under which a full server may evict room keys; "": none.

        Uses INFO, which may be allowed where CONFIG GET is forbidden.
        """
        with engine_errors():
            if isinstance(self._client, RedisCluster):
                found = await self._client.info("memory", target_nodes=RedisCluster.PRIMARIES)
                servers = list(found.values()) if "maxmemory_policy" not in found else [found]
            else:
                servers = [await self._client.info("memory")]
        policies = {str(each.get("maxmemory_policy", SAFE_POLICY)) for each in servers}
        return ", ".join(sorted(policies - {SAFE_POLICY}))

    async def rooms(self, after: str | None, limit: int) -> list[str]:
        """Return a page of the rooms with members, see Engine.rooms.

        Every room with members is in some node's notes, which are sorted.
        """
        found: list[str] = []
        while len(found) < limit:
            async with self._listing:
                with engine_errors():
                    page = await self._noted_after(after, limit)
                    found += await self._with_members(page)
            if len(page) < limit:
                break
            after = page[-1]
        return found[:limit]

    async def _noted_after(self, after: str | None, limit: int) -> list[str]:
        """Return the first `limit` names after `after` that any node has noted."""
        ask = self._client.pipeline(transaction=False)
        ask.hkeys(f"{self._nodes}:nodes")
        ask.hgetall(f"{self._nodes}:condemned")
        leased, condemned = await ask.execute()
        nodes = [*leased, *(node for node, state in condemned.items() if state == "open")]
        start = "-" if after is None else f"({after}"
        ask = self._client.pipeline(transaction=False)
        for node in nodes:
            ask.zrangebylex(self._noted(node), start, "+", start=0, num=limit)
        names = {name for some in await ask.execute() for name in some}
        return sorted(names)[:limit]

    async def _with_members(self, rooms: Sequence[str]) -> list[str]:
        """Return those of the rooms that have members, in batches of one turn each."""
        found: list[str] = []
        for start in range(0, len(rooms), LISTED_AT_ONCE):
            some = rooms[start : start + LISTED_AT_ONCE]
            ask = self._client.pipeline(transaction=False)
            for room in some:
                ask.exists(f"{self._tag(room)}:order")
            counts = await ask.execute()
            found += [room for room, count in zip(some, counts, strict=True) if count]
        return found

    def _find_keys(self, room: RoomId) -> tuple[str, tuple[str, ...]]:
        """Return a room's channel, and its keys."""
        tag = self._tag(room)
        return tag, tuple(f"{tag}:{each}" for each in KEYS)

    def _tag(self, room: str) -> str:
        return f"{self._space}:{{{_digest(room)}}}"

    def _noted(self, node: str) -> str:
        return f"{self._nodes}:rooms:{node}"

    # Messages.

    async def subscribe(self, room: RoomId) -> None:
        """Subscribe to a room; return once no further message can be missed."""
        channel = self._tag(room)
        self._rooms[channel] = room
        with engine_errors():
            name, server = await self._servers.of(channel)
            await self._channels.subscribe(channel, name, server.client, self._sharded)

    async def unsubscribe(self, room: RoomId) -> None:
        """Unsubscribe from a room."""
        channel = self._tag(room)
        self._rooms.pop(channel, None)
        with engine_errors():
            self._channels.unsubscribe(channel)

    def listen_anew(self) -> None:
        """Lose all subscriptions, because they may lead to a server that is no longer the store."""
        self._channels.lose(ConnectionError("the store is another process"))

    def _lose(self) -> None:
        self._rooms.clear()
        self._broken()

    def _take(self, channel: str, message: str) -> None:
        if (room := self._rooms.get(channel)) is not None:
            self._heard(room, parse(message))


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
