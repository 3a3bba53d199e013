"""The format of log lines: JSON for programs, text for people.

Room ids are secrets: only their first 6 characters, and at most half of an id, are shown. Payloads
never get here.
"""

from __future__ import annotations

import datetime
import functools
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

#: Characters to log of a room id or session id; at most half of it.
SHOWN = 6

# Lines per batch for a terminal: more than a person reads, too few to stall the terminal.
TERMINAL_LINES = 100

#: A line before formatting: Unix time, level, event and fields. For speed, a packet's fields are a
#: tuple: prefix, event, user, room, size.
Fields = dict[str, Any] | tuple[str, str, str, str, int]
Line = tuple[float, int, str, Fields]


def shortened(secret: str) -> str:
    """Return the part of a room id or session id that may be logged."""
    return secret[: min(SHOWN, len(secret) // 2)]


def packet_fields(prefix: str, event: str, user: str, room: str, size: int) -> dict[str, Any]:
    """Return a packet's fields by name, with its room id shortened."""
    head = {"packet": event, "user": user, "room": shortened(room)}
    return {**head, "size": size, "prefix": prefix}


def _lines(record: logging.LogRecord, level: int) -> Iterator[dict[str, Any]]:
    """Yield a record's lines as dictionaries; of a batch, those of `level` or above."""
    batch: list[Line] | None = getattr(record, "lines", None)
    if batch is None:
        line = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "") or record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.name != "videre":
            line["logger"] = record.name
        if record.exc_info:
            line["traceback"] = logging.Formatter().formatException(record.exc_info)
        yield line
        return
    for created, grade, event, fields in batch:
        if grade < level:
            continue
        if isinstance(fields, tuple):
            fields = packet_fields(*fields)
        head = {"time": _time(created), "level": logging.getLevelName(grade).lower()}
        yield {**head, "event": event, **fields}


def _time(seconds: float) -> str:
    milliseconds = int(seconds * 1000)
    return f"{_second(milliseconds // 1000)}.{milliseconds % 1000:03d}+00:00"


@functools.lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


@functools.lru_cache(maxsize=4)
def _clock(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds).strftime("%H:%M:%S")


class JSONFormatter(logging.Formatter):
    """Formats lines of `level` or above as JSON objects: time (UTC), level, event and fields."""

    def __init__(self, level: int = logging.DEBUG) -> None:
        super().__init__()
        self.level = level

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, or the lines of a batch."""
        return "\n".join(map(_json, _lines(record, self.level)))


def _json(value: object) -> str:
    try:
        text = orjson.dumps(value, default=str).decode()
    except TypeError:  # a lone surrogate: a header or path was not UTF-8
        return json.dumps(value, default=str)
    # Escape non-ASCII, so that a name's control and direction characters cannot fool log readers.
    return text if text.isascii() else json.dumps(value, default=str)


def pairs(fields: Mapping[str, object]) -> str:
    """Return fields as `key=value ...` on one line: values are JSON, in ASCII."""
    return " ".join(f"{key}={_json(value)}" for key, value in fields.items())


class TextFormatter(logging.Formatter):
    """Formats lines of `level` or above for people: time, level, event and fields.

    Shows up to `most` lines of a batch and the number of further ones; all lines if it is None.
    """

    def __init__(self, level: int = logging.INFO, *, most: int | None = TERMINAL_LINES) -> None:
        super().__init__()
        self.level = level
        self._most = most

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line, or the lines of a batch."""
        if not hasattr(record, "lines"):
            return self._text(record.created, next(_lines(record, self.level)))
        batch: list[Line] = record.lines
        # Skip "listen": the command prints that itself.
        told = [line for line in batch if line[1] >= self.level and line[2] != "listen"]
        short = logging.makeLogRecord({"lines": told[: self._most]})
        texts = [
            self._text(created, line)
            for (created, *_), line in zip(told, _lines(short, self.level), strict=False)
        ]
        if len(told) > len(texts):
            texts.append(f"... and {len(told) - len(texts)} more")
        return "\n".join(texts)

    @staticmethod
    def _text(created: float, line: dict[str, Any]) -> str:
        level, event = line.pop("level"), line.pop("event")
        trace = line.pop("traceback", "")
        fields = pairs({key: line[key] for key in line if key not in ("time", "prefix")})
        text = f"{_clock(int(created))} {level:7} {event} {fields}".rstrip()
        return f"{text}\n{trace}" if trace else text
