"""What a configuration may hold: every key with its type, bounds and default, and what is wrong.

`SCHEMA` is the one list of keys. cerberus judges by it. What may be within `Auth` and an entry of
`IceServers` stands in keys.py and turn.py.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from cerberus import TypeDefinition, Validator

from videre.config import keys
from videre.engines import choice
from videre.limits import Limits
from videre.logs import Form
from videre.transport import Options

#: What becomes of a user id that is in the room already: the old seat goes, or the newcomer.
Duplicate = Literal["replace", "reject"]

#: Whether workers have a port each, one after the other, or share one.
WorkerPorts = Literal["each", "shared"]

LEVELS = ("debug", "info", "warning", "error")

Error = Callable[[str, str], None]


_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


def _prefixes(field: str, value: Any, error: Error) -> None:
    each = value if isinstance(value, list) else [value]
    if not each or not all(isinstance(prefix, str) for prefix in each):
        error(field, "must be a path, or a list of paths")
    elif not all(_PREFIX.fullmatch(prefix) for prefix in each):
        error(field, "must be a path as /echo: letters, digits and ._~- between slashes")
    elif len({prefix.rstrip("/") for prefix in each}) < len(each):
        error(field, "names the same prefix twice")


def _network(field: str, value: Any, error: Error) -> None:
    if not isinstance(value, str):
        return  # of which its type is told
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        error(field, "must be an address or a network, as 10.0.0.0/8")


def _origin(field: str, value: Any, error: Error) -> None:
    if not isinstance(value, str):
        return  # of which its type is told
    if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+", value, re.IGNORECASE):
        error(field, "must be an origin as https://*.example.com, without a path")


def _string(**rules: Any) -> dict[str, Any]:
    return {"type": "string", **rules}


def _least(least: int, default: int | None) -> dict[str, Any]:
    return {"type": "integer", "min": least, "nullable": True, "default": default}


def _rate(default: float | None) -> dict[str, Any]:
    return {
        "type": "number",
        "min": 0.001,
        "check_with": keys.finite,
        "nullable": True,
        "default": default,
    }


def _engine(field: str, value: Any, error: Error) -> None:
    if isinstance(value, str) and (words := choice.fault(value)) is not None:
        error(field, words)


def _switch(default: bool) -> dict[str, Any]:
    return {"type": "boolean", "default": default}


_SEAM = Options()
_LIMITS = Limits()

SCHEMA: dict[str, dict[str, Any]] = {
    "Host": _string(default="0.0.0.0", minlength=1),  # noqa: S104  # as the original
    "Port": {"type": "integer", "min": 0, "max": 65535, "default": 1111},
    "Workers": {"type": "integer", "min": 1, "max": 256, "default": 1},
    "WorkerPorts": _string(allowed=list(get_args(WorkerPorts)), default="each"),
    "Prefix": {"check_with": _prefixes, "default": "/echo"},
    "AdminHost": _string(default="127.0.0.1", minlength=1),
    "AdminPort": {**_least(0, None), "max": 65535},
    **keys.ADMIN_SCHEMA,
    "TLS": _switch(False),
    "Cert": _string(nullable=True, default=None),
    "Key": _string(nullable=True, default=None),
    "LogFile": _string(nullable=True, default=None, minlength=1),
    "LogLevel": _string(allowed=list(LEVELS), default="info"),
    "LogFormat": _string(allowed=list(get_args(Form)), default="text"),
    "LogMaxBytes": {"type": "integer", "min": 0, "default": 10 * 1024 * 1024},
    "LogBackups": {"type": "integer", "min": 0, "max": 1000, "default": 5},
    "DrainSeconds": {"type": "number", "min": 0, "check_with": keys.finite, "default": 30.0},
    "Duplicate": _string(allowed=list(get_args(Duplicate)), default="replace"),
    "MaxPacketBytes": _least(256, _SEAM.max_packet_bytes),
    "MaxBacklogBytes": _least(4096, _SEAM.max_backlog_bytes),
    "MaxConnections": _least(0, _SEAM.max_connections),
    "ConnectsPerSecondPerAddress": _rate(_SEAM.connects_per_second_per_address),
    "RoomCapacity": _least(1, _LIMITS.room_capacity),
    "MaxRooms": _least(1, _LIMITS.max_rooms),
    "PacketsPerSecond": _rate(_LIMITS.packets_per_second),
    "PacketBurst": {"type": "integer", "min": 1, "default": _LIMITS.packet_burst},
    "JoinTimeout": _rate(_LIMITS.join_timeout),
    "Engine": _string(check_with=_engine, default=choice.MEMORY),
    "NodeTimeout": {
        "type": "number",
        "min": 1,
        "check_with": keys.finite,
        "default": 10.0,
    },
    "Grace": {"type": "number", "min": 0, "check_with": keys.finite, "default": _LIMITS.grace},
    "MaxResumeBytes": _least(0, _LIMITS.max_resume_bytes),
    "Demo": {"type": "boolean", "nullable": True, "default": None},
    "Auth": {"type": "dict", "nullable": True, "default": None, "schema": keys.SCHEMA},
    "IceServers": {"type": "list", "default": []},  # of what: turn.py
    "MaxConnectionsPerAddress": _least(0, _SEAM.max_connections_per_address),
    "Origins": {
        "type": "list",
        "schema": _string(check_with=_origin),
        "default": list(_SEAM.origins),
    },
    "TrustedProxies": {"type": "list", "schema": _string(check_with=_network), "default": []},
    "Compression": _switch(_SEAM.compression),
    "SessionCookie": _switch(_SEAM.cookie),
    "HTMLFile": _switch(_SEAM.htmlfile),
    "JSONP": _switch(_SEAM.jsonp),
    "SockJSUrl": _string(default=_SEAM.sockjs_url, regex=r"(https?://|/)[^\s\"<>]*\Z"),
}


#: The keys that a running server reads anew when it is told to; all others need a restart.
RELOADED = frozenset(
    {
        *keys.ADMIN_SCHEMA,
        "Auth",
        "Cert",
        "Compression",
        "ConnectsPerSecondPerAddress",
        "DrainSeconds",
        "Duplicate",
        "IceServers",
        "JoinTimeout",
        "Key",
        "LogLevel",
        "MaxBacklogBytes",
        "MaxConnections",
        "MaxConnectionsPerAddress",
        "MaxPacketBytes",
        "MaxRooms",
        "Origins",
        "PacketBurst",
        "PacketsPerSecond",
        "RoomCapacity",
        "TrustedProxies",
    }
)


class StrictValidator(Validator):  # type: ignore[misc]  # cerberus has no types
    """cerberus, but true is no number: Python's bool is an int."""

    types_mapping: ClassVar[dict[str, TypeDefinition]] = {
        **Validator.types_mapping,
        "integer": TypeDefinition("integer", (int,), (bool,)),
        "number": TypeDefinition("number", (int, float), (bool,)),
    }


def judge(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return these values with the defaults added, and each fault: (key, the value and words).

    Without faults, the document has all keys of the schema.
    """
    validator = StrictValidator(SCHEMA)
    validator.validate(dict(values))
    faults = _null_faults(values) + _faults(validator.errors, values)
    document: dict[str, Any] = validator.document or {}
    wrong = {key for key, _ in faults}
    if "TLS" not in wrong and document.get("TLS"):
        faults += [
            (key, f"{shown(values.get(key))}: TLS needs it")
            for key in ("Cert", "Key")
            if key not in wrong and not document.get(key)
        ]
    if wrong.isdisjoint(("Engine", "Workers", "WorkerPorts", "Port")):
        faults += _worker_faults(document)
    if wrong.isdisjoint(("AdminHost", "AdminPort", "Workers", *keys.ADMIN_SCHEMA)):
        faults += _admin_faults(document)
    if wrong.isdisjoint(("Demo", "Prefix", "Auth")) and document["Demo"]:
        faults += _demo_faults(document)
    return document, faults


def _demo_faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return why there can be no demo: its page must be reached, and get into a room."""
    prefix, faults = document["Prefix"], []
    if "/demo" in [each.rstrip("/") for each in ([prefix] if isinstance(prefix, str) else prefix)]:
        faults.append(("Demo", "true: /demo is a Prefix"))
    if document["Auth"] is not None and document["Auth"].get("Required", True) is True:
        faults.append(("Demo", "true: the demo has no token, and Auth requires one"))
    return faults


def _worker_faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with workers: their rooms are in one engine, and ports have an end."""
    workers, faults = document["Workers"], []
    if workers > 1 and document["Engine"] == choice.MEMORY:
        words = "more than one worker needs Engine, as redis://localhost:6379, to share rooms"
        faults.append(("Workers", f"{workers}: {words}"))
    if document["WorkerPorts"] == "each" and document["Port"] + workers - 1 > 65535:
        faults.append(("Workers", f"{workers}: there are not so many ports after Port"))
    return faults


def _admin_faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with the admin port: whom it lets in, and that ports have an end."""
    host, port, workers = document["AdminHost"], document["AdminPort"], document["Workers"]
    given = [key for key in keys.ADMIN_SCHEMA if document[key] is not None]
    faults = [(key, f"only one of {', '.join(keys.ADMIN_SCHEMA)} is needed") for key in given[1:]]
    if port is None:
        return faults
    if not given and not is_loopback(host):
        words = f"others reach it, so it needs one of {', '.join(keys.ADMIN_SCHEMA)}"
        faults.append(("AdminHost", f"{shown(host)}: {words}"))
    if port + workers - 1 > 65535:
        faults.append(("Workers", f"{workers}: there are not so many ports after AdminPort"))
    return faults


def is_loopback(host: str) -> bool:
    """Tell whether a host, an address or a name, is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_secret(key: object) -> bool:
    """Tell whether a value may be a secret that stands in the wrong place."""
    words = ("secret", "auth", "credential", "ice", "turn", "token")
    return isinstance(key, str) and any(word in key.lower() for word in words)


def _null_faults(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a fault for each null where none may be: cerberus would put the default there."""
    return [
        (key, "null: null value not allowed")
        for key, value in values.items()
        if value is None and key in SCHEMA and not SCHEMA[key].get("nullable")
    ]


def _faults(errors: Mapping[Any, Any], values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (key, what is wrong with its value) for each of cerberus' errors."""
    faults: list[tuple[str, str]] = []
    for key, problems in errors.items():
        value = values.get(key)
        if key == "Auth" and isinstance(value, dict):  # whose values may be secrets
            inner = problems[0] if problems and isinstance(problems[0], dict) else {}
            faults += [
                (f"Auth.{name}", words)
                for name, deeper in inner.items()
                for words in sentences(deeper)
            ]
            continue
        if key == "Engine" and "@" in str(value):  # a password may be in it
            value = "..."
        if _is_secret(key) and value and isinstance(value, str | list | dict):
            value = "..."
        faults += [(str(key), f"{shown(value)}: {words}") for words in sentences(problems)]
    return faults


def sentences(problems: Any) -> list[str]:
    """Flatten cerberus' error of one key, however deep it is, into sentences."""
    if isinstance(problems, str):
        return [problems]
    if isinstance(problems, dict):
        return [words for inner in problems.values() for words in sentences(inner)]
    return [words for inner in problems for words in sentences(inner)]


def shown(value: object) -> str:
    """Return a value as a fault shows it: as JSON, not too much of it."""
    if isinstance(value, Path):
        return repr(str(value))
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:80]}..."
