"""The URL of an engine: which ones there are, and what is wrong with one."""

from __future__ import annotations

import re

from videre.settings import MEMORY

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
