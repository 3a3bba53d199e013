"""The engine for many processes passes the contract of all engines, on every kind of server."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from engine_contract import EngineContract
from fakes import FakeClock
from skipping import skip
from valkey_server import Valkey, redis

from videre import engine_url
from videre.engines import choice
from videre.settings import Retention

pytestmark = pytest.mark.process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Run Debian's Redis."""
    async with redis(tmp_path_factory.mktemp("redis")) as running:
        yield running.url


class RedisContract(EngineContract):
    """The contract, on a server whose URL the fixture `url` gives."""

    @pytest.fixture
    def made(self, url: str, retention: Retention) -> object:
        """Give a node in a namespace of its own."""
        assert engine_url.fault(url) is None
        return choice.make(url, uuid.uuid4().hex, retention, 10.0, FakeClock().later)

    def pass_seconds(self, seconds: float) -> None:
        """See EngineContract.pass_seconds."""
        skip(seconds)


class TestOnValkey(RedisContract):
    """The contract, on Valkey."""

    @pytest.fixture
    def url(self, server: Valkey) -> str:
        """Give the server's URL."""
        return server.url


class TestOnRedis(RedisContract):
    """The contract, on Debian's Redis."""

    @pytest.fixture
    def url(self, redis_url: str) -> str:
        """Give the server's URL."""
        return redis_url


class TestOnCluster(RedisContract):
    """The contract, on a cluster of three."""

    @pytest.fixture
    def url(self, cluster_url: str) -> str:
        """Give the cluster's URL."""
        return cluster_url
