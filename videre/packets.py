"""Packets: their schema, how to parse them, and how the server writes its own.

A packet is one JSON text, `{"Header": {"Event", "UserId", "RoomId", ...}, "Payload": ...}`. It is
parsed for validation and routing, but never rewritten: the server forwards the text as received.
When it answers with the sender's packet, it replaces only the Payload's characters in place, so
that every other key keeps its value, spelling and order.

The schema (cerberus) is the one source of truth for what is accepted. Only this module and
config.py know how the wire spells names.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson
from cerberus import Validator

from videre.errors import InvalidPacket, MalformedPacket, PacketTooLarge, PeerError
from videre.ids import RoomId, UserId
from videre.payload import around_payload as around_payload  # re-exported for readers of packets

MAX_USER_ID = 128  # characters
MAX_ROOM_ID = 256  # characters
MAX_LEVELS = 1024  # of nesting that orjson accepts
MAX_PACKET_ID = 64  # of a Header.Id that an error repeats
_OUTLINE = MAX_ROOM_ID + 1  # characters of a text that cerberus gets to see


class Event(enum.StrEnum):
    """The values of Header.Event: clients send the first five, only the server sends the others."""

    CONNECT = "connect"
    BROADCAST = "broadcast"
    PING = "ping"
    DISCONNECT = "disconnect"
    ICE = "ice"
    WELCOME = "welcome"
    ROLE = "role"
    ERROR = "error"
    GOAWAY = "goaway"


CLIENT_EVENTS = (Event.CONNECT, Event.BROADCAST, Event.PING, Event.DISCONNECT, Event.ICE)
_KNOWN_EVENTS = tuple(map(str, CLIENT_EVENTS))  # plain strings compare faster than enum members


Error = Callable[[str, str], None]


def _known(field: str, value: object, error: Error) -> None:
    if isinstance(value, str) and value not in CLIENT_EVENTS:  # too long to quote
        error(field, f"must be one of {', '.join(CLIENT_EVENTS)}")


# The characters of Unicode category Cc.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _no_controls(field: str, value: object, error: Error) -> None:
    if isinstance(value, str) and _CONTROL.search(value):
        error(field, "must not hold control characters")


def _name(longest: int) -> dict[str, Any]:
    return {
        "type": "string",
        "required": True,
        "minlength": 1,
        "maxlength": longest,
        "check_with": _no_controls,
    }


SCHEMA: dict[str, Any] = {
    "Header": {
        "type": "dict",
        "required": True,
        "allow_unknown": True,
        "schema": {
            "Event": {"type": "string", "required": True, "check_with": _known},
            "UserId": _name(MAX_USER_ID),
            "RoomId": _name(MAX_ROOM_ID),
        },
    },
    "Payload": {"required": True, "nullable": True},
}


# Members that one packet may name as receivers (protocol.md, section 4).
MAX_TO = 64


#: `Header.To` of a broadcast: a UserId or a list of them.
TO_SCHEMA: dict[str, Any] = {
    "To": {
        "anyof": [
            _name(MAX_USER_ID),
            {"type": "list", "minlength": 1, "maxlength": MAX_TO, "schema": _name(MAX_USER_ID)},
        ]
    }
}


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
    """Parses texts into packets. One for each namespace: validators are not thread-safe.

    `max_bytes` is the longest packet accepted, in bytes of UTF-8; None: no limit.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        # No character takes more than four bytes.
        self._surely_small = math.inf if max_bytes is None else max_bytes // 4
        self._words = Validator(SCHEMA, allow_unknown=True)

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
            raise MalformedPacket(f"Not JSON: {_brief(error)}") from None
        if type(body) is not dict:
            raise MalformedPacket("Not a JSON object")
        header: Any = body.get("Header")
        if type(header) is not dict:
            raise InvalidPacket(self._faults(body, header), header)
        event: Any = header.get("Event")
        user: Any = header.get("UserId")
        room: Any = header.get("RoomId")
        if (
            event not in _KNOWN_EVENTS
            or not is_name(user, MAX_USER_ID)
            or not is_name(room, MAX_ROOM_ID)
            or "Payload" not in body
        ):
            raise InvalidPacket(self._faults(body, header), header)
        if "To" in header and event == "broadcast" and not is_to(header["To"]):
            words = f"must be a UserId, or a list of 1 to {MAX_TO} of them"
            raise InvalidPacket(f"Header.To: {words}", header)
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

    def _faults(self, body: dict[str, Any], header: Any) -> str:
        """Return what cerberus reports for an invalid body, of which it gets only an outline.

        It takes 50 us, and copies the values it reports, some of them once for each error.
        """
        outline: dict[str, Any] = {"Payload": None} if "Payload" in body else {}
        if type(header) is dict:
            fields = SCHEMA["Header"]["schema"]
            outline["Header"] = {name: outlined(header[name]) for name in fields if name in header}
        elif "Header" in body:
            outline["Header"] = outlined(header)
        self._words.validate(outline, normalize=False)
        return "; ".join(_faults(self._words.errors))

    def _check_size(self, text: str) -> None:
        limit = self._max_bytes
        if limit is None:
            return
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if size > limit:
            raise PacketTooLarge(f"{size} bytes, at most {limit} are allowed")


def is_name(value: object, longest: int) -> bool:
    """Return whether a value satisfies `_name`, in a fraction of a microsecond."""
    return (
        type(value) is str
        and 0 < len(value) <= longest
        and (value.isprintable() or _CONTROL.search(value) is None)
    )


def is_to(value: object) -> bool:
    """Return whether a `Header.To` satisfies `TO_SCHEMA`, as fast for each name as `is_name`."""
    if type(value) is not list:
        return is_name(value, MAX_USER_ID)
    return 0 < len(value) <= MAX_TO and all(is_name(each, MAX_USER_ID) for each in value)


def outlined(value: Any) -> Any:
    """Return a short value of the same type that fails validation for the same reasons."""
    if type(value) is str:
        # Still longer than any name; and a control character is found wherever it is.
        tail = "\0" if _CONTROL.search(value, _OUTLINE) else ""
        return value[:_OUTLINE] + tail
    return type(value)() if type(value) in (list, dict) else value


def _brief(error: Exception) -> str:
    # orjson gives the position ("unexpected character: line 1 column 5 (char 4)") and quotes
    # nothing.
    return str(error)[:120]


def _faults(errors: dict[Any, Any], path: str = "") -> Iterator[str]:
    """Flatten cerberus' errors into "Header.UserId: required field"."""
    for field, problems in errors.items():
        for problem in problems:
            if isinstance(problem, dict):
                yield from _faults(problem, f"{path}{field}.")
            else:
                yield f"{path}{field}: {problem}"


def json_string(value: Any) -> str:
    """Return a JSON string containing the JSON text of `value`, as a Payload carries it."""
    return _dumps(_dumps(value))


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


#: The Payload of a connect packet, by role.
ROLE = {True: json_string(True), False: json_string(False)}


def write(event: Event, user: str, room: str, payload: str = "") -> str:
    """Return one of the server's own packets, with the string `payload`."""
    header = {"Event": event, "UserId": user, "RoomId": room}
    return _dumps({"Header": header, "Payload": payload})


def write_json(event: Event, user: str, room: str, payload: dict[str, Any]) -> str:
    """Return one of the server's own packets, with the JSON text of `payload`."""
    return write(event, user, room, _dumps(payload))


def write_broadcast(user: str, room: str, payload: Any) -> str:
    """Return a broadcast of any JSON value; raises TypeError for anything else."""
    header = {"Event": Event.BROADCAST, "UserId": user, "RoomId": room}
    return _dumps({"Header": header, "Payload": payload})


def write_error(error: PeerError, user: str, room: str, packet_id: str | float | None) -> str:
    """Return the error packet for `error`, with the id of the packet it answers."""
    header: dict[str, Any] = {"Event": Event.ERROR, "UserId": user, "RoomId": room}
    if packet_id is not None:
        header["Id"] = packet_id
    payload = {"Code": error.code, "Message": str(error), "Retry": error.retry}
    return _dumps({"Header": header, "Payload": _dumps(payload)})


def claimed(header: object) -> tuple[str, str, str | float | None]:
    """Return the user, room and packet id that a header claims; "", "" and None if unusable.

    Values longer than an id may be are never repeated.
    """
    if not isinstance(header, dict):
        return "", "", None
    return (
        _claimed_name(header.get("UserId"), MAX_USER_ID),
        _claimed_name(header.get("RoomId"), MAX_ROOM_ID),
        packet_id(header.get("Id")),
    )


def _claimed_name(value: object, longest: int) -> str:
    return value if isinstance(value, str) and len(value) <= longest else ""


def id_text(header: Mapping[str, Any]) -> str:
    """Return a packet's Header.Id as JSON; "null" if it has none."""
    return _dumps(packet_id(header["Id"])) if "Id" in header else "null"


def packet_id(value: object) -> str | float | None:
    """Return a Header.Id if it may be repeated to its sender, else None."""
    if isinstance(value, str):
        return value if len(value) <= MAX_PACKET_ID else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
