"""Packets: what one may be, how it is read, and how the signaller writes its own.

A packet is one JSON text, `{"Header": {"Event", "UserId", "RoomId", ...}, "Payload": ...}`. It is
parsed to be judged and routed, but never written anew: what is forwarded is the text as received,
and where the signaller answers with the sender's packet it replaces the Payload's characters in
place, so that every other key keeps its value, spelling and order.

The schema (cerberus) is the one source of truth for what is accepted. This is the only module,
with config.py, that knows how the wire spells a name.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import orjson
from cerberus import Validator

from videre.errors import InvalidPacket, MalformedPacket, PacketTooLarge, PeerError

MAX_USER_ID = 128  # characters
MAX_ROOM_ID = 256  # characters
MAX_LEVELS = 1024  # of nesting that orjson reads
MAX_PACKET_ID = 64  # characters of a Header.Id that comes back in an error


class Event(enum.StrEnum):
    """The events of Header.Event: the first five from clients, the others from the server alone."""

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
    if isinstance(value, str) and value not in CLIENT_EVENTS:  # which is not repeated: too long
        error(field, f"must be one of {', '.join(CLIENT_EVENTS)}")


# The characters of Unicode's category Cc.
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


# Members that one packet may be for, by name (protocol.md, section 4).
MAX_TO = 64


#: `Header.To` of a broadcast: a UserId, or a list of them.
TO_SCHEMA: dict[str, Any] = {
    "To": {
        "anyof": [
            _name(MAX_USER_ID),
            {"type": "list", "minlength": 1, "maxlength": MAX_TO, "schema": _name(MAX_USER_ID)},
        ]
    }
}


class Packet:
    """A valid packet: its text as received and what the signaller needs to know of it."""

    __slots__ = ("event", "header", "payload", "room", "text", "user")

    def __init__(self, text: str, header: dict[str, Any], payload: Any) -> None:
        self.text = text
        self.header = header
        self.payload = payload
        self.event: str = header["Event"]
        self.user: str = header["UserId"]
        self.room: str = header["RoomId"]


#: The UserId and RoomId of a header that was validated.
Names = tuple[str, str]


class Decoder:
    """Turns texts into packets. One for each namespace: a validator must not be shared by threads.

    `max_bytes` is the longest packet accepted, in bytes of UTF-8; None for no limit.
    """

    def __init__(self, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        # No character takes more than four bytes.
        self._surely_small = math.inf if max_bytes is None else max_bytes // 4
        self._packet = Validator(SCHEMA, allow_unknown=True)
        # The same for the header alone: cerberus takes half the time without a schema in a schema.
        self._header = Validator(SCHEMA["Header"]["schema"], allow_unknown=True)
        self._to = Validator(TO_SCHEMA, allow_unknown=True)

    def decode(self, text: str, known: Collection[Names] = ()) -> Packet:
        """Return the packet that `text` holds, or raise one of three PeerErrors.

        PacketTooLarge, MalformedPacket (no JSON object) or InvalidPacket (the message names every
        field at fault). A header with names that are `known` to be good, from packets that this
        session sent before, is not given to cerberus, which takes 30 us.
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
        if type(header) is not dict or "Payload" not in body:
            self._packet.validate(body, normalize=False)
            raise InvalidPacket("; ".join(_faults(self._packet.errors)), header)
        if (
            (header.get("UserId"), header.get("RoomId")) not in known
            or header.get("Event") not in _KNOWN_EVENTS
        ) and not self._header.validate(header, normalize=False):
            raise InvalidPacket("; ".join(_faults(self._header.errors, "Header.")), header)
        if "To" in header and header["Event"] == "broadcast":
            self._check_to(header)
        return Packet(text, header, body["Payload"])

    def repeats(self, text: str, head: str) -> bool:
        """Tell whether `text` is `head`, which `head_of` found, with another Payload.

        What is true of that packet's header is then true of this one's. False also for what is no
        packet at all: `decode` says why.
        """
        if not text.startswith(head) or text[-1] != "}" or len(text) > self._surely_small:
            return False
        payload = text[len(head) : -1]
        try:
            # One JSON value and nothing beside it: no further key can be hidden there. In an array,
            # so that it may be nested as deep as in its packet and no deeper; a short one is not.
            if len(payload) > 2 * MAX_LEVELS - 2:
                return len(orjson.loads(f"[{payload}]")) == 1
            orjson.loads(payload)
        except ValueError:
            return False
        return True

    def _check_to(self, header: dict[str, Any]) -> None:
        if not self._to.validate(header, normalize=False):
            words = f"must be a UserId, or a list of 1 to {MAX_TO} of them"
            raise InvalidPacket(f"Header.To: {words}", header)

    def _check_size(self, text: str) -> None:
        limit = self._max_bytes
        if limit is None:
            return
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if size > limit:
            raise PacketTooLarge(f"{size} bytes, at most {limit} are allowed")


def _brief(error: Exception) -> str:
    # orjson says where: "unexpected character: line 1 column 5 (char 4)", and quotes nothing.
    return str(error)[:120]


def _faults(errors: dict[Any, Any], path: str = "") -> Iterator[str]:
    """Flatten cerberus' errors into "Header.UserId: required field"."""
    for field, problems in errors.items():
        for problem in problems:
            if isinstance(problem, dict):
                yield from _faults(problem, f"{path}{field}.")
            else:
                yield f"{path}{field}: {problem}"


# A string with what follows it if it is a key, or a bracket: all that tells where a value ends.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"(\s*:\s*)?|[{}\[\]]', re.DOTALL)
_SCALAR = re.compile(r"[^\s,}]+")


def _payload_spans(text: str) -> list[tuple[int, int]]:
    """Return where the values of the top-level Payload keys stand in `text`, a valid packet."""
    spans = []
    depth = 0
    start = -1  # where the value that is being looked for starts
    for token in _TOKEN.finditer(text):
        mark = text[token.start()]
        if mark == '"':
            if depth != 1:
                continue
            if token[1] is None:  # a value
                if start >= 0:
                    spans.append((start, token.end()))
                    start = -1
            elif orjson.loads(token[0].removesuffix(token[1])) == "Payload":
                start = token.end()
                if scalar := text[start] not in '"{[' and _SCALAR.match(text, start):
                    spans.append(scalar.span())
                    start = -1
        elif mark in "{[":
            depth += 1
        else:
            depth -= 1
            if depth == 1 and start >= 0:
                spans.append((start, token.end()))
                start = -1
    return spans


def around_payload(text: str) -> tuple[str, str]:
    """Return what stands before and after the Payload's value in `text`, a valid packet.

    Where the key stands more than once, readers take the last: so does this, and the values
    before it are emptied, since what they hold must not be shown to anyone either.
    """
    *earlier, (start, end) = _payload_spans(text)
    head = text[:start]
    for first, last in reversed(earlier):
        head = f'{head[:first]}""{head[last:]}'
    return head, text[end:]


def head_of(text: str) -> str | None:
    """Return `text`, a valid packet, up to its Payload's value.

    None if something else than `}` follows that, or the key stands there more than once.
    """
    spans = _payload_spans(text)
    start, end = spans[-1]
    return text[:start] if len(spans) == 1 and text[end:] == "}" else None


def json_string(value: Any) -> str:
    """Return the JSON string that holds the JSON text of `value`, as a Payload carries it."""
    return _dumps(_dumps(value))


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


#: The Payload of a connect packet, by role.
ROLE = {True: json_string(True), False: json_string(False)}


def write(event: Event, user: str, room: str, payload: str = "") -> str:
    """Return a packet of the signaller's own; `payload` is the string that it carries."""
    header = {"Event": event, "UserId": user, "RoomId": room}
    return _dumps({"Header": header, "Payload": payload})


def write_json(event: Event, user: str, room: str, payload: dict[str, Any]) -> str:
    """Return a packet of the signaller's own that carries the JSON text of `payload`."""
    return write(event, user, room, _dumps(payload))


def write_broadcast(user: str, room: str, payload: Any) -> str:
    """Return a broadcast with any JSON value; raises TypeError for what is none."""
    header = {"Event": Event.BROADCAST, "UserId": user, "RoomId": room}
    return _dumps({"Header": header, "Payload": payload})


# What a room sends to its members, as opposed to the answers that one of them asked for.
_OF_ROOM = (Event.CONNECT, Event.BROADCAST, Event.DISCONNECT, Event.ROLE)


def is_of_room(text: str) -> bool:
    """Tell whether a packet that was sent counts for who resumes (protocol.md, 3.2)."""
    return orjson.loads(text)["Header"]["Event"] in _OF_ROOM


def write_error(error: PeerError, user: str, room: str, packet_id: str | float | None) -> str:
    """Return the packet that tells a peer of `error`, with the id of the packet it sent."""
    header: dict[str, Any] = {"Event": Event.ERROR, "UserId": user, "RoomId": room}
    if packet_id is not None:
        header["Id"] = packet_id
    payload = {"Code": error.code, "Message": str(error), "Retry": error.retry}
    return _dumps({"Header": header, "Payload": _dumps(payload)})


def claimed(header: object) -> tuple[str, str, str | float | None]:
    """Return the user, room and packet id that a header claims; "", "" and None where it cannot.

    What is longer than an id may be is not repeated to anyone.
    """
    if not isinstance(header, dict):
        return "", "", None
    return (
        _claimed_name(header.get("UserId"), MAX_USER_ID),
        _claimed_name(header.get("RoomId"), MAX_ROOM_ID),
        claimed_id(header.get("Id")),
    )


def _claimed_name(value: object, longest: int) -> str:
    return value if isinstance(value, str) and len(value) <= longest else ""


def called(header: Mapping[str, Any]) -> str:
    """Return what its sender calls a packet, as JSON: its Header.Id, or "null"."""
    return _dumps(claimed_id(header.get("Id")))


def claimed_id(value: object) -> str | float | None:
    """Return a Header.Id that may be repeated to its sender; None for any other value."""
    if isinstance(value, str):
        return value if len(value) <= MAX_PACKET_ID else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
