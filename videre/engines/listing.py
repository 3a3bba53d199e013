"""The list of an engine's rooms, page by page."""

from __future__ import annotations

from videre.engines import Engine

#: Names to request at a time when all are wanted.
PAGE = 1000


async def list_rooms(engine: Engine, after: str | None, limit: int | None) -> list[str]:
    """Return a page of an engine's rooms (see Engine.rooms); all after `after` if `limit` is None.

    Raises EngineError.
    """
    found: list[str] = []
    while True:
        page = await engine.rooms(after, PAGE if limit is None else limit)
        found += page
        if limit is not None or len(page) < PAGE:
            return found
        after = page[-1]
