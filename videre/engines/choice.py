"""Which engine a URL stands for."""

from __future__ import annotations

import re
import time

from videre.engines import Engine, Retention
from videre.engines.history import UNNOTICED
from videre.engines.memory import MemoryEngine
from videre.interfaces import Later

MEMORY = "memory://"

_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?"
_URL = re.compile(
    rf"memory://"
    rf"|rediss?://(?:[^@/\s]*@)?{_HOST}(?:/\d+)?(?:\?\S+)?"
    rf"|rediss?\+cluster://(?:[^@/\s]*@)?{_HOST}(?:\?\S+)?"
    rf"|redis\+sentinel://(?:[^@/\s]*@)?{_HOST}(?:,{_HOST})*/[A-Za-z0-9._-]+"
)


def fault(url: str) -> str | None:
    """Return what is wrong with the URL of an engine; None: nothing."""
    if not _URL.fullmatch(url):
        return (
            "must be memory://, redis://host:port, rediss://..., redis+cluster://..., or "
            "redis+sentinel://host:port,host:port/service"
        )
    if url != MEMORY:
        try:
            import redis  # noqa: F401
        except ImportError:
            return "needs the package redis: pip install 'videre-server[redis]'"
    return None


def make(
    url: str, namespace: str, retention: Retention, node_timeout: float, later: Later
) -> Engine:
    """Return an engine for the rooms of one namespace. `node_timeout` is in seconds."""
    if url == MEMORY:
        return MemoryEngine(clock=time.monotonic, later=later, retention=retention)
    from videre.engines.redis import RedisEngine  # only where it is installed
    from videre.engines.redis.store import RedisStore

    store = RedisStore(
        url,
        namespace,
        keep_ms=round((UNNOTICED + retention.grace) * 1000),
        keep_bytes=retention.max_bytes,
    )
    return RedisEngine(store, retention=retention, node_timeout=node_timeout)
