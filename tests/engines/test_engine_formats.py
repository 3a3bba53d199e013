"""Two versions of the server on one store: the second one refuses to take part, and says why."""

from __future__ import annotations

import logging

import aiohttp
import pytest
from engine_nodes import LEASE, Nodes
from inprocess import serving
from valkey_server import Valkey

import videre
from videre.config import Config
from videre.engines.redis import store as this_version
from videre.errors import EngineError

pytestmark = pytest.mark.process


def use_format(version: str, patch: pytest.MonkeyPatch) -> None:
    """Make new nodes write another format."""
    patch.setattr(this_version, "FORMAT", version)


async def let_expire(server: Valkey, nodes: Nodes) -> None:
    """Check that the store forgets the format a lease after the last beat, and have it do so."""
    key = nodes.all[0].engine._node.store._format
    assert 0 < await server.ask("PTTL", key) <= 1000 * LEASE
    await server.ask("PEXPIRE", key, 0)


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
    server: Valkey,
    nodes: Nodes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It says why, once, and the first goes on; when all nodes of that have ended, it starts."""
    one = await nodes.add()
    a = await one.join("a")
    with monkeypatch.context() as patch:
        use_format("4", patch)
        two = await nodes.add()
        why = "another version of videre-server uses the store (its format is 3, ours is 4): "
        assert two.engine.fault.startswith(why)
        assert not two.engine._node.ready
        with pytest.raises(EngineError):
            await two.join("b")
        await nodes.elapse(LEASE)  # for some more beats, none of which logs it again
        await one.engine.publish("room", a, "text")
        await one.hears("joined", "sent")
        assert one.engine._node.ready and not one.engine.fault
        told = [each for each in caplog.records if "another version" in each.getMessage()]
        assert [each.levelno for each in told] == [logging.ERROR]
        await one.engine.close()
        await let_expire(server, nodes)
        await two.is_ready()
        assert two.engine.fault == ""
        assert await two.engine.rooms(None, 10) == []
        await two.join("b", replace=False)


async def test_the_first_version_is_respected_while_it_runs(server: Valkey, nodes: Nodes) -> None:
    """It wrote no number; its remaining keys are ignored until a FLUSHDB removes them."""
    elder = Elder(server, nodes)
    await elder.beat(LEASE)
    one = await nodes.add()
    await nodes.elapse(LEASE)
    assert "its format is 1," in one.engine.fault
    await elder.beat(0)  # its lease ends
    await one.is_ready()
    await one.join("a")


async def test_the_first_version_is_refused(server: Valkey, nodes: Nodes) -> None:
    """Its own first command fails, so it is not ready until none of our nodes runs."""
    one = await nodes.add()
    elder = Elder(server, nodes)
    with pytest.raises(Exception, match="WRONGTYPE"):
        await elder.beat(LEASE)
    await one.engine.close()
    await let_expire(server, nodes)
    await elder.beat(LEASE)


async def test_a_node_that_was_frozen_while_another_version_started(
    server: Valkey, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no longer ready and says why; it mixes nothing with the other version's data."""
    one = await nodes.add()
    await one.join("a")
    await one.freeze()
    await let_expire(server, nodes)
    with monkeypatch.context() as patch:
        use_format("4", patch)
        two = await nodes.add()
        await two.is_ready()
        await two.join("b")
    one.thaw()
    await nodes.until(lambda: not one.engine._node.ready)
    assert "its format is 4," in one.engine.fault
    assert await two.engine.members("room") == ["b"]


async def test_readiness_says_why(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """`/ready` gives the reason for which a server takes no clients."""
    config = Config(engine=server.url, node_timeout=LEASE)
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
