"""The errors of this package, and how the wire reports them.

    VidereError
    ├── ConfigError        a configuration cannot be used; lists all its faults
    ├── EngineError        the engine that keeps the rooms is unreachable
    └── PeerError          a packet is refused; the peer gets an error and stays connected
        ├── MalformedPacket  InvalidPacket  PacketTooLarge
        ├── NotInRoom  WrongUser
        ├── UserTaken  RoomFull  NoSuchUser  Unavailable
        └── Unauthorized  TokenExpired  RateLimited

A PeerError carries what the error packet says (protocol.md, "Bad input"): `code`, `retry`, and
the message as its text. A connection closes with a CloseCode.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

# Longest message in an error packet, in characters. A message may quote a field name chosen by the
# sender, and input from strangers must not be amplified.
MAX_MESSAGE = 500

# Longest reason in a WebSocket close frame, in bytes (RFC 6455, 5.5).
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
        """The reason that goes with the code, as the client sees it."""
        return _REASONS[self]

    @property
    def comes_back(self) -> bool:
        """Whether the client should reconnect: a seat that it can resume is kept for the grace."""
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
    """Return whether a client closed with `code`, one of ours or not, reconnects."""
    return code == CloseCode.GOING_AWAY or 4000 <= code < 4500


class VidereError(Exception):
    """The root of all errors that this package raises."""


class ConfigError(VidereError):
    """The configuration cannot be used; `faults` holds one sentence for each fault.

    A sentence is one line: what it quotes, such as an unknown key, cannot begin another.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(map(_one_line, faults))
        super().__init__("\n".join(self.faults))


def _one_line(text: str) -> str:
    """Return a text with its unprintable characters escaped, as \\n."""
    shown = (each if each.isprintable() else repr(each)[1:-1] for each in text)
    return "".join(shown)


class EngineError(VidereError):
    """The engine is unreachable or refuses to work; an unanswered step may still take effect."""


class PeerError(VidereError):
    """A packet is refused. The text is the error packet's message, at most 500 characters.

    `header` is the header of a packet that was read and is no Packet, if it has one.
    """

    code: str
    retry: bool = False
    #: Whether it counts towards the ten in a row that close the session.
    bad: bool = True
    #: In a client: the Header.Id of the refused packet.
    packet_id: object = None

    def __init__(self, message: str, header: object = None) -> None:
        super().__init__(message[:MAX_MESSAGE])
        self.header = header


class MalformedPacket(PeerError):
    """Not JSON, not an object, nested too deep, NaN, or a lone surrogate."""

    code = "malformed-packet"


class InvalidPacket(PeerError):
    """JSON that fails the schema."""

    code = "invalid-packet"


class PacketTooLarge(PeerError):
    """More bytes of UTF-8 than `MaxPacketBytes`."""

    code = "packet-too-large"


class NotInRoom(PeerError):
    """A `broadcast`, `disconnect` or `ice` from a session that has no seat in that room."""

    code = "not-in-room"


class WrongUser(PeerError):
    """A member's packet, other than a ping, under another user's id."""

    code = "wrong-user"


class UserTaken(PeerError):
    """The user id is already in the room, and the policy refuses the newcomer."""

    code = "user-taken"
    retry = True
    bad = False


class Unavailable(PeerError):
    """The engine failed, perhaps after it had carried the packet out; the client may retry."""

    code = "unavailable"
    retry = True
    bad = False


class RoomFull(PeerError):
    """The room is full, or the limit on rooms is reached."""

    code = "room-full"
    retry = True
    bad = False


class NoSuchUser(PeerError):
    """Some of the named receivers are not in the room; the others got the packet."""

    code = "no-such-user"
    bad = False


class Unauthorized(PeerError):
    """The token is missing or does not allow the request; or the resume secret is wrong."""

    code = "unauthorized"
    bad = False


class TokenExpired(PeerError):
    """The token has expired; the client needs a fresh one."""

    code = "token-expired"
    bad = False


class RateLimited(PeerError):
    """The session exceeds a rate, of packets or of bytes.

    Sent at most once in an episode (see limits.Throttle); its other packets in excess are dropped
    silently.
    """

    code = "rate-limited"
    retry = True
    bad = False
