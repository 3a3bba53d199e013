"""The store loses the data of rooms: what their nodes then believe, and tell it again."""

from __future__ import annotations

import random
import time

from engine_nodes import Node, eventually
from simulated_store import Cluster, Soon

from videre.engines.redis import RedisEngine


async def test_a_seat_that_was_replaced_elsewhere_is_not_kept() -> None:
    """A node did not hear that its user sat down elsewhere, and the store lost the room.

    It restores its own seat, then reads that the user was seen on the other node and left. Its
    listener has closed the session by then, so the seat must not stay.
    """
    cluster = Cluster(Soon(), time.time, random.Random(0))
    one = Node(RedisEngine(cluster.store("one"), node_timeout=3.0, node="one"))
    await one.engine.start(one.heard)
    try:
        seat = await one.join("a")
        await one.hears("joined")
        server = cluster.server
        server.wipe(rooms_alone=True)
        server.step("room", "restore", "room", "two", f'[["a", "{seat}+", 2, ""]]', "")
        server.step("room", "leave", "a", f"{seat}+", "done", "")
        await eventually(lambda: not one.engine._node.own and not server.data["room"].seats)
        await one.is_ready()
        assert not server.data["room"].seats
    finally:
        await one.engine.close()
