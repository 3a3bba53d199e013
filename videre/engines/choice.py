"""Which engine a URL stands for."""

from __future__ import annotations

import time

from videre.engines import Engine
from videre.engines.history import UNNOTICED
from videre.engines.memory import MemoryEngine
from videre.interfaces import Later
from videre.settings import MEMORY, Retention


def make(
    url: str, namespace: str, retention: Retention, node_timeout: float, later: Later
) -> Engine:
    """Return an engine for the rooms of one namespace. `node_timeout` is in seconds."""
    if url == MEMORY:
        return MemoryEngine(clock=time.monotonic, later=later, retention=retention)
    from videre.engines.redis import RedisEngine  # only where it is installed
    from videre.engines.redis.connecting import command_seconds
    from videre.engines.redis.store import RedisStore

    store = RedisStore(
        url,
        namespace,
        keep_ms=round((UNNOTICED + retention.grace) * 1000),
        keep_bytes=retention.max_bytes,
        timeout=command_seconds(node_timeout),
    )
    return RedisEngine(store, retention=retention, node_timeout=node_timeout)
