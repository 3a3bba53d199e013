"""The log: what is recorded of rooms and packets, and how an application writes it down.

The library is given a logger and never configures one: `EventLog` turns events into its records.
`configure` is for the command line: JSON lines in a rotating file, written by a thread of its own,
and lines for people on the terminal.

Room ids are secrets, of which the first 6 characters are logged; payloads never are.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import logging.handlers
import queue
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Characters of a room id or session id that are logged; of a short one, not more than half.
SHOWN = 6

# Seconds for which packet records are collected, and how many of them are written: more than so
# many packets a second are sampled, so that the log of a busy server costs no more than this.
BATCH_SECONDS = 0.25
BATCH_RECORDS = 500

# Records that wait for the writer, before new ones are dropped and counted.
QUEUE_RECORDS = 10_000

_LEVELS = {"error": logging.WARNING, "session": logging.DEBUG}


def shortened(secret: str) -> str:
    """Return the part of a room id or session id that may be logged."""
    return secret[: min(SHOWN, len(secret) // 2)]


class EventLog:
    """Records events of one namespace on a logger. Call it: `log("join", room=..., user=...)`."""

    def __init__(self, logger: logging.Logger, prefix: str) -> None:
        self._logger = logger
        self._prefix = prefix
        self._packets: list[tuple[float, str, str, str, int]] = []
        self._left_out = 0
        self._flush_due = False

    def __call__(self, event: str, /, **fields: object) -> None:
        """Record an event, with the namespace and the fields; a room is shortened."""
        level = _LEVELS.get(event, logging.INFO)
        if self._logger.isEnabledFor(level):
            self._flush()  # records stand in the order in which things happened
            self._record(level, event, fields)

    def _record(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if "room" in fields:
            fields["room"] = shortened(fields["room"])
        fields["prefix"] = self._prefix
        self._logger.log(level, event, extra={"fields": fields})

    @property
    def trace(self) -> Callable[[str, str, str, int], None] | None:
        """What records a packet's header and size (in characters); None unless at debug level."""
        return self._trace if self._logger.isEnabledFor(logging.DEBUG) else None

    def _trace(self, event: str, user: str, room: str, size: int) -> None:
        if len(self._packets) >= BATCH_RECORDS:
            self._left_out += 1
            return
        self._packets.append((time.time(), event, user, room, size))
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_later(BATCH_SECONDS, self._flush_on_time)

    def _flush_on_time(self) -> None:
        self._flush_due = False
        self._flush()

    def _flush(self) -> None:
        batch, self._packets = self._packets, []
        if batch:
            self._logger.debug("packets", extra={"packets": batch, "prefix": self._prefix})
        if self._left_out:
            self._record(logging.DEBUG, "packets-left-out", {"count": self._left_out})
            self._left_out = 0


def _lines(record: logging.LogRecord) -> Iterator[dict[str, Any]]:
    """Yield what a record says, as one dictionary for each line of the log."""
    head = {"time": _time(record.created), "level": record.levelname.lower()}
    if (batch := getattr(record, "packets", None)) is not None:
        for created, event, user, room, size in batch:
            yield {
                "time": _time(created),
                "level": "debug",
                "event": "packet",
                "packet": event,
                "user": user,
                "room": shortened(room),
                "size": size,
                "prefix": getattr(record, "prefix", ""),
            }
        return
    fields: dict[str, Any] = getattr(record, "fields", {})
    line = {**head, "event": record.getMessage(), **fields}
    if record.name != "videre":
        line["logger"] = record.name
    if record.exc_info:
        line["traceback"] = logging.Formatter().formatException(record.exc_info)
    yield line


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds")


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, event, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines: one for each packet of a batch."""
        # ASCII: no control or direction character of a name reaches who reads the log.
        return "\n".join(json.dumps(line, default=str) for line in _lines(record))


class TextFormatter(logging.Formatter):
    """Lines for people: the time, the level, the event and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by a traceback if there is one."""
        line, *_ = _lines(record)
        moment = datetime.datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        trace = line.pop("traceback", "")
        event = line.pop("event")
        rest = {key: value for key, value in line.items() if key not in ("time", "level", "prefix")}
        fields = " ".join(f"{key}={json.dumps(value, default=str)}" for key, value in rest.items())
        text = f"{moment} {record.levelname.lower():7} {event} {fields}".rstrip()
        return f"{text}\n{trace}" if trace else text


class _FileHandler(logging.handlers.RotatingFileHandler):
    """A rotating file that may fail: a full disk costs records, which are counted, never more."""

    failed = 0

    def emit(self, record: logging.LogRecord) -> None:
        before = self.failed
        super().emit(record)
        if before and self.failed == before:
            self.failed = 0
            lost = logging.LogRecord("videre", logging.WARNING, "", 0, "log-records-lost", (), None)
            lost.fields = {"count": before}
            super().emit(lost)

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            print(f"videre: cannot write the log: {sys.exc_info()[1]}", file=sys.stderr)
        self.failed += 1


class _QueueHandler(logging.handlers.QueueHandler):
    """Hands records to the writer as they are, and drops what it cannot keep up with."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def configure(level: str, file: Path | None, *, max_bytes: int, backups: int) -> Callable[[], None]:
    """Write what videre and aiohttp log to `file` (at `level`) and the terminal (info or above).

    Returns what ends it, the file's last records written. Raises OSError if `file` cannot be
    opened. For applications: a site that hosts videre configures its own logging.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(TextFormatter())
    terminal.setLevel(max(threshold, logging.INFO))
    terminal.addFilter(lambda record: record.getMessage() != "listen")  # the command prints it
    handlers: list[logging.Handler] = [terminal]
    listener = None
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        writer = _FileHandler(file, maxBytes=max_bytes, backupCount=backups, encoding="utf-8")
        writer.setFormatter(JSONFormatter())
        records: queue.Queue[logging.LogRecord] = queue.Queue(QUEUE_RECORDS)
        handlers.append(_QueueHandler(records))
        listener = logging.handlers.QueueListener(records, writer)
        listener.start()
    loggers = {
        logging.getLogger("videre"): threshold,
        logging.getLogger("aiohttp"): max(threshold, logging.WARNING),
        logging.getLogger("asyncio"): max(threshold, logging.WARNING),
    }
    for logger, its_level in loggers.items():
        logger.setLevel(its_level)
        for handler in handlers:
            logger.addHandler(handler)

    def end() -> None:
        for logger in loggers:
            for handler in handlers:
                logger.removeHandler(handler)
        if listener is not None:
            listener.stop()
            for handler in listener.handlers:
                handler.close()

    return end
