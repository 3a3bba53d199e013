"""Choose an engine by its URL."""

from __future__ import annotations

import time
from typing import Any

from videre.engines import Engine
from videre.engines.history import UNNOTICED
from videre.engines.memory import MemoryEngine
from videre.errors import EngineError
from videre.interfaces import Later
from videre.settings import MEMORY, Retention
from videre.tally import Tally


def make(
    url: str,
    namespace: str,
    retention: Retention,
    node_timeout: float,
    later: Later,
    tally: Tally | None = None,
) -> Engine:
    """Return an engine for the rooms of one namespace. `node_timeout` is in seconds.

    A store's steps are timed in the `tally`; steps in memory take no longer than reading a clock.
    """
    if url == MEMORY:
        return MemoryEngine(clock=time.monotonic, later=later, retention=retention)
    from videre.engines.redis import RedisEngine  # only where it is installed

    store = _store(url, namespace, retention, node_timeout)
    return RedisEngine(store, retention=retention, node_timeout=node_timeout, tally=tally)


async def attempt(url: str, namespace: str, node_timeout: float) -> str:
    """Try the engine of a namespace, without taking part; return why it cannot be used, or ""."""
    if url == MEMORY:
        return ""
    from videre.engines.redis.outage import Outage

    store = _store(url, namespace, Retention(), node_timeout)
    outage = Outage(store.where)
    try:
        await store.open(lambda *_: None, lambda: None)
        await store.try_to_write()
    except EngineError as error:
        return outage.words(error)
    finally:
        await store.close()
    return ""


def _store(url: str, namespace: str, retention: Retention, node_timeout: float) -> Any:
    from videre.engines.redis.connecting import command_seconds
    from videre.engines.redis.store import RedisStore

    return RedisStore(
        url,
        namespace,
        keep_ms=round((UNNOTICED + retention.grace) * 1000),
        keep_bytes=retention.max_bytes,
        timeout=command_seconds(node_timeout),
    )
