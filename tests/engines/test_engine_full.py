"""A full store refuses newcomers and packets, but members still hear who leaves."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_nodes import LEASE, Nodes, nodes_on
from redis.exceptions import OutOfMemoryError, ResponseError
from valkey_server import Valkey, valkey

from videre.engines import choice
from videre.engines.redis.faults import engine_errors
from videre.engines.redis.leases import BEATS
from videre.engines.redis.outage import REMINDER_SECONDS, StoreFull
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
    for _ in range(2):  # at once, and as the beats find it
        assert one.engine.fault == "it is full"
        await nodes.elapse(LEASE)
    await server.ask("CONFIG", "SET", "maxmemory", "0")
    await nodes.until(lambda: not one.engine.fault)
    await one.join("c")
    assert await one.engine.members("room") == ["a", "c"]


async def test_it_says_that_the_store_is_full(
    server: Valkey, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if nobody joins; once a minute, and when there is space again."""
    caplog.set_level(logging.INFO, "videre.engines")
    await nodes.add()
    await nodes.elapse(LEASE)
    caplog.clear()
    await fill(server)
    await nodes.elapse(1.5 * REMINDER_SECONDS)
    await server.ask("CONFIG", "SET", "maxmemory", "0")
    await nodes.elapse(LEASE)
    where = f"(redis://127.0.0.1:{server.port})"
    assert caplog.messages == [
        f"the store cannot be used: it is full {where}",
        f"the store still cannot be used: it is full {where}",
        "the store has space again",
    ]


async def test_a_store_that_is_full_again_and_again(
    server: Valkey, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    """At its limit, each packet fills it, and one that expires frees it: no line for each."""
    caplog.set_level(logging.INFO, "videre.engines")
    one = await nodes.add()
    await nodes.elapse(LEASE)
    caplog.clear()
    for _ in range(int(REMINDER_SECONDS / one.pause / 2) - 1):
        await fill(server)
        await nodes.elapse(one.pause)
        await server.ask("CONFIG", "SET", "maxmemory", "0")
        await nodes.elapse(one.pause)
    assert [message.partition(" (")[0] for message in caplog.messages] == [
        "the store cannot be used: it is full",
        "the store has space again",
    ]


async def test_no_line_for_each_refused_step(
    server: Valkey, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    """A shard may be full whose space no beat sees."""
    one = await nodes.add()
    for _ in range(3):
        await fill(server)
        with pytest.raises(StoreFull):
            await one.join("a")
        await server.ask("CONFIG", "SET", "maxmemory", "0")
        await nodes.until(lambda: not one.engine.fault)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), True),
        # Redis 6, for a command of a script:
        (ResponseError("Error running script (call to f_1): 5: -OOM command not allowed"), True),
        (ResponseError("Error running script (call to f_1): 5: a bug"), False),
    ],
)
def test_how_a_full_store_is_recognised(error: ResponseError, is_full: bool) -> None:
    """By the error's kind, or inside its text."""
    with pytest.raises(EngineError) as raised, engine_errors():
        raise error
    assert isinstance(raised.value, StoreFull) == is_full


async def test_a_check_finds_that_the_store_is_full(server: Valkey) -> None:
    """It is what `--check --connect` does."""
    await fill(server)
    assert await choice.attempt(server.url, "full", LEASE) == "it is full"
    await server.ask("CONFIG", "SET", "maxmemory", "0")
    assert await choice.attempt(server.url, "full", LEASE) == ""
    assert not await server.ask("KEYS", "*nodes*")


async def test_what_is_refused_hinders_nothing(server: Valkey, nodes: Nodes) -> None:
    """While newcomers keep trying, members leave, are removed, and are lost with their node."""
    one, two, three = [await nodes.add() for _ in range(3)]
    await one.join("a")
    b = await two.join("b")
    await two.join("c")
    await three.join("d")
    await one.hears(*["joined"] * 4)
    await fill(server)

    async def refused() -> None:
        for node in (one, two):
            with pytest.raises(StoreFull):
                await node.join("newcomer")

    await refused()
    await two.engine.leave("room", "b", b, "done")
    await refused()
    assert await two.engine.remove("room", "c", "why")
    assert [event[2] for event in await one.hears("left", "left")] == ["b", "c"]
    await three.die()
    for _ in range(3 * BEATS):
        await refused()
        await nodes.elapse(LEASE / BEATS)
    assert (await one.hears("left"))[0][2] == "d"


async def test_rooms_that_a_full_store_lost(server: Valkey, nodes: Nodes) -> None:
    """They are restored when there is space; until then the nodes live on."""
    one, two = await nodes.add(), await nodes.add()
    await one.join("a")
    await two.join("b")
    await one.hears("joined", "joined")
    await server.ask("FLUSHALL")
    await fill(server)
    await nodes.elapse(3 * LEASE)
    for node in (one, two):
        inner = node.engine._node
        assert inner.ready and inner.owed | inner.settling  # a beat may be trying
    await server.ask("CONFIG", "SET", "maxmemory", "0")
    await one.is_ready()
    await two.is_ready()
    assert await one.engine.members("room") == ["a", "b"]
    await one.hears()  # nobody left


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
