"""The store fails over to a replica, or its slots move, while members on two nodes talk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cluster import Client, Cluster, cluster
from skipping import skip
from talk import Talk
from valkey_failover import Shard, ValkeyCluster, valkey_cluster, watched
from valkey_server import Valkey, until

from videre.engines.redis.leases import BEATS

pytestmark = pytest.mark.process

LEASE = 4.0  # NodeTimeout in seconds: both nodes run here, so none is late alone
TALKATIVE: dict[str, Any] = {"PacketsPerSecond": None, "NodeTimeout": LEASE}


async def members(nodes: Cluster, room: str = "room") -> list[Client]:
    """Return three members of one room, on two nodes."""
    first, second = await nodes.local(2, **TALKATIVE)
    a = await nodes.seated(first, "a", room=room)
    b = await nodes.seated(second, "b", a, room=room)
    return [a, b, await nodes.seated(first, "c", a, b, room=room)]


async def nobody_leaves(talk: Talk) -> None:
    """Let as much time pass as a false leave could take to arrive, while members talk."""
    for _ in range(2 * 2 * BEATS):
        await talk.goes_on()
        skip(LEASE / BEATS / 2)  # less than a step may take: steps are under way
    await talk.goes_on()


async def one_is_initiator(a: Client, b: Client, c: Client) -> None:
    """Check that all know the same members, and that the next one is promoted."""
    for each in (a, b, c):
        await each.send("ping")
        assert await each.hear() == ("ping", each.user, ["a", "b", "c"])
    await a.send("disconnect")
    for each in (b, c):
        await each.hears(("disconnect", "a", ""))
    await b.hears(("connect", "b", "true"))
    await c.hears_nothing()


async def test_a_sentinel_fails_over(tmp_path: Path) -> None:
    """The primary is killed: every packet arrives or is refused, and nobody leaves."""
    async with watched(tmp_path / "store") as store, cluster(tmp_path, store.url) as nodes:
        a, b, c = await members(nodes)
        async with Talk(a, b, c) as talk:
            await talk.goes_on()
            await store.first.stop()
            await until(lambda: store.names(store.second))
            await nobody_leaves(talk)
        assert any(talker.refused for talker in talk.talkers)  # its notice was away
        await one_is_initiator(a, b, c)


async def test_a_primary_that_lost_its_replica(tmp_path: Path) -> None:
    """It takes no writes, as docs/cluster.md advises, but lives: the servers leave it."""
    async with watched(tmp_path / "store") as store, cluster(tmp_path, store.url) as nodes:
        await store.first.ask("CONFIG", "SET", "min-replicas-to-write", 1)
        a, b, c = await members(nodes)
        async with Talk(a, b, c) as talk:
            await talk.goes_on()
            await store.turn_away()
            await nobody_leaves(talk)
        assert any(talker.refused for talker in talk.talkers)  # its notice was away
        await one_is_initiator(a, b, c)


async def shard_with(store: ValkeyCluster, pattern: str) -> tuple[Shard, int]:
    """Return the shard with the only key of a pattern, and the key's slot."""
    for shard in store.shards:
        for key in await shard.primary.ask("KEYS", pattern):
            return await store.has(key)
    raise AssertionError(f"no key is like {pattern}")


async def takes_over(shard: Shard) -> None:
    """Kill the primary of a shard, and return when its replica has taken over."""
    assert shard.replica is not None
    replica: Valkey = shard.replica
    await shard.primary.stop()

    async def has() -> bool:
        return bool((await replica.ask("INFO", "replication"))["role"] == "master")

    await until(has)
    shard.primary, shard.replica = replica, None


async def test_a_cluster_fails_over(tmp_path: Path) -> None:
    """The room's shard fails, then that of the leases; otherwise as with a Sentinel."""
    async with (
        valkey_cluster(tmp_path / "store", replicas=True) as store,
        cluster(tmp_path, store.url) as nodes,
    ):
        a, b, c = await members(nodes, "elsewhere")
        room, _ = await shard_with(store, "*:order")
        leases, _ = await shard_with(store, "*:nodes")
        assert leases is not room
        await takes_over(room)  # without traffic: nobody talks yet
        async with Talk(a, b, c) as talk:
            await talk.goes_on()
            await takes_over(leases)
            await nobody_leaves(talk)
        assert any(talker.refused for talker in talk.talkers)
        await one_is_initiator(a, b, c)


async def test_the_slot_of_a_room_moves(tmp_path: Path) -> None:
    """Key by key, then in one step as in Valkey 9: every packet arrives or is refused."""
    async with (
        valkey_cluster(tmp_path / "store") as store,
        cluster(tmp_path, store.url) as nodes,
    ):
        a, b, c = await members(nodes)
        async with Talk(a, b, c) as talk:
            await talk.goes_on()
            source, slot = await shard_with(store, "*:order")
            targets = [shard for shard in store.shards if shard is not source]
            await store.move(slot, source, targets[0])
            await talk.goes_on()
            await store.move_at_once(slot, *targets)
            await talk.goes_on()
        await one_is_initiator(a, b, c)
