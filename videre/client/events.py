"""What a client hears, one small class each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Joined:
    """Another member entered the room; `header` is that of its connect packet."""

    user: str
    header: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Left:
    """Another member left the room."""

    user: str


@dataclass(frozen=True, slots=True)
class Message:
    """A member's broadcast; `packet` is all of it, with further keys that it may have."""

    user: str
    payload: Any
    packet: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Role:
    """The room has another initiator, which may be the client itself."""

    initiator: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is lost; the client makes another. 1006: without a word from the server."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """There is a connection again, and the seat was kept: what was missed comes next."""


@dataclass(frozen=True, slots=True)
class Rejoined:
    """There is a connection again, but the seat was given up: something may have been missed.

    To the others the client left and joined. `users` and `initiator` are as of now, and calls with
    any of the users have to be made anew.
    """


Event = Joined | Left | Message | Role | Lost | Resumed | Rejoined
