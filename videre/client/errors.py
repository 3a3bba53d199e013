"""Errors that end a client's seat. A single refused packet is a PeerError of videre.errors."""

from __future__ import annotations

from collections.abc import Sequence

from videre.errors import VidereError


class Closed(VidereError):
    """The server closed the connection and reconnecting is useless; see `code` and `reason`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class Unreachable(VidereError):
    """No connection could be made, when entering or within `give_up_after`."""


class Overflow(VidereError):
    """The application received too slowly: more bytes were waiting than a client keeps."""


class TransferError(VidereError):
    """A value did not reach `user`; `code` says why.

    It is the receiver's code ("too-large", "cancelled", ...: docs/browser.md, "Data"), "gone" if
    the call has ended, or "unsupported" for a value that an older client cannot receive.
    """

    def __init__(self, code: str, user: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.user = user


class TransfersFailed(VidereError):
    """A value did not reach everybody; `failed` has a TransferError for each member it missed."""

    def __init__(self, failed: Sequence[TransferError]) -> None:
        super().__init__("; ".join(map(str, failed)))
        self.failed = list(failed)
