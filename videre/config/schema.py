"""The schema of a configuration, and its validation: every key with its rules and default.

`SCHEMA` is derived from the settings; cerberus validates with it. The schemas of `Auth` and of an
`IceServers` entry are in keys.py and ice_servers.py.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from cerberus import TypeDefinition, Validator
from cerberus.schema import UnvalidatedSchema

from videre import engine_url, settings
from videre.config import keys
from videre.config.checks import CHECKS
from videre.settings import MEMORY, Setting

#: The dataclasses whose fields are settings.
CLASSES = (settings.Process, settings.Limits, settings.Options)

#: All settings by key, in the order of docs/configuration.md.
SETTINGS: dict[str, Setting] = {
    **{key: known for key, (_, known) in settings.of(*CLASSES).items()},
    **{known.key: known for known in settings.DOCUMENTS},
}


def wire(default: Any) -> Any:
    """Return a default as it appears in a configuration file."""
    return list(default) if isinstance(default, tuple) else default


def _checked(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rules for cerberus, with the names of checks replaced by their functions."""
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

# The keys whose values are, or may be, secrets: a fault does not show them.
_SECRET = frozenset(("Auth", "IceServers", *keys.ADMIN_KEYS))

#: The keys that SIGHUP reloads; all others need a restart.
RELOADED = frozenset(key for key, known in SETTINGS.items() if known.reloaded)


class StrictValidator(Validator):  # type: ignore[misc]  # cerberus has no types
    """cerberus' validator, except for two rules.

    true is not a number (Python's bool is an int). A value that is not allowed is told which ones
    are, instead of being repeated whole.
    """

    types_mapping: ClassVar[dict[str, TypeDefinition]] = {
        **Validator.types_mapping,
        "integer": TypeDefinition("integer", (int,), (bool,)),
        "number": TypeDefinition("number", (int, float), (bool,)),
    }

    def _validate_allowed(self, allowed: Sequence[str], field: str, value: object) -> None:
        """{'type': 'list'}"""
        if value not in allowed:
            self._error(field, f"must be {' or '.join(allowed)}")


def judge(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the values with defaults added, and the faults: (key, its value and what is wrong).

    If there are no faults, the document has all keys of the schema.
    """
    validator = StrictValidator(UnvalidatedSchema(SCHEMA))  # checking it takes 25 ms: a test does
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
    if wrong.isdisjoint(("AdminHost", "AdminPort", "Host", "Port", "Workers", "WorkerPorts")):
        faults += _port_faults(document)
    if wrong.isdisjoint(("Demo", "Prefix", "Auth")) and document["Demo"]:
        faults += _demo_faults(document)
    return document, faults


def _demo_faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return why the demo cannot work: its page must be reachable and able to join a room."""
    prefix, faults = document["Prefix"], []
    if "/demo" in [each.rstrip("/") for each in ([prefix] if isinstance(prefix, str) else prefix)]:
        faults.append(("Demo", "true: /demo is also a Prefix"))
    if document["Auth"] is not None and document["Auth"].get("Required", True) is True:
        faults.append(("Demo", "true: the demo has no token, and Auth requires one"))
    return faults


def _worker_faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the faults of workers: they need fork, TCP, a shared engine and enough ports."""
    workers, faults = document["Workers"], []
    hosts = document["Host"] if isinstance(document["Host"], list) else [document["Host"]]
    if workers > 1 and not hasattr(os, "fork"):
        faults.append(("Workers", f"{workers}: this system cannot fork, so it runs one process"))
    if workers > 1 and any(host.startswith("unix:") for host in hosts):
        faults.append(("Workers", f"{workers}: a Unix socket (Host) is for one process"))
    if workers > 1 and document["Engine"] == MEMORY:
        words = "several workers need an Engine to share rooms, such as redis://localhost:6379"
        faults.append(("Workers", f"{workers}: {words}"))
    if document["WorkerPorts"] == "each" and document["Port"] + workers - 1 > 65535:
        faults.append(("Workers", f"{workers}: not enough ports after Port"))
    return faults


def _admin_faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the faults of the admin port: several tokens, no token, or not enough ports."""
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


def _port_faults(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a fault if a port is to serve both clients and operators."""
    host, port, admin_host, admin_port, workers = (
        document[key] for key in ("Host", "Port", "AdminHost", "AdminPort", "Workers")
    )
    if not port or not admin_port:
        return []
    public = range(port, port + (workers if document["WorkerPorts"] == "each" else 1))
    both = set(public) & set(range(admin_port, admin_port + workers))
    hosts = host if isinstance(host, list) else [host]
    if not both or not any(_meet(each, admin_host) for each in hosts):
        return []
    of_workers = f" (there are {workers} Workers)" if workers > 1 else ""
    return [("AdminPort", f"{admin_port}: {min(both)} is also a port for clients{of_workers}")]


def _meet(one: str, other: str) -> bool:
    """Tell whether two hosts have a common address; names are compared as they are."""
    pair = {one, other}
    if any(each.startswith("unix:") for each in pair):
        return False
    is_six = any(":" in each for each in pair)
    return len(pair) == 1 or not pair.isdisjoint(("*", "::")) or ("0.0.0.0" in pair and not is_six)  # noqa: S104


def is_loopback(host: str) -> bool:
    """Tell whether a host (an address or a name) is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _null_faults(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a fault for each null that is not allowed; cerberus would use the default instead."""
    return [
        (key, "null: null value not allowed")
        for key, value in values.items()
        if value is None and key in SCHEMA and not SCHEMA[key].get("nullable")
    ]


def _faults(errors: Mapping[Any, Any], values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (key, its value and what is wrong) for each of cerberus' errors."""
    faults: list[tuple[str, str]] = []
    for key, problems in errors.items():
        if key == "Auth" and isinstance(values.get(key), dict):
            inner = problems[0] if problems and isinstance(problems[0], dict) else {}
            faults += [
                (f"Auth.{name}", words)
                for name, deeper in inner.items()
                for words in sentences(deeper)
            ]
            continue
        faults += [
            (str(key), f"{_quoted(key, value)}{words}")
            for value, words in _by_value(problems, values.get(key))
        ]
    return faults


def _by_value(problems: Sequence[Any], value: Any) -> Iterator[tuple[Any, str]]:
    """Yield each sentence about a key with the value at fault: of a list, the entry."""
    for problem in problems:
        if isinstance(problem, dict) and isinstance(value, list):
            for number, deeper in problem.items():
                yield from ((value[number], words) for words in sentences(deeper))
        else:
            yield from ((value, words) for words in sentences(problem))


def _quoted(key: str, value: object) -> str:
    """Return a value and a colon for a fault; an empty string if it is, or may be, a secret."""
    if key not in SCHEMA or key in _SECRET:  # an unknown key may be a misspelled secret one
        return ""
    if key == "Engine":
        return f"{shown(engine_url.shown(value))}: " if isinstance(value, str) else ""
    return f"{shown(value)}: "


def sentences(problems: Any) -> list[str]:
    """Flatten the nested errors that cerberus reports for one key into sentences."""
    if isinstance(problems, str):
        return [problems]
    if isinstance(problems, dict):
        return [words for inner in problems.values() for words in sentences(inner)]
    return [words for inner in problems for words in sentences(inner)]


def shown(value: object) -> str:
    """Return a value for a fault: JSON, cut after 80 characters; not a private key."""
    text = repr(str(value)) if isinstance(value, Path) else json.dumps(value, default=str)
    if "PRIVATE KEY" in text:  # the key itself in place of the path of its file
        return "..."
    return text if isinstance(value, Path) or len(text) <= 80 else f"{text[:80]}..."
