"""Two versions of the server on one store: the second one refuses to take part, and says why."""

from __future__ import annotations

import asyncio
import logging

import aiohttp
import pytest
from engine_nodes import Nodes, eventually
from inprocess import serving
from patience import NODE_SECONDS, WAIT_SECONDS
from valkey_server import Valkey

import videre
from videre.config import Config
from videre.engines.redis import store as this_version
from videre.errors import EngineError

pytestmark = pytest.mark.process


def use_format(version: str, patch: pytest.MonkeyPatch) -> None:
    """Make new nodes write another format."""
    patch.setattr(this_version, "FORMAT", version)


class Elder:
    """A node of the first version, reduced to the renewal of its lease."""

    def __init__(self, server: Valkey, nodes: Nodes) -> None:
        self._server = server
        self._key = f"videre:{this_version._digest(nodes.namespace)}:{{nodes}}:leases"

    async def beat(self, seconds: float) -> None:
        """Renew the lease with the command that its script began with."""
        await self._server.ask("ZSCORE", self._key, "elder")
        now = await self._server.ask("TIME")
        until = int(now[0]) * 1000 + int(now[1]) // 1000 + round(seconds * 1000)
        await self._server.ask("ZADD", self._key, until, "elder")


async def test_the_second_version_takes_no_part(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says why, once, and the first goes on; when all nodes of that have ended, it starts."""
    one = await nodes.add(node_timeout=NODE_SECONDS)
    a = await one.join("a")
    with monkeypatch.context() as patch:
        use_format("4", patch)
        two = await nodes.add(node_timeout=NODE_SECONDS)
        why = "another version of videre-server uses the store (its format is 3, ours is 4): "
        assert two.engine.fault.startswith(why)
        assert not two.engine._node.ready
        with pytest.raises(EngineError):
            await two.join("b")
        await asyncio.sleep(NODE_SECONDS)  # for some more beats, none of which logs it again
        await one.engine.publish("room", a, "text")
        await one.hears("joined", "sent")
        assert one.engine._node.ready and not one.engine.fault
        told = [each for each in caplog.records if "another version" in each.getMessage()]
        assert [each.levelno for each in told] == [logging.ERROR]
        await one.engine.close()
        await two.is_ready()
        assert two.engine.fault == ""
        assert await two.engine.rooms(None, 10) == []
        await two.join("b", replace=False)


async def test_the_first_version_is_respected_while_it_runs(server: Valkey, nodes: Nodes) -> None:
    """It wrote no number; its remaining keys are ignored until a FLUSHDB removes them."""
    elder = Elder(server, nodes)
    await elder.beat(NODE_SECONDS)
    one = await nodes.add(node_timeout=NODE_SECONDS)
    assert "its format is 1," in one.engine.fault
    await one.is_ready()
    await one.join("a")


async def test_the_first_version_is_refused(server: Valkey, nodes: Nodes) -> None:
    """Its own first command fails, so it is not ready until none of our nodes runs."""
    one = await nodes.add(node_timeout=NODE_SECONDS)
    elder = Elder(server, nodes)
    with pytest.raises(Exception, match="WRONGTYPE"):
        await elder.beat(NODE_SECONDS)
    await one.engine.close()
    async with asyncio.timeout(WAIT_SECONDS):
        while await server.ask("EXISTS", elder._key):  # noqa: ASYNC110  # it expires by itself
            await asyncio.sleep(0.05)
    await elder.beat(NODE_SECONDS)


async def test_a_node_that_was_frozen_while_another_version_started(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no longer ready and says why; it mixes nothing with the other version's data."""
    one = await nodes.add(node_timeout=NODE_SECONDS)
    await one.join("a")
    await one.freeze()
    with monkeypatch.context() as patch:
        use_format("4", patch)
        two = await nodes.add(node_timeout=NODE_SECONDS)
        await two.is_ready()
        await two.join("b")
    one.thaw()
    await eventually(lambda: not one.engine._node.ready)
    assert "its format is 4," in one.engine.fault
    assert await two.engine.members("room") == ["b"]


async def test_readiness_says_why(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """`/ready` gives the reason for which a server takes no clients."""
    config = Config(engine=server.url, node_timeout=NODE_SECONDS)
    async with serving(videre.create_app(config)):
        with monkeypatch.context() as patch:
            use_format("4", patch)
            async with serving(videre.create_app(config)) as other, aiohttp.ClientSession() as http:
                async with http.get(f"{other.url}/ready") as answer:
                    told = await answer.json()
                    assert (answer.status, told["Status"]) == (503, "unavailable")
                assert told["Reason"].startswith("another version of videre-server uses the store")
                async with http.get(f"{other.url}/health") as answer:
                    assert answer.status == 200
