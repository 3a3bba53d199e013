"""The messages of rooms, as room.lua writes them, and the events that they report."""

from __future__ import annotations

from typing import Any

import orjson

from videre.engines.events import Joined, Left, Moved, Sent
from videre.errors import CloseCode
from videre.reasons import LeaveReason

# Reason for giving up the seats of a dead node, as room.lua writes it with ENGINE_UNAVAILABLE.
NODE_LOST = "node lost"


def event_of(line: list[Any], body: str) -> Joined | Moved | Left | Sent:
    """Return the event that a message reports."""
    kind = line[1]
    if kind == "sent":
        to = None if line[4] is False else list(line[4])  # cjson writes {} for an empty list
        return Sent(line[2], line[3], body, to)
    if kind == "joined":
        head, tail = orjson.loads(body)
        return Joined(line[2], line[3], (head, tail))
    if kind == "moved":
        return Moved(line[2], line[3], line[4], line[6] or None, body)
    reason = LeaveReason.ENGINE if line[5] == CloseCode.ENGINE_UNAVAILABLE else line[4]
    return Left(line[2], line[3], reason, line[5] or None, line[6] or None)
