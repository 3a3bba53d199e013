"""The servers of a store: which of them has a key, and the calls to it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import AskError, ClusterError, MovedError, NoScriptError, TryAgainError

from videre.engine_url import EngineURL
from videre.engines.redis.calls import Calls
from videre.engines.redis.connecting import connect, sentinels_of
from videre.engines.redis.faults import engine_errors, reported
from videre.engines.redis.outage import CLUSTERED
from videre.errors import EngineError

# How often a cluster may send a call elsewhere, or tell it to try again, before it fails; and the
# seconds between two tries. In all, less than half a second, as redis-py has it.
MOST_SENT_ON = 8
TRY_AGAIN_SECONDS = 0.05


class Servers:
    """One server, the one that Sentinels name, or the servers of a cluster.

    `client` is redis-py's, for rare commands. `timeout` is in seconds, see Calls.
    """

    def __init__(self, url: EngineURL, timeout: float) -> None:
        self._url = url
        self.timeout = timeout
        self.client = connect(url, timeout=timeout)
        self.is_cluster = isinstance(self.client, RedisCluster)
        self._found: dict[str, Calls] = {}  # by address; "" if there is only one
        if not self.is_cluster:
            self._found[""] = Calls(self.client, timeout)

    async def read_map(self) -> None:
        """Read which server of a cluster has which slots."""
        if self.is_cluster:
            # redis-py does so only after one of its own commands has failed; there may be none.
            await self.client.initialize()
            await self.client.nodes_manager.initialize()

    async def require_all(self) -> None:
        """Raise EngineError if the URL names one server of a cluster as if it were all of them."""
        if self.is_cluster or not (await self.client.info("cluster")).get("cluster_enabled"):
            return
        if int((await self.client.cluster("info"))["cluster_size"]) > 1:
            raise EngineError(CLUSTERED)

    async def of(self, key: str) -> tuple[str, Calls]:
        """Return the name of the server that has a key or a channel, and our calls to it."""
        if not self.is_cluster:
            return "", self._found[""]
        await self.client.initialize()
        node = self.client.get_node_from_key(key)
        if node is None:
            raise ConnectionError("no server has the room")
        return node.name, self._at(node.host, int(node.port))

    def _at(self, host: str, port: int) -> Calls:
        name = f"{host}:{port}"
        if name not in self._found:
            client = connect(self._url, (host, port), timeout=self.timeout)
            self._found[name] = Calls(client, self.timeout)
        return self._found[name]

    def call(self, key: str, words: tuple[str, ...]) -> Awaitable[Any]:
        """Send a command about a key soon; return an awaitable for the answer.

        Awaiting it raises the error that the server answers.
        """
        if not self.is_cluster:
            return self._found[""].call(words)
        return self._call_owner(key, words)

    async def _call_owner(self, key: str, words: tuple[str, ...]) -> Any:
        """Call the server that has a key.

        A server of a cluster that sends the call elsewhere, or tells it to try again, has not
        carried it out.
        """
        _, server = await self.of(key)
        asking = False
        for _ in range(MOST_SENT_ON):
            try:
                return await server.call(words, asking=asking)
            except MovedError as moved:
                await self.client.nodes_manager.move_slot(moved)
                asking = False
            except AskError as ask:
                server, asking = self._at(ask.host, ask.port), True
                continue
            except TryAgainError:
                await asyncio.sleep(TRY_AGAIN_SECONDS)
                asking = False
            _, server = await self.of(key)
        raise ClusterError("the cluster's servers disagree about which of them has a room")

    async def close(self) -> None:
        """Close all connections."""
        for server in self._found.values():
            await server.close()
        clients = {self.client, *(server.client for server in self._found.values())}
        for client in (*sentinels_of(self.client), *clients):
            with reported():
                await client.aclose()


class Script:
    """A script, which each server gets once, and again if it has forgotten it."""

    def __init__(self, servers: Servers, path: Path) -> None:
        self._servers = servers
        self._text = path.read_text()
        self._sha = hashlib.sha1(self._text.encode()).hexdigest()  # noqa: S324  # for EVALSHA
        self._loading = asyncio.Lock()

    async def __call__(self, keys: Sequence[str], *arguments: str) -> Any:
        """Run it; raises EngineError."""
        rest = (str(len(keys)), *keys, *arguments)
        with engine_errors():
            with contextlib.suppress(NoScriptError):  # or it would count as a later error's cause
                return await self._servers.call(keys[0], ("EVALSHA", self._sha, *rest))
            return await self._load(keys[0], rest)

    async def _load(self, key: str, rest: tuple[str, ...]) -> Any:
        """Run it on a server that lacked it; the first of concurrent calls sends the whole text."""
        async with asyncio.timeout(self._servers.timeout):
            await self._loading.acquire()
        try:
            with contextlib.suppress(NoScriptError):
                return await self._servers.call(key, ("EVALSHA", self._sha, *rest))
            return await self._servers.call(key, ("EVAL", self._text, *rest))
        finally:
            self._loading.release()
