"""What can go wrong, and what the wire says of it.

    VidereError
    ├── ConfigError        a configuration cannot be used: every fault in it, at once
    ├── EngineError        the engine that keeps the rooms cannot be reached
    └── PeerError          a packet is refused: the peer is told, and stays connected
        ├── MalformedPacket  InvalidPacket  PacketTooLarge
        ├── NotInRoom  WrongUser
        ├── UserTaken  RoomFull  NoSuchUser  Unavailable
        └── Unauthorized  TokenExpired  RateLimited

A PeerError carries what the error packet says (protocol.md, "Bad input"): `code`, `retry`, and
the message as its text. A connection that ends carries a CloseCode.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import ClassVar

# Longest message in an error packet, in characters: a message may quote a field's name, which the
# sender chose, and what a stranger sends must not be multiplied.
MAX_MESSAGE = 500

# The longest reason in a WebSocket's close frame, in bytes (RFC 6455, 5.5).
MAX_REASON = 123


class CloseCode(enum.IntEnum):
    """Why the server closes a connection (protocol.md, "Close codes")."""

    GOING_AWAY = 1001
    INTERNAL_ERROR = 4000
    ENGINE_UNAVAILABLE = 4001
    SLOW_CONSUMER = 4002
    TOO_MANY_PACKETS = 4003
    NO_PACKET = 4004
    DRAINING = 4005
    BAD_PACKETS = 4500
    TOO_LARGE = 4501
    UNAUTHORIZED = 4502
    REPLACED = 4503
    REMOVED = 4504

    @property
    def reason(self) -> str:
        """The words that go with the code, as the client sees them."""
        return _REASONS[self]

    @property
    def comes_back(self) -> bool:
        """Whether the client is to connect again: the seat of its session is kept for its grace."""
        return comes_back(self)


_REASONS = {
    CloseCode.GOING_AWAY: "Server is going away",
    CloseCode.INTERNAL_ERROR: "Internal error",
    CloseCode.ENGINE_UNAVAILABLE: "The room was lost, connect again",
    CloseCode.SLOW_CONSUMER: "Reading too slowly",
    CloseCode.TOO_MANY_PACKETS: "Too many packets",
    CloseCode.NO_PACKET: "No room entered in time",
    CloseCode.DRAINING: "Server is draining, connect again",
    CloseCode.BAD_PACKETS: "Too many bad packets",
    CloseCode.TOO_LARGE: "Packet too large",
    CloseCode.UNAUTHORIZED: "Token expired",
    CloseCode.REPLACED: "Replaced by a newer connection",
    CloseCode.REMOVED: "Removed",
}


def comes_back(code: int) -> bool:
    """Tell whether a client that was closed with a code, one of ours or not, connects again."""
    return code == CloseCode.GOING_AWAY or 4000 <= code < 4500


class VidereError(Exception):
    """The root of all errors that this package raises."""


class ConfigError(VidereError):
    """A configuration that cannot be used; `faults` holds one sentence for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class EngineError(VidereError):
    """The engine cannot be reached or refuses to work: the packet was not carried out."""


class PeerError(VidereError):
    """A packet that is refused; the text is the error packet's message, at most 500 characters."""

    code: ClassVar[str]
    retry: ClassVar[bool] = False
    #: Whether it counts towards the ten in a row after which the session is closed.
    bad: ClassVar[bool] = True
    #: In a client: the Header.Id of the packet that was refused.
    packet_id: object = None

    def __init__(self, message: str) -> None:
        super().__init__(message[:MAX_MESSAGE])


class MalformedPacket(PeerError):
    """Not JSON, not an object, nested too deep, NaN, or a lone surrogate."""

    code = "malformed-packet"


class InvalidPacket(PeerError):
    """JSON that fails the schema; `header` is what it claimed, as far as that was readable."""

    code = "invalid-packet"

    def __init__(self, message: str, header: object = None) -> None:
        super().__init__(message)
        self.header = header


class PacketTooLarge(PeerError):
    """More bytes of UTF-8 than `MaxPacketBytes`."""

    code = "packet-too-large"


class NotInRoom(PeerError):
    """A broadcast or disconnect by a session that has no seat in that room."""

    code = "not-in-room"


class WrongUser(PeerError):
    """A member's packet under another user's id."""

    code = "wrong-user"


class UserTaken(PeerError):
    """The user id is in the room, and the policy is to refuse the newcomer."""

    code = "user-taken"
    retry = True
    bad = False


class Unavailable(PeerError):
    """The engine could not carry the packet out; trying again makes sense."""

    code = "unavailable"
    retry = True
    bad = False


class RoomFull(PeerError):
    """The room is full, or there are as many rooms."""

    code = "room-full"
    retry = True
    bad = False


class NoSuchUser(PeerError):
    """A packet for members of whom some are not in the room; the others got it."""

    code = "no-such-user"
    bad = False


class Unauthorized(PeerError):
    """No token, or one that does not allow what is asked; or a resume secret that is not good."""

    code = "unauthorized"
    bad = False


class TokenExpired(PeerError):
    """A token that was good once: a fresh one is needed."""

    code = "token-expired"
    bad = False


class RateLimited(PeerError):
    """More packets than a session may send; said once, then packets are dropped."""

    code = "rate-limited"
    retry = True
    bad = False
