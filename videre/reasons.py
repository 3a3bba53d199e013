"""Why seats are given up and sessions end: one vocabulary for log, metrics and hooks."""

from __future__ import annotations

import dataclasses
import enum

from videre.errors import CloseCode


class LeaveReason(enum.StrEnum):
    """Why a seat is given up, and why a session ends (docs/operations.md)."""

    DISCONNECT = "disconnect"
    MOVED = "moved"
    CLOSED_BY_CLIENT = "closed-by-client"
    CLOSED_BY_SERVER = "closed-by-server"
    CONNECTION_LOST = "connection-lost"
    GRACE_OVER = "grace-over"
    REPLACED = "replaced"
    REMOVED = "removed"
    ENGINE = "engine"
    OTHER = "other"

    @classmethod
    def of(cls, word: str, code: int | None = None) -> LeaveReason:
        """Return the LeaveReason for the word and the close code with which an engine ends a seat.

        With CloseCode.REMOVED the words are the application's. A word that another version of this
        server wrote to the store counts as OTHER.
        """
        if code == CloseCode.REMOVED:
            return cls.REMOVED
        return cls(word) if word in _WORDS else cls.OTHER


_WORDS = frozenset(LeaveReason)


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """How a session ended."""

    reason: LeaveReason
    code: int | None = None  # the close code, whichever side sent it; None: there was none
    clean: bool = False  # True: the client does not come back, and its seat is given up at once
    detail: str = ""  # more, for the log

    def fields(self) -> dict[str, object]:
        """Return the fields for a log line."""
        fields: dict[str, object] = {"reason": self.reason}
        if self.code is not None:
            fields["code"] = self.code
        if self.detail:
            fields["detail"] = self.detail
        return fields


#: The connection broke, or counts as broken.
LOST = End(LeaveReason.CONNECTION_LOST)
SILENT = End(LeaveReason.CONNECTION_LOST, detail="silent")
POLLING_STOPPED = End(LeaveReason.CONNECTION_LOST, detail="polling stopped")
#: The application stops, and the client has not answered the close.
STOPPED = End(LeaveReason.CLOSED_BY_SERVER, detail="stopped")
