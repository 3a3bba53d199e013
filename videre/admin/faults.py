"""Faults: the kinds of warnings and errors of late, how often there were any, and when the last.

Of a record only what is the same for all of its kind is kept: the event, the code, the kind of
exception. Who it was about, and what an exception said, may be secrets, and are in the log.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections import OrderedDict
from typing import Any

#: Kinds that are kept; the one that has not been seen for longest is forgotten first.
KEPT = 50

# A place for an argument, in a logger's message.
_PLACE = re.compile(r"%[a-z]")


@dataclasses.dataclass
class Fault:
    """One kind of fault; `last` is when it last was, in Unix time."""

    level: str
    event: str
    code: str
    count: int = 0
    last: float = 0.0


class Faults(logging.Handler):
    """Keeps what a logger is told of at WARNING or above; see logs.Journal for batched records."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._kinds: OrderedDict[tuple[str, str, str], Fault] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record, or each line of a batch."""
        batch: list[Any] | None = getattr(record, "lines", None)
        if batch is not None:
            for created, level, event, fields in batch:
                if level >= logging.WARNING:
                    self._count(created, level, event, fields.get("code", ""))
            return
        code = getattr(record, "fields", {}).get("code", "")
        if record.exc_info and record.exc_info[0] is not None:
            code = record.exc_info[0].__name__
        event = _PLACE.sub("...", str(record.msg))  # without its arguments
        self._count(record.created, record.levelno, event, code)

    def _count(self, when: float, level: int, event: str, code: str) -> None:
        kind = (logging.getLevelName(level).lower(), event, code)
        fault = self._kinds.setdefault(kind, Fault(*kind))
        fault.count += 1
        fault.last = when
        self._kinds.move_to_end(kind)
        if len(self._kinds) > KEPT:
            self._kinds.popitem(last=False)

    def recent(self) -> list[Fault]:
        """Return the kinds, the latest first."""
        return list(reversed(self._kinds.values()))
