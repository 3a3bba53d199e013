"""The events that a client receives, one small class each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Joined:
    """Another member joined the room; `header` is the header of its connect packet."""

    user: str
    header: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Left:
    """Another member left the room."""

    user: str


@dataclass(frozen=True, slots=True)
class Message:
    """A member's broadcast; `packet` is the whole packet, including any extra keys."""

    user: str
    payload: Any
    packet: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Role:
    """The room has a new initiator, possibly this client."""

    initiator: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is lost and the client reconnects. 1006: no close code from the server."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The client has reconnected and kept its seat. The packets it missed come next."""


@dataclass(frozen=True, slots=True)
class Rejoined:
    """The client has reconnected, but its seat was given up: packets may be missing.

    The other members saw this client leave and join. `users` and `initiator` are current. Calls
    with any of the users must be made again.
    """


Event = Joined | Left | Message | Role | Lost | Resumed | Rejoined
