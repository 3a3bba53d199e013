"""One ICE connection of a Path."""

from __future__ import annotations

import asyncio
from typing import Any

from aioice import Connection


class Route(Connection):
    """An ICE connection that records when it last heard from the other end."""

    heard = 0.0  # by the event loop's clock

    def __init__(self, *, ice_controlling: bool, **options: Any) -> None:
        super().__init__(ice_controlling=ice_controlling, **options)
        self.checked = asyncio.Event()  # by the other end, which has our description then
        self.end = asyncio.timeout(None)  # of listening to it
        self._gathering: asyncio.Task[None] | None = None

    async def gather_candidates(self) -> None:
        """Gather candidates, in a task: cancelled, aioice would forget what it has opened so far.

        Those are sockets, and allocations, which it would renew for ever.
        """
        if self._gathering is None:
            self._gathering = asyncio.create_task(super().gather_candidates())
        await asyncio.shield(self._gathering)

    async def close(self) -> None:
        """Close, once all is open: that takes aioice 5 s at most."""
        if self._gathering is not None:
            await asyncio.wait([self._gathering])
        await super().close()

    def data_received(self, *args: Any) -> None:
        """Receive a datagram."""
        self.heard = asyncio.get_running_loop().time()
        super().data_received(*args)

    def check_incoming(self, *args: Any) -> None:
        """Handle a check, which is genuine: browsers send one every 2.5 s, aioice every 5 s."""
        self.heard = asyncio.get_running_loop().time()
        self.checked.set()
        super().check_incoming(*args)
