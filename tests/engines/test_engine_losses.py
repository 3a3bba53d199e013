"""The store loses the data of rooms: what their nodes then believe, and restore."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import cast

import pytest
from engine_nodes import LEASE, Node, nodes_on, until
from simulated_store import Cluster, Soon
from valkey_server import valkey

from videre.engines.redis import RedisEngine
from videre.engines.redis.store import RedisStore
from videre.errors import EngineError
from videre.ids import RoomId

pytestmark = pytest.mark.process


async def test_a_seat_that_was_replaced_elsewhere_is_not_kept() -> None:
    """A node missed that its user joined elsewhere, and then the store lost the room.

    It restores its own seat, then reads that the user joined on the other node and left. Its
    listener has closed the session by then, so the seat must not stay.
    """
    cluster = Cluster(Soon(), time.time, random.Random(0))
    one = Node(RedisEngine(cast(RedisStore, cluster.store("one")), node_timeout=LEASE, node="one"))
    await one.engine.start(one.heard)
    try:
        seat = await one.join("a")
        await one.hears("joined")
        server = cluster.server
        server.wipe(rooms_alone=True)
        server.step("room", "restore", "room", "two", f'[["a", "{seat}+", 2, ""]]', "")
        server.step("room", "leave", "a", f"{seat}+", "done", "")
        await until(lambda: not one.engine._node.own and not server.data["room"].seats, [one])
        await one.is_ready()
        assert not server.data["room"].seats
    finally:
        await one.engine.close()


async def test_a_new_view_does_not_hear_what_a_dropped_one_missed() -> None:
    """A node left a room and joined it again before it fetched the messages it had missed."""
    cluster = Cluster(Soon(), time.time, random.Random(0))
    one = Node(RedisEngine(cast(RedisStore, cluster.store("one")), node_timeout=60.0, node="one"))
    await one.engine.start(one.heard)
    try:
        seat = await one.join("a")
        dropped = one.engine._node.views[RoomId("room")]
        await one.engine.leave("room", "a", seat, "done")
        await one.join("b")
        await one.engine._following.fetch(dropped)
        await one.hears("joined", "left", "joined")
    finally:
        await one.engine.close()


async def no_answer(*_: object) -> None:
    """Fail as a step does whose answer is lost."""
    raise EngineError("no answer")


async def test_a_removal_whose_answer_is_lost_is_no_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host gets an error and must try again, because no node owes the store a removal."""
    cluster = Cluster(Soon(), time.time, random.Random(0))
    store = cluster.store("one")
    one = Node(RedisEngine(cast(RedisStore, store), node_timeout=LEASE, node="one"))
    await one.engine.start(one.heard)
    try:
        await one.join("a")
        with monkeypatch.context() as patched:
            patched.setattr(store, "step", no_answer)
            with pytest.raises(EngineError):
                await one.engine.remove("room", "a", "why")
        await one.is_ready()
        assert await one.engine.remove("room", "a", "why") is True
        assert await one.engine.remove("room", "a", "why") is False
    finally:
        await one.engine.close()


async def test_the_host_does_not_know_that_the_store_restarted() -> None:
    """The room is empty in the store but has members on another node: the packet is refused."""
    cluster = Cluster(Soon(), time.time, random.Random(0))
    one, two = [
        Node(RedisEngine(cast(RedisStore, cluster.store(name)), node_timeout=60.0, node=name))
        for name in ("one", "two")
    ]
    for node in (one, two):
        await node.engine.start(node.heard)
    try:
        await one.join("a")
        await two.engine.publish("room", "", "before")
        await two.engine.publish("empty", "", "to nobody")
        cluster.server.wipe()
        cluster.server.process = "another"
        with pytest.raises(EngineError, match="restarted, and not all"):
            await two.engine.publish("room", "", "lost")
    finally:
        for node in (one, two):
            await node.engine.close()


async def test_a_beat_finds_the_restart_while_the_host_speaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The packet reached nobody in the new store, which the node knows when the answer comes."""
    cluster = Cluster(Soon(), time.time, random.Random(0))
    store = cluster.store("one")
    one = Node(RedisEngine(cast(RedisStore, store), node_timeout=60.0, node="one"))
    await one.engine.start(one.heard)
    step = store.step

    async def overtaken(room: str, op: str, *arguments: str) -> object:
        cluster.server.wipe()
        cluster.server.process = "another"
        answer = await step(room, op, *arguments)
        await one.engine._duties.beat()
        return answer

    try:
        monkeypatch.setattr(store, "step", overtaken)
        with pytest.raises(EngineError, match="restarted"):
            await one.engine.publish("room", "", "lost")
    finally:
        await one.engine.close()


async def test_the_host_waits_for_the_other_nodes(tmp_path: Path) -> None:
    """After a restart of the store they may still be absent: no accepted packet is lost."""
    async with valkey(tmp_path) as server, nodes_on(server.url) as nodes:
        one, two = await nodes.add(), await nodes.add()
        await one.join("a")
        await one.hears("joined")
        await one.freeze()
        await server.stop()
        await nodes.until(lambda: not two.engine._node.ready)
        await server.start()
        await two.is_ready()
        with pytest.raises(EngineError, match="Not all members"):
            await two.engine.publish("room", "", "too early")
        one.thaw()
        await one.is_ready()
        await two.keep_publishing("", "to all")
        assert (await one.hears("sent"))[0][3] == "to all"
