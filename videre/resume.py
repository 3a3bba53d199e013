"""Resuming: what a client is sent is kept for a while, so that a lost connection loses nothing.

A client that asked for a welcome holds a secret. Its seat's way to it is then a Backlog, which
numbers and keeps what passes. When the connection is lost the Backlog takes it in its stead; who
shows the secret in time gets the seat back, and all that it has missed.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

# Seconds for which a packet is kept while the connection is there: it may be dead without our
# having noticed, for 40 s at the most (protocol.md, "disconnect").
UNNOTICED = 40.0


class Timer(Protocol):
    """What can be called off; asyncio.TimerHandle is one."""

    def cancel(self) -> None:
        """Call it off."""


#: Calls back after so many seconds.
Later = Callable[[float, Callable[[], None]], Timer]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resumption:
    """For how long a lost seat is kept, and with how much of what it misses."""

    grace: float  # seconds; 0: never
    max_bytes: int | None  # bytes of UTF-8 in a seat's backlog; None: no limit
    secret: Callable[[], str]  # returns a new one: 128 random bits, in URL-safe characters
    later: Later


class Connection(Protocol):
    """The way to one client; transport/ provides it."""

    def send(self, text: str) -> None:
        """Send a packet. Never blocks and never raises; who reads too slowly is dropped."""

    def close(self, code: int, reason: str) -> None:
        """Close with a code once all that was sent is out. Calls nobody back before it returns."""

    def undelivered(self) -> Sequence[str] | None:
        """Return the last packets that were surely not handed over, None if that is not known."""


class Backlog:
    """The way to a client that may resume: a Connection that remembers.

    Packets are numbered from 1. `clock` is monotonic, in seconds.
    """

    __slots__ = (
        "_bytes",
        "_clock",
        "_kept",
        "_max_bytes",
        "_seen",
        "_sent",
        "connection",
        "secret",
    )

    def __init__(
        self,
        connection: Connection,
        secret: str,
        max_bytes: int | None,
        clock: Callable[[], float],
    ) -> None:
        self.connection: Connection | None = connection  # None: lost
        self.secret = secret
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: deque[tuple[str, float]] = deque()  # the last packets, and when each was sent
        self._bytes = 0
        self._sent = 0  # the number of the last packet
        self._seen: int | None = 0  # once lost: the last that may have arrived; None: not known

    def send(self, text: str) -> None:
        """See Connection.send."""
        now = self._clock()
        self._sent += 1
        self._kept.append((text, now))
        self._bytes += _size(text)
        connection = self.connection
        if connection is not None:
            while self._kept[0][1] < now - UNNOTICED:
                self._drop()
        if self._max_bytes is not None:
            while self._bytes > self._max_bytes:
                self._drop()
        if connection is not None:
            connection.send(text)

    def _drop(self) -> None:
        text, _ = self._kept.popleft()
        self._bytes -= _size(text)

    def close(self, code: int, reason: str) -> None:
        """See Connection.close."""
        if self.connection is not None:
            self.connection.close(code, reason)

    def undelivered(self) -> Sequence[str] | None:
        """See Connection.undelivered."""
        return () if self.connection is None else self.connection.undelivered()

    def lose(self) -> None:
        """Take note that the connection is lost: what comes from now on is missed."""
        if self.connection is not None:
            self._seen = self._arrived()
            self.connection = None

    def _arrived(self) -> int | None:
        """Return the number of the last packet that may have arrived."""
        undelivered = self.undelivered()
        if undelivered is None:
            return None
        # Among these are packets of no number as well, the answers to pings.
        missed = 0
        for text in reversed(undelivered):
            if missed < len(self._kept) and self._kept[-1 - missed][0] is text:
                missed += 1
        return self._sent - missed

    def opens(self, secret: str) -> bool:
        """Tell whether `secret` is the seat's, in a time that does not tell how far it is right."""
        return hmac.compare_digest(secret.encode(errors="replace"), self.secret.encode())

    def missed(self, received: int | None) -> list[str] | None:
        """Return the packets that the client has missed, in order; None if any is not kept.

        `received` is the number of packets that it says to have got. If it does not say, a packet
        that may have arrived is not repeated.
        """
        if received is None:
            received = self._arrived() if self.connection is not None else self._seen
        if received is None or received < self._sent - len(self._kept):
            return None
        count = max(0, self._sent - received)
        texts = [text for text, _ in self._kept]
        return texts[len(texts) - count :]


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
