"""The store of a cluster: a Redis or Valkey server, seen as the few atomic steps that rooms take.

room.lua and nodes.lua are the steps. Everything of one room has one hash tag, so that a Redis
Cluster keeps it in one place; names are digests, since a room's name is a secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson
from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError

from videre import engine_url
from videre.engines.address import without_secrets
from videre.engines.redis import permissions
from videre.engines.redis.channels import Channels
from videre.engines.redis.connecting import COMMAND_SECONDS, CONNECTIONS, connect, sentinels_of
from videre.engines.redis.faults import engine_errors, reported

# Rooms of a list that are asked about in one go: what a turn of the loop does in a few ms.
LISTED_AT_ONCE = 100

# The policy by which a full server refuses what has no place, and evicts nothing.
SAFE_POLICY = "noeviction"

FOLDER = Path(__file__).parent

#: What the scripts keep and publish, and how. Nodes of another format share nothing with ours, and
#: take no part while any of ours lives (nodes.lua). To be raised with any change that they would
#: not understand. The first had no number.
FORMAT = "2"

#: A message's line, which is described in room.lua, and its body.
Message = tuple[list[Any], str]

Heard = Callable[[str, Message], None]
Broken = Callable[[], None]


# What a room has in the store; the script room.lua tells what is in each.
KEYS = ("room", "seats", "meta", "order", "skips", "lasts", "log")


class Store(Protocol):
    """What the rooms of a cluster are kept in. Everything may raise EngineError.

    `format` is what is kept there, see FORMAT; `where` it is, without secrets.
    """

    format: str
    where: str

    async def open(self, heard: Heard, broken: Broken) -> None:
        """Connect, and see that all that a node does is allowed.

        `heard` is called with a room and each message in its order; `broken` when messages may
        have been lost: rooms must be subscribed again.
        """

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

    async def noted(self, node: str) -> list[str]:
        """Return the rooms in which a node may have seats."""

    async def rooms(self, after: str | None, limit: int) -> list[str]:
        """Return a page of the names of rooms with members, see Engine.rooms."""

    async def evicts(self) -> str:
        """Return the policies by which a full server may evict what rooms need; "": none."""


def parse(message: str) -> Message:
    """Return the line and the body of a message."""
    line, _, body = message.partition("\n")
    return orjson.loads(line), body


def addressed(line: Sequence[Any]) -> list[str] | None:
    """Return to whom the message of a packet goes; None: to all others."""
    return None if line[4] is False else list(line[4])  # cjson writes {} for nobody


class RedisStore:
    """A store on one server, behind Sentinels (`redis+sentinel://`), or on a cluster of them.

    `timeout` is for how many seconds a command waits for its turn, and for its answer.
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
        self._url = engine_url.read(url)
        self._timeout = timeout
        self.where = without_secrets(url)
        self._client = connect(self._url, timeout=timeout)
        self._servers: dict[str, Any] = {}  # of a cluster: clients for the messages of each
        self.format = FORMAT
        self._space = f"videre:{FORMAT}:{_digest(namespace)}"
        self._format = f"videre:{_digest(namespace)}:{{nodes}}:leases"  # where the first had those
        self._keep = (str(keep_ms), "" if keep_bytes is None else str(keep_bytes))
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._listing = asyncio.Lock()  # a list of rooms takes none of the places of steps
        self._room_script = _Script(self._client, FOLDER / "room.lua")
        self._node_script = _Script(self._client, FOLDER / "nodes.lua")
        self._nodes = f"{self._space}:{{nodes}}"
        self._sharded, self._publish = False, "PUBLISH"
        self._rooms: dict[str, str] = {}  # by channel
        self._channels = Channels(take=self._take, broken=self._lose, timeout=timeout)
        self._heard: Heard
        self._broken: Broken

    async def open(self, heard: Heard, broken: Broken) -> None:
        """See Store.open."""
        self._heard, self._broken = heard, broken
        with engine_errors():
            if isinstance(self._client, RedisCluster):
                # Another server may have a room by now. The client looks only when a command of
                # its own has failed, and none may have been given.
                await self._client.initialize()
                await self._client.nodes_manager.initialize()
            (known,) = await self._client.execute_command("COMMAND", "INFO", "SPUBLISH")
            self._sharded, self._publish = bool(known), "SPUBLISH" if known else "PUBLISH"
            keys = (f"{self._tag('')}:{KEYS[0]}", f"{self._nodes}:nodes", self._format)
            ways = {"channel": self._tag(""), "publish": self._publish}
            await permissions.check(self._client, keys, **ways)

    async def close(self) -> None:
        """See Store.close."""
        await self._channels.end()
        for client in (*self._servers.values(), *sentinels_of(self._client), self._client):
            with reported():
                await client.aclose()

    # Steps.

    async def step(self, room: str, op: str, *arguments: str) -> Any:
        """See Store.step."""
        tag = self._tag(room)
        keys = [f"{tag}:{each}" for each in KEYS]
        async with self._place():
            return await self._room_script(keys, (op, tag, self._publish, *self._keep, *arguments))

    async def node(self, op: str, node: str, *arguments: str) -> Any:
        """See Store.node."""
        keys = [f"{self._nodes}:{each}" for each in ("nodes", "condemned")]
        keys += [self._noted(node), f"{self._nodes}:restoring", self._format]
        async with self._place():
            return await self._node_script(keys, (op, node, self.format, *arguments))

    async def noted(self, node: str) -> list[str]:
        """See Store.noted."""
        async with self._place():
            found: list[str] = await self._client.zrange(self._noted(node), 0, -1)
            return found

    async def evicts(self) -> str:
        """See Store.evicts. INFO may be asked where CONFIG GET is forbidden."""
        async with self._place():
            if isinstance(self._client, RedisCluster):
                found = await self._client.info("memory", target_nodes=RedisCluster.PRIMARIES)
                servers = list(found.values()) if "maxmemory_policy" not in found else [found]
            else:
                servers = [await self._client.info("memory")]
        policies = {str(each.get("maxmemory_policy", SAFE_POLICY)) for each in servers}
        return ", ".join(sorted(policies - {SAFE_POLICY}))

    async def rooms(self, after: str | None, limit: int) -> list[str]:
        """See Store.rooms.

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
        """Return the first `limit` names past `after` that any node has noted."""
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
        """Return those of the rooms that have members, as many at a time as one turn takes."""
        found: list[str] = []
        for start in range(0, len(rooms), LISTED_AT_ONCE):
            some = rooms[start : start + LISTED_AT_ONCE]
            ask = self._client.pipeline(transaction=False)
            for room in some:
                ask.hlen(f"{self._tag(room)}:seats")
            counts = await ask.execute()
            found += [room for room, count in zip(some, counts, strict=True) if count]
        return found

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for a turn to ask the store something; what goes wrong is an EngineError."""
        with engine_errors():
            async with asyncio.timeout(self._timeout):
                await self._places.acquire()
            try:
                yield
            finally:
                self._places.release()

    def _tag(self, room: str) -> str:
        return f"{self._space}:{{{_digest(room)}}}"

    def _noted(self, node: str) -> str:
        return f"{self._nodes}:rooms:{node}"

    # Messages.

    async def subscribe(self, room: str) -> None:
        """See Store.subscribe."""
        channel = self._tag(room)
        self._rooms[channel] = room
        with engine_errors():
            server, client = await self._server_of(channel)
            await self._channels.subscribe(channel, server, client, self._sharded)

    async def unsubscribe(self, room: str) -> None:
        """See Store.unsubscribe."""
        channel = self._tag(room)
        self._rooms.pop(channel, None)
        with engine_errors():
            await self._channels.unsubscribe(channel)

    async def _server_of(self, channel: str) -> tuple[str, Any]:
        """Return the server that a channel is heard from: its name, and a client for it."""
        if not isinstance(self._client, RedisCluster):
            return "", self._client
        await self._client.initialize()
        node = self._client.get_node_from_key(channel)
        if node is None:
            raise ConnectionError("no server has the room")
        if node.name not in self._servers:
            server = node.host, int(node.port)
            self._servers[node.name] = connect(self._url, server, timeout=self._timeout)
        return node.name, self._servers[node.name]

    def _lose(self) -> None:
        self._rooms.clear()
        self._broken()

    def _take(self, channel: str, message: str) -> None:
        if (room := self._rooms.get(channel)) is not None:
            self._heard(room, parse(message))


class _Script:
    """A script that the server may have forgotten."""

    def __init__(self, client: Any, path: Path) -> None:
        self._client = client
        self._text = path.read_text()
        self._sha = hashlib.sha1(self._text.encode()).hexdigest()  # noqa: S324  # what EVALSHA wants

    async def __call__(self, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        try:
            return await self._client.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self._client.eval(self._text, len(keys), *keys, *arguments)


def _digest(name: str) -> str:
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
