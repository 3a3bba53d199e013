"""Errors that end a client's seat, and those of failed transfers.

A single refused packet is a PeerError of videre.errors.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import ClientResponseError

from videre.errors import VidereError


def reason(error: Exception) -> str:
    """Return the text of an error, or the name of its class if it has none."""
    if isinstance(error, ClientResponseError):  # its text has the URL, whose query may be a secret
        return f"{error.status}, message={error.message!r}"
    return str(error) or type(error).__name__


class Closed(VidereError):
    """The connection was closed; see `code` and `reason`.

    An application gets this when it enters, after it has left, or if reconnecting is useless.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class Unreachable(VidereError):
    """No connection could be made, when entering or within `give_up_after`.

    Its `__cause__` is the error of the last try, if one had ended by then.
    """


class Overflow(VidereError):
    """The application received too slowly: more bytes were waiting than a client keeps."""


class TransferError(VidereError):
    """A value did not reach `user`; `code` says why.

    It is the receiver's code ("too-large", "cancelled", ...: docs/browser.md, "Data"), "gone" if
    the call has ended or its channel was closed, or "unsupported" for a value that an older client
    cannot receive.
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
