"""The JSON Schema of a configuration file, for editors: docs/videre.schema.json.

Derived from the cerberus schema. It rejects nothing that the server accepts. The server also
checks what a JSON Schema cannot say: addresses, URLs, files, and keys that depend on each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videre.config import ice_servers, keys
from videre.config.environment import variable
from videre.config.schema import SCHEMA, SETTINGS

#: The dialect: the newest one that editors and Helm understand alike.
DIALECT = "http://json-schema.org/draft-07/schema#"

_TYPES = {"dict": "object", "list": "array"}
_ONE_OR_MORE = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
    ]
}
#: What the checks of config/checks.py require, as far as a JSON Schema can say it.
_CHECKED = {"hosts": _ONE_OR_MORE, "prefixes": _ONE_OR_MORE}
_BOUNDS = {"min": "minimum", "max": "maximum", "minlength": "minLength"}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a conf.json."""
    return {
        "$schema": DIALECT,
        "title": "Configuration of videre-server",
        "type": "object",
        "properties": {"$schema": {"type": "string"}, **_properties()},
        "additionalProperties": False,
    }


def _properties() -> dict[str, Any]:
    found = {}
    for key, known in SETTINGS.items():
        rules = SCHEMA[key]
        fragment = _fragment(known.rules)
        fragment["description"] = f"{known.meaning}. {_facts(key)}"
        fragment["default"] = rules["default"]
        found[key] = fragment
    found["Auth"] |= _object(keys.SCHEMA)
    found["IceServers"]["items"] = _ice_server()
    return found


def _facts(key: str) -> str:
    """Return what applies to the key besides its meaning."""
    known = SETTINGS[key]
    unit = f"Unit: {known.unit}. " if known.unit else ""
    reload = "SIGHUP reloads it." if known.reloaded else "Needs a restart."
    return f"{unit}{reload} Variable: {variable(key)}"


def _fragment(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of one value."""
    found: dict[str, Any] = dict(_CHECKED.get(str(rules.get("check_with")), {}))
    if "type" in rules:
        given = rules["type"] if isinstance(rules["type"], list) else [rules["type"]]
        types = [_TYPES.get(each, each) for each in given]
        types += ["null"] if rules.get("nullable") else []
        found["type"] = types if len(types) > 1 else types[0]
    found |= {name: rules[rule] for rule, name in _BOUNDS.items() if rule in rules}
    if "allowed" in rules:
        found["enum"] = list(rules["allowed"])
    if "regex" in rules:  # cerberus matches the whole value
        found["pattern"] = f"^(?:{rules['regex'].removesuffix(chr(92) + 'Z')})$"
    if rules.get("type") == "list" and "schema" in rules:
        found["items"] = _fragment(rules["schema"])
    return found


def _object(rules: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    properties = {key: _fragment(each) for key, each in rules.items()}
    return {"properties": properties, "additionalProperties": False}


def _ice_server() -> dict[str, Any]:
    """Return the schema of an `IceServers` entry, in our spelling or in the W3C's."""
    entry = _object({**ice_servers.SCHEMA, **ice_servers.W3C})
    for key in ("Urls", "urls"):
        entry["properties"][key] = _ONE_OR_MORE
    return {"type": "object", **entry, "anyOf": [{"required": [key]} for key in ("Urls", "urls")]}
