"""The journal: records the events of rooms and packets.

The library gets a logger and never configures one; `EventLog` turns events into log records.

Room ids are secrets: only their first 6 characters, and at most half of an id, are logged. Payloads
never are.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from videre.logs.formatters import Line, packet_fields, pairs, shortened
from videre.logs.handlers import Handler

# Seconds to collect records for, and packets to keep of each such period. The rest is counted but
# not logged, which bounds the cost of a busy server's log.
BATCH_SECONDS = 0.25
BATCH_PACKETS = 500

_LEVELS = {
    "error": logging.WARNING,
    "config-complaint": logging.WARNING,
    "few-descriptors": logging.WARNING,
    "hook-failed": logging.ERROR,
    "reload-refused": logging.WARNING,
    "sockets-refused": logging.WARNING,
    "too-many-lost-seats": logging.WARNING,
    "session": logging.DEBUG,
    "session-seated": logging.DEBUG,
    "session-ended": logging.DEBUG,
}


class Journal:
    """Passes lines to a logger, each as a record, or in batches if `batched`.

    A batch is one record with an attribute `lines`; it costs a tenth of single records, and its
    packets have whole room ids. It needs handlers that understand it: those of `Logging`.
    """

    def __init__(self, logger: logging.Logger, *, batched: bool = False) -> None:
        self._logger = logger
        self._batched = batched
        self._lines: list[Line] = []
        self._packets = 0
        self._left_out = 0
        self._flush_due = False
        #: Packets not recorded because there were too many.
        self.left_out = 0

    def enabled(self, level: int) -> bool:
        """Tell whether the logger takes lines of this level."""
        return self._logger.isEnabledFor(level)

    def record(
        self, level: int, event: str, fields: dict[str, Any], error: BaseException | None = None
    ) -> None:
        """Log a line of a level that is enabled.

        A single record is `event key=value ...` for ordinary formatters, has `event` and `fields`
        for others, and the traceback of `error`.
        """
        if self._batched:
            self._add((time.time(), level, event, fields))
        else:
            self._log(level, event, fields, error)

    @property
    def packet(self) -> Callable[..., None]:
        """The function that logs a packet's line: from its prefix, event, user, room and size."""
        return self._add_packet if self._batched else self._log_packet

    def _add_packet(self, *values: Any) -> None:
        if self._packets >= BATCH_PACKETS:
            self._leave_out()
            return
        self._packets += 1
        self._add((time.time(), logging.DEBUG, "packet", values))

    def _log_packet(self, *values: Any) -> None:
        if not self.enabled(logging.DEBUG):  # any more
            return
        if self._packets >= BATCH_PACKETS:
            self._leave_out()
            return
        self._packets += 1
        self._log(logging.DEBUG, "packet", packet_fields(*values))
        if not self._flush_due:
            self._flush_later()

    def _leave_out(self) -> None:
        self._left_out += 1
        self.left_out += 1

    def _log(
        self, level: int, event: str, fields: dict[str, Any], error: BaseException | None = None
    ) -> None:
        # The event stays apart from its fields, because error trackers group by `msg`.
        extra = {"event": event, "fields": fields}
        self._logger.log(level, f"{event} %s", pairs(fields), extra=extra, exc_info=error)

    def _add(self, line: Line) -> None:
        self._lines.append(line)
        if not self._flush_due:
            self._flush_later()

    def _flush_later(self) -> None:
        self._flush_due = True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # before or after the event loop runs
            self.flush()
        else:
            loop.call_later(BATCH_SECONDS, self.flush)

    @property
    def losses(self) -> dict[tuple[str, str], int]:
        """Records dropped since the log was configured, by target and reason.

        Does not include records dropped by an application's own handlers.
        """
        found = {("journal", "sampled"): self.left_out}
        for handler in self._logger.handlers:
            if isinstance(handler, Handler):
                for reason, count in handler.writer.losses.items():
                    found[handler.target, reason] = count
        return found

    def flush(self) -> None:
        """Pass the collected lines to the logger, and the number of packets left out."""
        self._flush_due = False
        lines, self._lines = self._lines, []
        left_out, self._left_out = self._left_out, 0
        self._packets = 0
        if left_out:
            event, fields = "packets-left-out", {"count": left_out}
            if self._batched:
                lines.append((time.time(), logging.DEBUG, event, fields))
            else:
                self._log(logging.DEBUG, event, fields)
        if lines:
            level = max(line[1] for line in lines)
            self._logger.log(level, "events", extra={"lines": lines})


class EventLog:
    """Records the events of one namespace. Call it: `log("join", room=..., user=...)`."""

    def __init__(self, journal: Journal, prefix: str) -> None:
        self._journal = journal
        self._prefix = prefix

    def __call__(self, event: str, /, **fields: Any) -> None:
        """Record an event with its fields and the prefix; shorten the room id.

        If the field `error` is an exception, it becomes its type and message.
        """
        level = _LEVELS.get(event, logging.INFO)
        if not self._journal.enabled(level):
            return
        if "room" in fields:
            fields["room"] = shortened(fields["room"])
        if self._prefix:
            fields["prefix"] = self._prefix
        error = fields.get("error")
        if isinstance(error, BaseException):
            fields["error"] = f"{type(error).__name__}: {error}"
        else:
            error = None
        self._journal.record(level, event, fields, error)

    @property
    def trace(self) -> Callable[[str, str, str, int], None] | None:
        """A function that records a packet's header and size (bytes); None above DEBUG."""
        if not self._journal.enabled(logging.DEBUG):
            return None
        return functools.partial(self._journal.packet, self._prefix)

    def flush(self) -> None:
        """Pass the collected lines to the logger."""
        self._journal.flush()
