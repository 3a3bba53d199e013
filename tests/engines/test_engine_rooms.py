"""A list of rooms in a store: pages, whose cost does not grow, and which nobody else waits for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_nodes import Node, Nodes
from valkey_server import Valkey

from videre.engines.redis.store import RedisStore
from videre.errors import EngineError


pytestmark = pytest.mark.process
