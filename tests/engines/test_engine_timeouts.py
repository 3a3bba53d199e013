"""A node notices a lost command in time, so that the others do not give it up."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from engine_contract import Recorder
from fakes import FakeClock
from simulated_store import Cluster
from virtual_time import VirtualTime

from videre.engines import choice
from videre.engines.redis import RedisEngine
from videre.engines.redis.connecting import COMMAND_SECONDS, command_seconds
from videre.engines.redis.store import RedisStore
from videre.errors import EngineError
from videre.settings import Retention


@pytest.mark.process
@pytest.mark.parametrize("node_timeout", [1.0, 2.0, 4.0, 9.0, 30.0])
def test_a_lost_renewal_costs_no_lease(node_timeout: float) -> None:
    """Whatever the NodeTimeout, no node is given up if every other renewal is lost."""
    time = VirtualTime()
    cluster = Cluster(time, lambda: time.now, random.Random(0))
    engines: list[RedisEngine] = []
    lost = 0

    def start(name: str) -> None:
        store: Any = cluster.store(name)
        engine = RedisEngine(store, node_timeout=node_timeout, node=name)
        engines.append(engine)
        ask, loses = store.node, False

        async def node(op: str, *arguments: str) -> Any:
            nonlocal loses, lost
            if op == "beat" and (loses := not loses):
                lost += 1
                await asyncio.sleep(command_seconds(node_timeout))
                raise EngineError("The store cannot be reached")
            return await ask(op, *arguments)

        store.node = node
        process.create_task(engine.start(Recorder()))

    for name in ("one", "two"):
        process = time.process(name)
        process.perform(lambda name=name: start(name))  # type: ignore[misc]
    time.run(100 * node_timeout)
    assert lost > 100
    assert not cluster.server.condemned
    assert all(engine._node.ready or engine._node.leased_until > time.now for engine in engines)
    time.end()


@pytest.mark.parametrize(
    ("node_timeout", "seconds"), [(1.0, 1 / 3), (6.0, 2.0), (10.0, COMMAND_SECONDS)]
)
async def test_how_long_a_node_waits_for_the_store(node_timeout: float, seconds: float) -> None:
    """A third of NodeTimeout, and at most COMMAND_SECONDS, for commands and for messages."""
    later = FakeClock().later
    for url in ("redis://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/videre"):
        engine: Any = choice.make(url, "space", Retention(), node_timeout, later)
        store: RedisStore = engine._node.store
        settings = store._client.connection_pool.connection_kwargs
        assert settings["socket_timeout"] == settings["socket_connect_timeout"] == seconds
        assert store._timeout == store._channels._timeout == seconds
        await store.close()
