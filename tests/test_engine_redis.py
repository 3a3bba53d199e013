"""The engine of many processes, on a real Valkey: what every engine does, and what nodes share."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from engine_contract import EngineContract
from valkey_server import Valkey, valkey

from videre.engines import Retention
from videre.engines.redis import RedisEngine
from videre.engines.redis.store import RedisStore


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    """Run one server for all tests; each has a namespace of its own."""
    async with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


class TestRedisEngine(EngineContract):
    """The contract."""

    @pytest.fixture
    def made(self, server: Valkey, retention: Retention) -> RedisEngine:
        """Give a node in a namespace of its own."""
        store = RedisStore(
            server.url, uuid.uuid4().hex, keep_ms=60_000, keep_bytes=retention.max_bytes
        )
        return RedisEngine(store, retention=retention)
