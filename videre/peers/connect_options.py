"""Options in the Payload of `connect`: an object, or the JSON text of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import orjson
from cerberus import Validator

from videre.errors import InvalidPacket
from videre.packets import outlined

# Longest resume secret accepted, in characters; ours have 22.
MAX_SECRET = 128


def _no_boolean(field: str, value: object, error: Callable[[str, str], None]) -> None:
    if isinstance(value, bool):  # an integer to Python, and so to cerberus
        error(field, "must be of integer type")


#: `Token` is checked by auth: any fault in it means `unauthorized`.
SCHEMA: dict[str, Any] = {
    "Welcome": {"type": "boolean", "nullable": True},
    "Resume": {"type": "string", "nullable": True, "minlength": 1, "maxlength": MAX_SECRET},
    "Received": {"type": "integer", "nullable": True, "min": 0, "check_with": _no_boolean},
}


@dataclasses.dataclass(frozen=True)
class ConnectOptions:
    """The options of one `connect`; clients that know only section 2 of protocol.md send none."""

    token: Any = None
    welcome: bool = False
    resume: tuple[str, int] | None = None  # a lost seat's secret, and how many packets followed it
    again: bool = False  # whether the client wants to know if its seat was resumed

    @property
    def greeting(self) -> dict[str, object] | None:
        """Extra keys of the welcome for a newly taken seat; None: no welcome is asked for."""
        if not self.welcome:
            return None
        return {"Resumed": False} if self.again else {}


NOTHING = ConnectOptions()


def connect_options(payload: Any) -> ConnectOptions:
    """Parse the Payload of a `connect`; raises InvalidPacket.

    A Payload that is not an object means no options; unknown keys are ignored.
    """
    if isinstance(payload, str):
        if not payload.lstrip().startswith("{"):
            return NOTHING  # as from old clients; an exception would cost as much as a join
        try:
            payload = orjson.loads(payload)
        except ValueError:
            return NOTHING
    if not isinstance(payload, dict) or not payload:
        return NOTHING
    welcome, resume = payload.get("Welcome"), payload.get("Resume")
    received = payload.get("Received")
    if not (_is_switch(welcome) and _is_secret(resume) and _is_count(received)):
        raise InvalidPacket(_faults(payload))
    return ConnectOptions(
        token=payload.get("Token"),
        welcome=bool(welcome) or resume is not None,
        # Without the count nobody knows what arrived: that is a fresh join.
        resume=None if resume is None or received is None else (resume, received),
        again=resume is not None,
    )


# These check the same as the schema, in a fraction of a microsecond.


def _is_switch(value: Any) -> bool:
    return value is None or type(value) is bool


def _is_secret(value: Any) -> bool:
    return value is None or (type(value) is str and 0 < len(value) <= MAX_SECRET)


def _is_count(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0)


def _faults(payload: dict[str, Any]) -> str:
    """Return what cerberus reports for the known keys, of which it gets only an outline."""
    validator = Validator(SCHEMA)
    asked = {key: outlined(payload[key]) for key in SCHEMA if key in payload}
    validator.validate(asked, normalize=False)
    faults = sorted(validator.errors.items())
    return "; ".join(f"Payload.{key}: {words[0]}" for key, words in faults)
