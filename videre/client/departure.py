"""A connection's end at a time that the server has announced."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from videre.client.connection import Connection
from videre.client.wire import Packet


def due(goaway: Packet) -> float:
    """Return the time of the event loop that a `goaway` which has just arrived names."""
    seconds: float = goaway.value()["RetryAfter"] / 1000
    return asyncio.get_running_loop().time() + seconds


class Departure:
    """Closes a connection with `code` at the time the server named, after all packets already sent.

    The client keeps receiving meanwhile. If it stopped, it would not wait for the closing
    handshake, and the server could lose what it has not read yet. `begun` is called before the
    close, to stop further sending.
    """

    def __init__(self, connection: Connection, code: int, begun: Callable[[], None]) -> None:
        self._connection = connection
        self._code = code
        self._begun = begun
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    def schedule(self, due: float) -> None:
        """Close at this time of the event loop; replaces an earlier time."""
        self._cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._begin)

    def _begin(self) -> None:
        if self._closing is None:
            self._begun()
            self._closing = asyncio.create_task(self._connection.close(self._code))

    async def over(self) -> bool:
        """Tell whether this object closed the connection; if so, the server has read everything."""
        self._cancel()
        if self._closing is None:
            return False
        await self._closing
        return True

    async def end(self) -> None:
        """Cancel the close, even if it has begun."""
        self._cancel()
        if self._closing is not None:
            self._closing.cancel()
            await asyncio.wait([self._closing])

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
