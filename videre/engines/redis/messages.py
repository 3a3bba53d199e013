"""The messages of rooms, as room.lua writes them, and the events that they report."""

from __future__ import annotations

from typing import Any

import orjson

from videre.engines.events import Event, Joined, Left, Moved, Sent
from videre.reasons import LeaveReason

# Reason for giving up the seats of a dead node, as room.lua writes it.
NODE_LOST = "node lost"


def event_of(line: list[Any], body: str) -> Event:
    """Return the event that a message reports, which is one of the four below."""
    return _EVENTS[line[1]](line, body)


def _joined(line: list[Any], body: str) -> Event:
    head, tail = orjson.loads(body)
    return Joined(line[2], line[3], (head, tail))


def _moved(line: list[Any], body: str) -> Event:
    return Moved(line[2], line[3], line[4], line[6] or None, body)


def _left(line: list[Any], _body: str) -> Event:
    reason = LeaveReason.ENGINE if line[4] == NODE_LOST else line[4]
    return Left(line[2], line[3], reason, line[5] or None, line[6] or None)


def _sent(line: list[Any], body: str) -> Event:
    to = None if line[4] is False else list(line[4])  # cjson writes {} for an empty list
    return Sent(line[2], line[3], body, to)


_EVENTS = {"joined": _joined, "moved": _moved, "left": _left, "sent": _sent}
