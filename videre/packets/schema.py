"""What the server accepts as a packet: its events, the cerberus schema, and the limits.

The schema is the one source of truth. `is_name` and `is_to` say the same, fast enough for each
packet; `Faults` lets cerberus say what is wrong with a packet that they refuse.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from typing import Any

from cerberus import Validator

MAX_USER_ID = 128  # characters
MAX_ROOM_ID = 256  # characters
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


#: What is wrong with a `Header.To` that does not satisfy TO_SCHEMA.
TO_FAULT = f"Header.To: must be a UserId, or a list of 1 to {MAX_TO} of them"


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


def is_misdirected(header: dict[str, Any]) -> bool:
    """Return whether a header is a broadcast's, and its `To` is invalid."""
    return header.get("Event") == "broadcast" and "To" in header and not is_to(header["To"])


class Faults:
    """Says what is wrong with a packet. One for each namespace: validators are not thread-safe."""

    def __init__(self) -> None:
        self._words = Validator(SCHEMA, allow_unknown=True)

    def of(self, body: dict[str, Any], header: object) -> str:
        """Return what is wrong with an invalid body: what cerberus reports, and `Header.To`.

        Cerberus gets only an outline. It takes 50 us, and copies the values it reports, some of
        them once for each error.
        """
        outline: dict[str, Any] = {"Payload": None} if "Payload" in body else {}
        if type(header) is dict:
            fields = SCHEMA["Header"]["schema"]
            outline["Header"] = {name: outlined(header[name]) for name in fields if name in header}
        elif "Header" in body:
            outline["Header"] = outlined(header)
        self._words.validate(outline, normalize=False)
        found = [*_flat(self._words.errors)]
        if type(header) is dict and is_misdirected(header):
            found.append(TO_FAULT)
        return "; ".join(found)


def outlined(value: Any) -> Any:
    """Return a short value of the same type that fails validation for the same reasons."""
    if type(value) is str:
        # Still longer than any name; and a control character is found wherever it is.
        tail = "\0" if _CONTROL.search(value, _OUTLINE) else ""
        return value[:_OUTLINE] + tail
    return type(value)() if type(value) in (list, dict) else value


def _flat(errors: dict[Any, Any], path: str = "") -> Iterator[str]:
    """Flatten cerberus' errors into "Header.UserId: required field"."""
    for field, problems in errors.items():
        for problem in problems:
            if isinstance(problem, dict):
                yield from _flat(problem, f"{path}{field}.")
            else:
                yield f"{path}{field}: {problem}"
