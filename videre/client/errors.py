"""What ends a client's seat; what refuses one packet is a PeerError of videre.errors."""

from __future__ import annotations

from collections.abc import Sequence

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


class TransferError(VidereError):
    """A value did not get to `user`: `code` says why.

    The receiver's word ("too-large", "cancelled", ...: docs/browser.md, "Data"), "gone" when the
    call has ended, "unsupported" for what an older client does not take.
    """

    def __init__(self, code: str, user: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.user = user


class TransfersFailed(VidereError):
    """A value did not get to all: `failed` has a TransferError for each who has not got it."""

    def __init__(self, failed: Sequence[TransferError]) -> None:
        super().__init__("; ".join(map(str, failed)))
        self.failed = list(failed)
