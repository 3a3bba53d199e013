"""What tests of several modules share: one store for each process of pytest, and nodes on it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from engine_nodes import Nodes, nodes_on
from valkey_server import Valkey, valkey


def pytest_collection_finish() -> None:
    """Spare each collection of garbage what was collected of tests: half a second for all."""
    gc.collect()
    gc.freeze()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    """Give a Valkey that nobody stops or harms; each test has a namespace of its own there."""
    async with valkey(tmp_path_factory.mktemp("valkey")) as running:
        yield running


@pytest.fixture
async def nodes(server: Valkey) -> AsyncIterator[Nodes]:
    """Give nodes that share a namespace."""
    async with nodes_on(server.url) as nodes:
        yield nodes
