"""The log: what is recorded of rooms and packets, and how an application writes it down.

The library is given a logger and never configures one: `EventLog` turns events into its records.
`Logging` is for the command line: JSON lines in a rotating file, written by a thread of its own,
and lines for people on the terminal; or, without a file, all of it on the standard output.

Room ids are secrets, of which the first 6 characters are logged; payloads never are.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from videre.formatters import TERMINAL_LINES, JSONFormatter, Line, TextFormatter, shortened
from videre.writers import File, Output, Writer, end

# Seconds for which records are collected, and how many of packets are kept in them: more than so
# many packets a second are sampled, so that the log of a busy server costs no more than this.
BATCH_SECONDS = 0.25
BATCH_PACKETS = 500

_LEVELS = {
    "error": logging.WARNING,
    "reload-refused": logging.WARNING,
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
            if isinstance(handler, _Handler):
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


# Whose records are written, and of which level at least.
_LOGGERS = {"videre": logging.DEBUG, "aiohttp": logging.WARNING, "asyncio": logging.WARNING}

#: How a terminal's lines are written.
Form = Literal["text", "json"]


class _Handler(logging.Handler):
    """Gives records to a writer; its formatter is used in the writer's thread."""

    def __init__(self, target: str, writer: Writer, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self.target = target  # of which there is one each
        self.writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self.writer.put(lambda: self.format(record), len(getattr(record, "lines", (None,))))


class Logging:
    """Where videre and aiohttp log to, until `end`. For applications: a site has its own.

    With a `file`: JSON lines into it at `level`, and on the terminal (the standard error output)
    what is info or above. Without one: all of it on the standard output, and nothing elsewhere.
    What is not in the file is text for people, or JSON lines, as `form` says. Raises OSError if
    `file` cannot be opened.
    """

    def __init__(
        self,
        level: str,
        file: Path | None,
        *,
        form: Form = "text",
        max_bytes: int = 0,
        backups: int = 0,
    ) -> None:
        most = TERMINAL_LINES if file else None  # it is the log itself, or beside it
        self._shown = TextFormatter(most=most) if form == "text" else JSONFormatter()
        tell_lost = _lost_text if form == "text" else _lost_line
        if file is None:
            self._writers = [Writer(Output(1), tell_lost)]
            self._terminal = _Handler("terminal", self._writers[0], self._shown)
            handlers = [self._terminal]
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            target = File(file, max_bytes=max_bytes, backups=backups)
            self._writers = [Writer(Output(2), tell_lost), Writer(target, _lost_line)]
            self._terminal = _Handler("terminal", self._writers[0], self._shown)
            handlers = [self._terminal, _Handler("file", self._writers[1], JSONFormatter())]
        self._handlers = handlers
        self._least = logging.DEBUG if file is None else logging.INFO
        self.set_level(level)
        for name in _LOGGERS:
            for handler in handlers:
                logging.getLogger(name).addHandler(handler)
        for writer in self._writers:
            writer.start()

    def set_level(self, level: str) -> None:
        """Log what is of this level or above; of aiohttp and asyncio, no more than warnings."""
        threshold = logging.getLevelNamesMapping()[level.upper()]
        self._shown.level = max(threshold, self._least)
        self._terminal.setLevel(self._shown.level)
        for name, least in _LOGGERS.items():
            logging.getLogger(name).setLevel(max(threshold, least))

    def reopen(self) -> None:
        """Go on in a new file of the same name: whoever rotates it has moved the old one away."""
        for writer in self._writers:
            writer.reopen()

    def end(self) -> None:
        """Write the last records, and log no more."""
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.NOTSET)
            for handler in self._handlers:
                logging.getLogger(name).removeHandler(handler)
        end(self._writers)


def _lost(count: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": "videre",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": "log-records-lost",
            "fields": {"count": count},
        }
    )


def _lost_line(count: int) -> str:
    return JSONFormatter().format(_lost(count))


def _lost_text(count: int) -> str:
    return TextFormatter().format(_lost(count))
