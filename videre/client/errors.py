"""What ends a client's seat; what refuses one packet is a PeerError of videre.errors."""

from __future__ import annotations

from videre.errors import VidereError


class Closed(VidereError):
    """The connection was closed, and there is no use in another: `code` and `reason` say why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class Unreachable(VidereError):
    """No connection could be made, at the start or within `give_up_after`."""


class Overflow(VidereError):
    """The application did not take what came: more waits for it than a client keeps."""
