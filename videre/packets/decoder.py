"""Parse packets, and decide which are valid."""

from __future__ import annotations

import math
from typing import Any

import orjson

from videre.errors import InvalidPacket, MalformedPacket, PacketTooLarge
from videre.ids import RoomId, UserId
from videre.packets.schema import (
    CLIENT_EVENTS,
    MAX_ROOM_ID,
    MAX_USER_ID,
    TO_FAULT,
    Faults,
    is_misdirected,
    is_name,
)

MAX_LEVELS = 1024  # of nesting that orjson accepts
_KNOWN_EVENTS = tuple(map(str, CLIENT_EVENTS))  # plain strings compare faster than enum members


class Packet:
    """A valid packet: its text as received, and its parsed fields."""

    __slots__ = ("event", "header", "payload", "room", "text", "user")

    def __init__(
        self,
        text: str,
        header: dict[str, Any],
        payload: Any,
        event: str,
        user: UserId,
        room: RoomId,
    ) -> None:
        self.text = text
        self.header = header
        self.payload = payload
        self.event = event
        self.user = user
        self.room = room


class Decoder:
    """Parses texts into packets. One for each namespace: see `Faults`.

    `max_bytes` is the longest packet accepted, in bytes of UTF-8; None: no limit.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._most = math.inf if max_bytes is None else max_bytes
        # No character takes more than four bytes.
        self._surely_small = self._most / 4
        self._faults = Faults()

    def decode(self, text: str) -> Packet:
        """Parse `text`, or raise one of three PeerErrors.

        PacketTooLarge, MalformedPacket (not a JSON object), or InvalidPacket (the message names
        every invalid field).
        """
        if len(text) > self._surely_small:
            self._check_size(text)
        try:
            body = orjson.loads(text)
        except (ValueError, RecursionError) as error:  # orjson.JSONDecodeError is a ValueError
            # orjson says what it expected, and where, and quotes nothing.
            raise MalformedPacket(f"Not JSON: {error}") from None
        if type(body) is not dict:
            raise MalformedPacket("Not a JSON object")
        header: Any = body.get("Header")
        if type(header) is not dict:
            raise InvalidPacket(self._faults.of(body, header), header)
        event: Any = header.get("Event")
        user: Any = header.get("UserId")
        room: Any = header.get("RoomId")
        if (
            event not in _KNOWN_EVENTS
            or not is_name(user, MAX_USER_ID)
            or not is_name(room, MAX_ROOM_ID)
            or "Payload" not in body
        ):
            raise InvalidPacket(self._faults.of(body, header), header)
        if "To" in header and is_misdirected(header):
            raise InvalidPacket(TO_FAULT, header)
        return Packet(text, header, body["Payload"], event, user, room)

    def repeats(self, text: str, head: str) -> bool:
        """Return whether `text` is `head`, a result of `head_of`, with another Payload.

        If so, that packet's header is also this one's. False also if `text` is not a packet;
        `decode` says why.
        """
        if not text.startswith(head) or text[-1] != "}" or len(text) > self._surely_small:
            return False
        payload = text[len(head) : -1]
        try:
            # Exactly one JSON value, so no further key can hide in it. A long one is parsed inside
            # an array, which limits its nesting as the packet would; a short one cannot nest too
            # deep.
            if len(payload) > 2 * MAX_LEVELS - 2:
                return len(orjson.loads(f"[{payload}]")) == 1
            orjson.loads(payload)
        except ValueError:
            return False
        return True

    def _check_size(self, text: str) -> None:
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if size > self._most:
            words = f"{size} bytes, at most {self._most} are allowed"
            raise PacketTooLarge(words, _header_of(text))


def _header_of(text: str) -> object:
    """Return what a text has as its header; None if it has none, or is not JSON."""
    try:
        body = orjson.loads(text)
    except (ValueError, RecursionError):
        return None
    return body.get("Header") if type(body) is dict else None
