"""The journal: what is recorded of rooms and packets.

The library is given a logger and never configures one: `EventLog` turns events into its records.

Room ids are secrets, of which the first 6 characters are logged; payloads never are.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from videre.logs.formatters import Line, shortened
from videre.logs.handlers import Handler

# Seconds for which records are collected, and how many of packets are kept in them: more than so
# many packets a second are sampled, so that the log of a busy server costs no more than this.
BATCH_SECONDS = 0.25
BATCH_PACKETS = 500

_LEVELS = {
    "error": logging.WARNING,
    "config-complaint": logging.WARNING,
    "few-descriptors": logging.WARNING,
    "reload-refused": logging.WARNING,
    "sockets-refused": logging.WARNING,
    "too-many-lost-seats": logging.WARNING,
    "session": logging.DEBUG,
    "session-seated": logging.DEBUG,
    "session-ended": logging.DEBUG,
}


class Journal:
    """Brings lines to a logger: packets in batches, all else one by one, or, if `batched`, too.

    A batched one is for handlers that know what a batch is, those of `Logging`: a record has
    `lines`, and costs a tenth of as many records.
    """

    def __init__(self, logger: logging.Logger, *, batched: bool = False) -> None:
        self._logger = logger
        self._batched = batched
        self._lines: list[Line] = []
        self._packets = 0
        self._left_out = 0
        self._flush_due = False
        #: Packets that were not recorded, because there were too many.
        self.left_out = 0

    def enabled(self, level: int) -> bool:
        """Tell whether lines of this level are wanted."""
        return self._logger.isEnabledFor(level)

    def record(self, level: int, event: str, fields: dict[str, Any]) -> None:
        """Bring a line to the logger, after those that came before it."""
        if not self._logger.isEnabledFor(level):
            return
        if self._batched:
            self._add((time.time(), level, event, fields))
        else:
            self.flush()
            self._logger.log(level, event, extra={"fields": fields})

    def packet(self, *values: Any) -> None:
        """Bring a packet's line to the logger: prefix, event, user, room and size."""
        if self._packets >= BATCH_PACKETS:
            self._left_out += 1
            self.left_out += 1
            return
        self._packets += 1
        self._add((time.time(), logging.DEBUG, "packet", values))

    def _add(self, line: Line) -> None:
        self._lines.append(line)
        if not self._flush_due:
            self._flush_due = True
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:  # before the loop runs, and after it
                self.flush()
            else:
                loop.call_later(BATCH_SECONDS, self.flush)

    @property
    def losses(self) -> dict[tuple[str, str], int]:
        """How many records were dropped since the log was configured, by target and reason.

        Of what a site's own handlers do with records nothing is known.
        """
        found = {("journal", "sampled"): self.left_out}
        for handler in self._logger.handlers:
            if isinstance(handler, Handler):
                for reason, count in handler.writer.losses.items():
                    found[handler.target, reason] = count
        return found

    def flush(self) -> None:
        """Bring what was collected to the logger."""
        self._flush_due = False
        lines, self._lines = self._lines, []
        left_out, self._left_out = self._left_out, 0
        self._packets = 0
        if left_out:
            now = time.time()
            lines.append((now, logging.DEBUG, "packets-left-out", {"count": left_out}))
        if lines:
            level = max(line[1] for line in lines)
            self._logger.log(level, "events", extra={"lines": lines})


class EventLog:
    """Records the events of one namespace. Call it: `log("join", room=..., user=...)`."""

    def __init__(self, journal: Journal, prefix: str) -> None:
        self._journal = journal
        self._prefix = prefix

    def __call__(self, event: str, /, **fields: Any) -> None:
        """Record an event, with the namespace and the fields; a room is shortened."""
        if "room" in fields:
            fields["room"] = shortened(fields["room"])
        if self._prefix:
            fields["prefix"] = self._prefix
        self._journal.record(_LEVELS.get(event, logging.INFO), event, fields)

    @property
    def trace(self) -> Callable[[str, str, str, int], None] | None:
        """What records a packet's header and size (in characters); None unless at debug level."""
        if not self._journal.enabled(logging.DEBUG):
            return None
        return functools.partial(self._journal.packet, self._prefix)

    def flush(self) -> None:
        """Bring what was collected to the logger."""
        self._journal.flush()
