"""What a line of the log looks like: JSON for programs, text for people.

Room ids are secrets, of which the first 6 characters are shown; payloads never come here.
"""

from __future__ import annotations

import datetime
import functools
import json
import logging
from collections.abc import Iterator
from typing import Any

import orjson

#: Characters of a room id or session id that are logged; of a short one, not more than half.
SHOWN = 6

# Lines of one batch that a terminal gets: more than a person reads, less than stops a terminal.
TERMINAL_LINES = 100

#: A line before it is written: Unix time, level, event and fields. Of a packet, to be quick about
#: it, only the values: prefix, event, user, room, size.
Fields = dict[str, Any] | tuple[str, str, str, str, int]
Line = tuple[float, int, str, Fields]


def shortened(secret: str) -> str:
    """Return the part of a room id or session id that may be logged."""
    return secret[: min(SHOWN, len(secret) // 2)]


def _lines(record: logging.LogRecord, level: int) -> Iterator[dict[str, Any]]:
    """Yield what a record says, as one dictionary for each line of the log, from `level` on."""
    batch: list[Line] | None = getattr(record, "lines", None)
    if batch is None:
        line = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
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
            prefix, kind, user, room, size = fields
            fields = {"packet": kind, "user": user, "room": shortened(room), "size": size}
            fields["prefix"] = prefix
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
    """One JSON object a line: time (UTC), level, event, and its fields, from `level` on."""

    def __init__(self, level: int = logging.DEBUG) -> None:
        super().__init__()
        self.level = level

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines: one for each of a batch."""
        return "\n".join(map(_json, _lines(record, self.level)))


def _json(value: object) -> str:
    try:
        text = orjson.dumps(value, default=str).decode()
    except TypeError:  # a lone surrogate: bytes of a header or a path that are no UTF-8
        return json.dumps(value, default=str)
    # ASCII: no control or direction character of a name reaches who reads the log.
    return text if text.isascii() else json.dumps(value, default=str)


class TextFormatter(logging.Formatter):
    """Lines for people: the time, the level, the event and its fields, from `level` on.

    `most` lines of a batch are shown, and how many more there are; all, if it is None.
    """

    def __init__(self, level: int = logging.INFO, *, most: int | None = TERMINAL_LINES) -> None:
        super().__init__()
        self.level = level
        self._most = most

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines."""
        if not hasattr(record, "lines"):
            return self._text(record.created, next(_lines(record, self.level)))
        batch: list[Line] = record.lines
        # What the command prints itself is not said twice.
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
        fields = " ".join(
            f"{key}={_json(value)}" for key, value in line.items() if key not in ("time", "prefix")
        )
        text = f"{_clock(int(created))} {level:7} {event} {fields}".rstrip()
        return f"{text}\n{trace}" if trace else text
