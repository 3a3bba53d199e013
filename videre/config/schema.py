"""What a configuration may hold: every key with its rules and default, and what is wrong with one.

`SCHEMA` follows from the settings, and cerberus judges by it. What `Auth` and an entry of
`IceServers` may hold is in keys.py and ice_servers.py.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from cerberus import TypeDefinition, Validator

from videre import engine_url, settings
from videre.config import keys
from videre.config.checks import CHECKS
from videre.settings import MEMORY, Setting

#: The dataclasses whose fields are settings.
CLASSES = (settings.Process, settings.Limits, settings.Options)

#: Every setting by its key, in the order of docs/configuration.md.
SETTINGS: dict[str, Setting] = {
    **{key: known for key, (_, known) in settings.of(*CLASSES).items()},
    **{known.key: known for known in settings.DOCUMENTS},
}


def wire(default: Any) -> Any:
    """Return a default as a configuration file would spell it."""
    return list(default) if isinstance(default, tuple) else default


def _checked(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return cerberus' rules, with functions instead of the names of checks."""
    found = dict(rules)
    if "check_with" in found:
        found["check_with"] = CHECKS[found["check_with"]]
    if "schema" in found:
        found["schema"] = _checked(found["schema"])
    return found


SCHEMA: dict[str, dict[str, Any]] = {
    **{
        key: {**_checked(known.rules), "default": wire(field.default)}
        for key, (field, known) in settings.of(*CLASSES).items()
    },
    **{known.key: dict(known.rules) for known in settings.DOCUMENTS},
}
SCHEMA["Prefix"]["default"] = settings.Process.prefixes[0]
SCHEMA["Auth"]["schema"] = keys.SCHEMA

#: The keys that a running server changes at SIGHUP; all others need a restart.
RELOADED = frozenset(key for key, known in SETTINGS.items() if known.reloaded)


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
            (key, f"{shown(values.get(key))}: required by TLS")
            for key in ("Cert", "Key")
            if key not in wrong and not document.get(key)
        ]
    if wrong.isdisjoint(("Engine", "Host", "Workers", "WorkerPorts", "Port")):
        faults += _worker_faults(document)
    if wrong.isdisjoint(("AdminHost", "AdminPort", "Workers", *keys.ADMIN_KEYS)):
        faults += _admin_faults(document)
    if wrong.isdisjoint(("Demo", "Prefix", "Auth")) and document["Demo"]:
        faults += _demo_faults(document)
    return document, faults


def _demo_faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return why there can be no demo: its page must be reached, and get into a room."""
    prefix, faults = document["Prefix"], []
    if "/demo" in [each.rstrip("/") for each in ([prefix] if isinstance(prefix, str) else prefix)]:
        faults.append(("Demo", "true: /demo is also a Prefix"))
    if document["Auth"] is not None and document["Auth"].get("Required", True) is True:
        faults.append(("Demo", "true: the demo has no token, and Auth requires one"))
    return faults


def _worker_faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with workers: their rooms are in one engine, and ports have an end."""
    workers, faults = document["Workers"], []
    hosts = document["Host"] if isinstance(document["Host"], list) else [document["Host"]]
    if workers > 1 and not hasattr(os, "fork"):
        faults.append(("Workers", f"{workers}: this system cannot fork, so one is the most"))
    if workers > 1 and any(host.startswith("unix:") for host in hosts):
        faults.append(("Workers", f"{workers}: a Unix socket (Host) is for one process"))
    if workers > 1 and document["Engine"] == MEMORY:
        words = "several workers need an Engine to share rooms, such as redis://localhost:6379"
        faults.append(("Workers", f"{workers}: {words}"))
    if document["WorkerPorts"] == "each" and document["Port"] + workers - 1 > 65535:
        faults.append(("Workers", f"{workers}: not enough ports after Port"))
    return faults


def _admin_faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with the admin port: whom it lets in, and that ports have an end."""
    host, port, workers = document["AdminHost"], document["AdminPort"], document["Workers"]
    given = [key for key in keys.ADMIN_KEYS if document[key] is not None]
    faults = [(key, f"only one of {', '.join(keys.ADMIN_KEYS)} is needed") for key in given[1:]]
    if port is None:
        return faults
    if not given and not is_loopback(host):
        words = f"others can reach it, so it needs one of {', '.join(keys.ADMIN_KEYS)}"
        faults.append(("AdminHost", f"{shown(host)}: {words}"))
    if port + workers - 1 > 65535:
        faults.append(("Workers", f"{workers}: not enough ports after AdminPort"))
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
        if key == "Engine" and isinstance(value, str):
            value = engine_url.shown(value)
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
