"""Faults: recent warnings and errors by kind, with their count and the time of the last.

Only what all records of a kind share is kept: the event, the code, the type of exception. Other
fields and exception messages may contain secrets; they are only in the log.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections import OrderedDict
from typing import Any

#: Kinds to keep; the one not seen for longest is dropped first.
KEPT = 50

# A placeholder in a logger's message.
_PLACE = re.compile(r"%[a-z]")

# What asyncio writes into its message: a callback's arguments, a task with its exception.
_DETAILS = re.compile(r"[\n(].*", re.DOTALL)


@dataclasses.dataclass
class Fault:
    """One kind of fault; `last` is the Unix time of its last occurrence."""

    level: str
    event: str
    code: str
    count: int = 0
    last: float = 0.0


class Faults(logging.Handler):
    """Counts the loggers' records of WARNING or above; see logs.Journal for batched records."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kinds: OrderedDict[tuple[str, str, str], Fault] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record, or each line of a batched one."""
        batch: list[Any] | None = getattr(record, "lines", None)
        if batch is not None:
            for created, level, event, fields in batch:
                if level >= logging.WARNING:
                    self._count(created, level, event, fields.get("code", ""))
            return
        code = getattr(record, "fields", {}).get("code", "")
        if record.exc_info and record.exc_info[0] is not None:
            code = record.exc_info[0].__name__
        self._count(record.created, record.levelno, _event(record), code)

    def _count(self, when: float, level: int, event: str, code: str) -> None:
        kind = (logging.getLevelName(level).lower(), event, code)
        fault = self._kinds.setdefault(kind, Fault(*kind))
        fault.count += 1
        fault.last = when
        self._kinds.move_to_end(kind)
        if len(self._kinds) > KEPT:
            self._kinds.popitem(last=False)

    def recent(self) -> list[Fault]:
        """Return the kinds of faults, latest first."""
        return list(reversed(self._kinds.values()))


def _event(record: logging.LogRecord) -> str:
    """Return the event that a line of the journal names, or a message without its arguments."""
    if event := getattr(record, "event", ""):
        return str(event)
    message = _PLACE.sub("...", str(record.msg))
    return _DETAILS.sub("", message) if record.name == "asyncio" else message
