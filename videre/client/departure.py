"""The end of a connection that its server has announced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from videre.client.connection import Connection


class Departure:
    """Closes a connection when its server said so, with `code`: what was sent before arrives.

    Not by giving up to receive: then the closing handshake would not be waited for, and the server
    lose what it has yet to read. `begun` is called first, so that nothing more is sent.
    """

    def __init__(self, connection: Connection, code: int, begun: Callable[[], None]) -> None:
        self._connection = connection
        self._code = code
        self._begun = begun
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    def schedule(self, due: float) -> None:
        """Let it be at this time of the loop, and not earlier or later."""
        self.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._begin)

    def _begin(self) -> None:
        if self._closing is None:
            self._begun()
            self._closing = asyncio.create_task(self._connection.close(self._code))

    async def over(self) -> bool:
        """Tell whether it is this that has ended the connection; the server has then read all."""
        self.cancel()
        if self._closing is None:
            return False
        await self._closing
        return True

    def cancel(self) -> None:
        """Let it not begin any more."""
        if self._timer is not None:
            self._timer.cancel()
