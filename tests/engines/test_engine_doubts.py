"""How long a node believes in members that the store does not have."""

from __future__ import annotations

import asyncio
import random
import time
from typing import cast

import pytest
from engine_contract import Recorder
from patience import eventually
from simulated_store import Cluster, Soon

from videre.engines.redis.doubts import Doubts
from videre.engines.redis.node import Node
from videre.engines.redis.store import RedisStore
from videre.engines.redis.view import Position, View
from videre.ids import RoomId, SeatId, UserId
from videre.tally import Tally

ROOM, USER = RoomId("room"), UserId("a")

# Seconds of a doubt that ends while a test waits, and of one that does not.
SHORT, LONG = 0.01, 60.0


def node_with(view: View) -> Node:
    """Return a node that hears of one room."""
    cluster = Cluster(Soon(), time.time, random.Random(0))
    node = Node(cast(RedisStore, cluster.store("one")), Tally(time.monotonic), "one")
    node.begin(Recorder())
    node.views[view.room] = view
    return node


def doubting_view() -> View:
    """Return the view of a room whose one member the store lacks."""
    view = View(ROOM, asyncio.get_running_loop().create_task(asyncio.sleep(0)))
    view.positions[USER] = Position("two", 1.0)
    view.find({USER: SeatId("1")})
    view.doubted = {USER}
    return view


async def test_a_doubt_ends_with_a_beat() -> None:
    """Its time is over: the member goes, once the node is ready."""
    view = doubting_view()
    node = node_with(view)
    doubts = Doubts(node, SHORT)
    doubts.watch(view)
    await eventually(node.trouble.is_set)
    doubts.end()
    assert view.believed.members, "the node is away"
    node.sound()
    doubts.end()
    assert (view.believed.members, view.doubted) == ({}, set())


@pytest.mark.parametrize("again", [False, True], ids=["the-same-view", "another-view"])
async def test_the_time_of_an_earlier_doubt_does_not_end_a_new_one(again: bool) -> None:
    """A node was away when the time was over, and doubts once more: the nodes get all of it."""
    view = doubting_view()
    node = node_with(view)
    doubts = Doubts(node, SHORT)
    doubts.watch(view)
    await eventually(node.trouble.is_set)
    if again:
        view = node.views[ROOM] = doubting_view()
    doubts._seconds = LONG
    doubts.watch(view)
    node.sound()
    doubts.end()
    assert view.doubted == {USER} and view.believed.holds(USER, SeatId("1"))
    view.end()
