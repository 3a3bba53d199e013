"""The connection of a resuming client, until it has received the packets that it missed."""

from __future__ import annotations

from collections.abc import Sequence

from videre.interfaces import Connection


class Returning:
    """A resuming client's connection: new packets wait until the missed ones were sent.

    First comes the `greeting` (the announcement with its role, and the welcome), then the missed
    packets, then those sent since it resumed.
    """

    __slots__ = ("_waiting", "connection", "greeting")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.greeting: list[str] = []
        self._waiting: list[str] = []

    def send(self, text: str) -> None:
        """See Connection.send."""
        self._waiting.append(text)

    def close(self, code: int, reason: str) -> None:
        """See Connection.close."""
        self.connection.close(code, reason)

    def arrive(self, missed: Sequence[str]) -> None:
        """Send everything in order. From now on the connection is used directly."""
        for text in (*self.greeting, *missed, *self._waiting):
            self.connection.send(text)
