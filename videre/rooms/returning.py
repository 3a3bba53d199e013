"""The connection of a client that comes back, until it has got what it missed."""

from __future__ import annotations

from collections.abc import Sequence

from videre.interfaces import Connection


class Returning:
    """The way to a client that comes back: what it is sent waits for what it has missed.

    First comes the `greeting`, the announcement with its role and the welcome; then what it has
    missed, then what was sent since it sits again.
    """

    __slots__ = ("_waiting", "announcement", "connection", "greeting")

    def __init__(self, connection: Connection, announcement: tuple[str, str]) -> None:
        self.connection = connection
        self.announcement = announcement  # the halves around its role
        self.greeting: list[str] = []
        self._waiting: list[str] = []

    def send(self, text: str) -> None:
        """See Connection.send."""
        self._waiting.append(text)

    def close(self, code: int, reason: str) -> None:
        """See Connection.close."""
        self.connection.close(code, reason)

    def undelivered(self) -> Sequence[str] | None:
        """See Connection.undelivered."""
        return self._waiting

    def arrive(self, missed: Sequence[str]) -> None:
        """Send all that there is; the connection is used without this from now on."""
        for text in (*self.greeting, *missed, *self._waiting):
            self.connection.send(text)
