"""What the rules see of the world: connections, timers, the log, ICE servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol

from videre.ids import RoomId, UserId


class Connection(Protocol):
    """The connection to one client; transport/ provides it."""

    def send(self, text: str) -> None:
        """Send a packet. Never blocks and never raises; a slow consumer is dropped."""

    def close(self, code: int, reason: str) -> None:
        """Close with a code, after everything already sent. Calls nobody back before it returns."""


class Timer(Protocol):
    """A callback that can be cancelled; asyncio.TimerHandle is one."""

    def cancel(self) -> None:
        """Cancel the callback."""


class Pause(Protocol):
    """A wait that can be ended early."""

    def end(self) -> None:
        """End the wait, or do nothing if it has ended."""

    def __await__(self) -> Generator[Any, None, None]: ...


#: Calls a function after a number of seconds.
Later = Callable[[float, Callable[[], None]], Timer]

#: Runs a background task; never raises, and logs a task that fails.
Spawn = Callable[[Awaitable[Any]], None]


class Log(Protocol):
    """Records an event with its fields; it shortens room ids. An `error` may be an exception."""

    def __call__(self, event: str, /, **fields: object) -> None: ...


class Trace(Protocol):
    """Records the header and size of each packet, for the log's debug level."""

    def __call__(self, event: str, user: UserId, room: RoomId, size: int, /) -> None: ...


#: Returns a user's part of the welcome: `IceServers`, `IceTtl`, and maybe more.
Ice = Callable[[UserId], dict[str, Any]]


def no_ice(_user: UserId) -> dict[str, Any]:
    """Return a welcome's `IceServers` and `IceTtl` if no servers are configured."""
    return {"IceServers": [], "IceTtl": None}
