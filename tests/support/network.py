"""A network namespace for a server: one cable leads to its store, another one to its clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cable import Cable, namespace, no_cables
from process import missing, require


@dataclass(frozen=True)
class Island:
    """The place of a server with one cable to its store and one to its clients."""

    name: str
    store: Cable
    node: Cable

    @property
    def within(self) -> tuple[str, ...]:
        """The beginning of a command that runs there."""
        return (require("ip"), "netns", "exec", self.name)


@asynccontextmanager
async def island() -> AsyncIterator[Island]:
    """Give a namespace, and have the test in another one; skip it where that is impossible."""
    if fault := no_cables():
        missing(fault)
    async with namespace() as name:
        place = Island(name, Cable(name), Cable(name))
        await place.store.lay()
        await place.node.lay()
        yield place
