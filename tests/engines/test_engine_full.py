"""A full store refuses newcomers and packets, but members still hear who leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_nodes import LEASE, Nodes, nodes_on
from valkey_server import Valkey, valkey

from videre.errors import EngineError

pytestmark = pytest.mark.process


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Give a store of its own, because it gets full."""
    async with valkey(tmp_path) as server:
        yield server


@pytest.fixture
async def nodes(server: Valkey) -> AsyncIterator[Nodes]:
    """Give nodes on this store."""
    async with nodes_on(server.url) as nodes:
        yield nodes


async def fill(server: Valkey) -> None:
    """Let the store have no space."""
    await server.ask("CONFIG", "SET", "maxmemory", "1")


async def test_a_full_store_refuses_clearly(server: Valkey, nodes: Nodes) -> None:
    """A step without space is an EngineError; when there is space again, all goes on."""
    one = await nodes.add()
    await one.join("a")
    await fill(server)
    with pytest.raises(EngineError):
        await one.join("b")
    await server.ask("CONFIG", "SET", "maxmemory", "0")
    await one.is_ready()
    await one.join("c")
    assert await one.engine.members("room") == ["a", "c"]


async def test_members_leave_a_full_store(server: Valkey, nodes: Nodes) -> None:
    """The others hear of leaves and kicks, also after the nodes have renewed their leases."""
    one, two = await nodes.add(), await nodes.add()
    await one.join("a")
    b = await two.join("b")
    await two.join("c")
    await one.hears("joined", "joined", "joined")
    await fill(server)
    await nodes.elapse(2 * LEASE)
    await two.engine.leave("room", "b", b, "done")
    assert await one.engine.remove("room", "c", "why")
    assert [event[2] for event in await one.hears("left", "left")] == ["b", "c"]


@pytest.mark.parametrize("ticket", [None, "t"])
async def test_a_node_dies_beside_a_full_store(
    server: Valkey, nodes: Nodes, ticket: str | None
) -> None:
    """Another node gives up its seats, or adopts them."""
    one, two = await nodes.add(), await nodes.add()
    await one.join("a")
    b = await two.join("b", ticket=ticket)
    await one.hears("joined", "joined")
    await fill(server)
    await two.die()
    await nodes.elapse(3 * LEASE)
    (heard,) = await one.hears("moved" if ticket else "left")
    assert heard[2:4] == ("b", b)
