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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from videre.writers import File, Terminal, Writer, end

#: Characters of a room id or session id that are logged; of a short one, not more than half.
SHOWN = 6

# Seconds for which packet records are collected, and how many of them are written: more than so
# many packets a second are sampled, so that the log of a busy server costs no more than this.
BATCH_SECONDS = 0.25
BATCH_RECORDS = 500

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
            self.flush()  # records stand in the order in which things happened
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
        self.flush()

    def flush(self) -> None:
        """Record the packets that were collected."""
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


class _Handler(logging.Handler):
    """Gives records to a writer; its formatter is used in the writer's thread."""

    def __init__(self, writer: Writer, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.put(lambda: self.format(record))


def configure(level: str, file: Path | None, *, max_bytes: int, backups: int) -> Callable[[], None]:
    """Write what videre and aiohttp log to `file` (at `level`) and the terminal (info or above).

    Returns what ends it, the last records written. Raises OSError if `file` cannot be opened. For
    applications: a site that hosts videre configures its own logging.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    writers = [Writer(Terminal(), _lost_text)]
    terminal = _Handler(writers[0], TextFormatter())
    terminal.setLevel(max(threshold, logging.INFO))
    terminal.addFilter(lambda record: record.getMessage() != "listen")  # the command prints it
    handlers = [terminal]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        writers.append(Writer(File(file, max_bytes=max_bytes, backups=backups), _lost_line))
        handlers.append(_Handler(writers[1], JSONFormatter()))
    loggers = {
        logging.getLogger("videre"): threshold,
        logging.getLogger("aiohttp"): max(threshold, logging.WARNING),
        logging.getLogger("asyncio"): max(threshold, logging.WARNING),
    }
    for logger, its_level in loggers.items():
        logger.setLevel(its_level)
        for handler in handlers:
            logger.addHandler(handler)
    for writer in writers:
        writer.start()

    def end_log() -> None:
        for logger in loggers:
            logger.setLevel(logging.NOTSET)
            for handler in handlers:
                logger.removeHandler(handler)
        end(writers)

    return end_log


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
