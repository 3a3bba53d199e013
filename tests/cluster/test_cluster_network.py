"""A server is cut off from its store by the network itself, but not from its clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster, cluster
from network import Island, island
from valkey_server import Valkey, valkey

pytestmark = pytest.mark.process


@pytest.fixture
async def way() -> AsyncIterator[Island]:
    """Give a namespace with two cables."""
    async with island() as way:
        yield way


@pytest.fixture
async def store(tmp_path: Path, way: Island) -> AsyncIterator[Valkey]:
    """Run a Valkey that the namespace can reach."""
    (tmp_path / "valkey").mkdir()
    options = ("--bind", f"127.0.0.1 {way.store.here}", "--protected-mode", "no")
    async with valkey(tmp_path / "valkey", *options) as server:
        yield server


@pytest.fixture
async def nodes(tmp_path: Path, store: Valkey) -> AsyncIterator[Cluster]:
    """Give a cluster on it."""
    async with cluster(tmp_path, store.url) as nodes:
        yield nodes


async def test_packets_are_lost_for_long(nodes: Cluster, store: Valkey, way: Island) -> None:
    """Its clients get errors, others hear that they left; later its clients are asked to return."""
    timeout: dict[str, Any] = {"NodeTimeout": 5}
    engine = f"redis://{way.store.here}:{store.port}"
    [first] = await nodes.add(1, engine=engine, island=way, **timeout)
    [second] = await nodes.local(1, **timeout)
    a = await nodes.seated(first, "a")
    b = await nodes.seated(second, "b", a)
    await way.store.cut()
    await a.send("broadcast", "lost, and told so")
    await nodes.elapse(10)
    await b.hears(("disconnect", "a", ""), ("connect", "b", "true"))
    await a.hears(("error", "a", "unavailable"))
    await a.hears_nothing()  # its own connection works as before
    c = await nodes.client(first, "c")
    await c.hears(("error", "c", "unavailable"))
    await b.says("to nobody")
    await way.store.mend()
    assert await a.close_code() == 4001
    await nodes.seated(first, "a", b)
    await c.keep_sending("connect")
    await b.hears(("connect", "c", "false"))
    await b.hears_nothing()


async def test_the_network_card_is_down_for_a_short_while(
    nodes: Cluster, store: Valkey, way: Island
) -> None:
    """Nobody leaves: packets sent meanwhile arrive late, and once."""
    engine = f"redis://{way.store.here}:{store.port}"
    timeout: dict[str, Any] = {"NodeTimeout": 20}
    [first] = await nodes.add(1, engine=engine, island=way, **timeout)
    [second] = await nodes.local(1, **timeout)
    a = await nodes.seated(first, "a")
    b = await nodes.seated(second, "b", a)
    await way.store.unplug()
    for number in range(3):
        await b.says(f"meanwhile {number}")
    await a.send("broadcast", "lost, and told so")
    await a.hears(("error", "a", "unavailable"))
    await a.hears_nothing()
    await way.store.plug()
    await a.hears(*(("broadcast", "b", f"meanwhile {number}") for number in range(3)))
    await a.says("back again")
    while (heard := await b.hear()) != ("broadcast", "a", "back again"):
        assert heard == ("broadcast", "a", "lost, and told so")  # not lost: nobody could know
    for each in (a, b):
        await each.hears_nothing()
