"""The list of rooms in a store: pages at a constant cost, which block nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_nodes import Node, Nodes
from valkey_server import Valkey

from videre.engines.redis.store import RedisStore
from videre.errors import EngineError

pytestmark = pytest.mark.process

AT_ONCE = 32  # calls


def store_of(node: Node) -> RedisStore:
    """Return a node's connection to the store."""
    store = node.engine._node.store
    assert isinstance(store, RedisStore)
    return store


async def fill(store: RedisStore, numbers: range) -> None:
    """Create the rooms' entries as a node with a member in each of them does."""

    async def seat(number: int) -> None:
        room = f"room {number:05}"
        assert await store.node("note", "faraway", room)
        said = ("faraway", "1", "", "", "", '["",""]')
        assert (await store.step(room, "join", room, "a", f"seat {number}", *said))[0] == "ok"

    await store.node("beat", "faraway", "1:60000", "0")
    for start in range(0, len(numbers), AT_ONCE):
        await asyncio.gather(*map(seat, numbers[start : start + AT_ONCE]))


async def calls(server: Valkey) -> int:
    """Return the number of commands that the server has carried out."""
    stats: dict[str, Any] = await server.ask("INFO", "commandstats")
    return sum(each["calls"] for name, each in stats.items() if "info" not in name)


async def test_a_page_costs_the_same_however_many_rooms_there_are(
    server: Valkey, nodes: Nodes
) -> None:
    """A page takes as many commands in a store of 1,600 rooms as in one of 100."""
    node = await nodes.add(node_timeout=60)
    await node.freeze()  # a beat takes commands as well
    store, spent, there = store_of(node), [], 0
    for count in (100, 1600):
        await fill(store, range(there, count))
        there, before = count, await calls(server)
        first = await node.engine.rooms(None, 20)
        assert first == [f"room {number:05}" for number in range(20)]
        assert await node.engine.rooms("room 00079x", 20) == [
            f"room {number:05}" for number in range(80, 100)
        ]
        spent.append(await calls(server) - before)
    assert spent[0] == spent[1]
    assert len(await node.engine.rooms(None, 2000)) == 1600


async def test_rooms_of_all_nodes_are_listed_once(nodes: Nodes) -> None:
    """They are sorted; a dead node's rooms are in the list, emptied ones are not."""
    one, two = await nodes.add(), await nodes.add()
    for node, rooms in ((one, "dba"), (two, "cbe")):
        for room in rooms:
            await node.join("user" + room + str(node is one), room=room)
    seat = await one.join("x", room="gone")
    await one.engine.leave("gone", "x", seat, "done")
    await two.die()
    assert await one.engine.rooms(None, 10) == ["a", "b", "c", "d", "e"]
    assert await one.engine.rooms("b", 2) == ["c", "d"]


async def test_empty_entries_do_not_end_a_list(nodes: Nodes) -> None:
    """A page is full as long as there are more rooms, even if some entries are empty."""
    node = await nodes.add(node_timeout=60)
    store = store_of(node)
    await store.node("beat", "faraway", "1:60000", "0")
    for number in range(10):
        assert await store.node("note", "faraway", f"a{number}")
    for room in "bcd":
        await node.join("user", room=room)
    assert await node.engine.rooms(None, 2) == ["b", "c"]
    assert await node.engine.rooms("c", 2) == ["d"]


async def test_lists_and_steps_do_not_block_each_other(nodes: Nodes) -> None:
    """Rooms are listed while all places for steps are taken, and steps go on during a list."""
    node = await nodes.add(node_timeout=60)
    a = await node.join("a")
    store = store_of(node)
    steps = [asyncio.create_task(node.engine.members("room")) for _ in range(AT_ONCE)]
    assert await node.engine.rooms(None, 10) == ["room"]
    assert await asyncio.gather(*steps) == [["a"]] * AT_ONCE
    async with store._listing:
        await node.engine.publish("room", a, "text")
    await node.hears("joined", "sent")


async def test_a_failing_list_fails_alone(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets the error; the node goes on and stays ready."""
    node = await nodes.add(node_timeout=60)
    a = await node.join("a")

    def lost(*_: object, **__: object) -> None:
        raise ConnectionError("lost")

    with monkeypatch.context() as patch:
        patch.setattr(store_of(node)._client, "pipeline", lost)
        with pytest.raises(EngineError):
            await node.engine.rooms(None, 10)
    assert node.engine._node.ready
    await node.engine.publish("room", a, "text")
    assert await node.engine.rooms(None, 10) == ["room"]
