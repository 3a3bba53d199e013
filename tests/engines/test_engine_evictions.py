"""When the store evicts or deletes a room's key, the room recovers in seconds and logs it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from engine_nodes import LEASE, Node, Nodes, nodes_on, simulated, until
from redis.asyncio import RedisCluster
from valkey_server import Valkey, valkey

from videre.engines.redis.store import KEYS
from videre.errors import EngineError
from videre.ids import RoomId

pytestmark = pytest.mark.process


async def lose(server: Valkey, node: Node, *keys: str) -> None:
    """Delete keys of the room."""
    tag = node.engine._node.store._tag("room")
    assert await server.ask("DEL", *(f"{tag}:{key}" for key in keys)) == len(keys)


@pytest.mark.parametrize("keys", [*((key,) for key in KEYS), KEYS], ids=[*KEYS, "all"])
async def test_a_room_loses_a_key(
    server: Valkey, nodes: Nodes, caplog: pytest.LogCaptureFixture, keys: tuple[str, ...]
) -> None:
    """Nobody leaves, every accepted packet arrives, and the room keeps its members."""
    one, two = [await nodes.add() for _ in range(2)]
    a, b = await one.join("a", ticket="t"), await two.join("b", ticket="u")
    c = await one.join("c")
    await one.engine.publish("room", a, "before", packet_id='"1"')
    await two.hears("joined", "joined", "sent")
    await one.hears("joined", "joined", "joined", "sent")
    await lose(server, one, *keys)
    await two.keep_publishing(b, "before it mends, or after")  # an accepted packet reaches both
    await one.keep_publishing(a, "after")
    for node in (one, two):
        heard = await node.hears("sent", "sent")
        assert [event[3] for event in heard] == ["before it mends, or after", "after"]
        await node.is_ready()
        assert await node.engine.members("room") == ["a", "b", "c"]
        assert [*node.engine._node.views[RoomId("room")].believed.members] == ["a", "b", "c"]
    if keys not in [("log",), KEYS]:
        assert sum("has lost keys" in record.message for record in caplog.records) == 2
    if keys != ("log",):
        await nodes.until(lambda: any("had lost 1 " in r.getMessage() for r in caplog.records))
    await two.join("d")
    await one.engine.leave("room", "c", c, "done")
    for node in (one, two):
        await node.hears("joined", "left")


@pytest.mark.parametrize("key", KEYS)
async def test_a_quiet_room_loses_a_key(server: Valkey, nodes: Nodes, key: str) -> None:
    """The host's packet, sent from a node without members, either arrives or is refused."""
    one, two = [await nodes.add() for _ in range(2)]
    await one.join("a", ticket="t")
    await one.hears("joined")
    await lose(server, one, key)
    await two.keep_publishing("", "from the host")
    assert (await one.hears("sent"))[0][3] == "from the host"


async def test_a_member_leaves_a_room_that_lost_all_keys(server: Valkey, nodes: Nodes) -> None:
    """No message announces its end, but its node forgets it all the same."""
    one = await nodes.add()
    a = await one.join("a")
    await lose(server, one, *(key for key in KEYS))
    await one.engine.leave("room", "a", a, "done")
    await nodes.until(lambda: not one.engine._node.own and not one.engine._node.views)
    await one.is_ready()


async def test_the_others_hear_who_leaves_a_room_that_lost_all_keys(
    server: Valkey, nodes: Nodes
) -> None:
    """Its leave finds no seat, so all nodes look at the room."""
    one, two = [await nodes.add() for _ in range(2)]
    a = await one.join("a")
    await two.join("b")
    await two.sees(2)
    await lose(server, one, *KEYS)
    await one.engine.leave("room", "a", a, "done")
    believed = two.engine._node.views[RoomId("room")].believed
    await nodes.until(lambda: [*believed.members] == ["b"])
    await two.is_ready()  # it owes the store the loss of a, and may be paying
    assert await two.engine.members("room") == ["b"]


async def test_a_node_loses_its_notes(server: Valkey, nodes: Nodes) -> None:
    """It notes its rooms again, adopted seats included, so that others find its seats later."""
    one, two = [await nodes.add() for _ in range(2)]
    await one.join("a")
    await two.join("b", room="adopted", ticket="t")
    await two.die()
    await nodes.until(lambda: len(one.engine._node.own) == 2)
    store, name = one.engine._node.store, one.engine._node.name
    assert await server.ask("DEL", store._noted(name)) == 1
    await nodes.elapse(LEASE / 2)
    assert await store.noted(name) == ["adopted", "room"]
    assert await one.engine.rooms(None, 10) == ["adopted", "room"]
    three = await nodes.add()
    await three.join("c")
    await three.hears("joined")
    await one.die()
    await nodes.elapse(2 * LEASE)
    await three.hears("left")
    assert await three.engine.members("room") == ["c"]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "noeviction"])
@pytest.mark.parametrize("forbidden", [False, True], ids=["", "CONFIG is forbidden"])
async def test_a_store_that_may_evict_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, policy: str, forbidden: bool
) -> None:
    """It is logged at the start, even if the user may not read the configuration."""
    options = ["--maxmemory-policy", policy]
    if forbidden:
        options += ["--rename-command", "CONFIG", "hidden"]
    async with valkey(tmp_path, *options) as server, nodes_on(server.url) as nodes:
        with caplog.at_level(logging.INFO, "videre.engines"):
            await nodes.add()
    warned = [record.getMessage() for record in caplog.records if "evict" in record.message]
    assert len(warned) == (policy != "noeviction"), warned
    assert all(policy in text for text in warned)


async def test_each_server_of_a_cluster_is_checked(
    cluster_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One server that may evict is enough for the warning."""
    client = RedisCluster.from_url(cluster_url.replace("+cluster", ""))
    await client.initialize()
    last = client.get_primaries()[-1]
    await client.config_set("maxmemory-policy", "allkeys-lfu", target_nodes=last)
    try:
        async with nodes_on(cluster_url) as nodes:
            await nodes.add()
    finally:
        await client.config_set("maxmemory-policy", "noeviction", target_nodes=last)
        await client.aclose()
    assert [record for record in caplog.records if "allkeys-lfu" in record.getMessage()]


async def test_many_lost_keys_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A store that evicts keys goes on doing so, and each message about one reaches all nodes."""
    async with simulated("one") as (cluster, [one]):
        rooms = [f"room {number}" for number in range(9)]
        for room in rooms:
            await one.join("a", room=room)
        await one.freeze()
        for room in rooms:
            cluster.server.delete(room, "order")
            with pytest.raises(EngineError, match="lost data"):
                await one.engine.members(room)
        one.thaw()
        await until(lambda: len(cluster.server.data) == len(rooms), [one])
        await one.is_ready()
    (lost,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "lost keys" in lost and "of 9 of our rooms" in lost
