"""Load a configuration from a JSON file, environment variables and options.

`load` returns a Config, or raises a ConfigError that lists all faults, each with its file (or
option), key and value. schema.py defines the valid values.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from videre import settings
from videre.auth import Key
from videre.config import ice_servers, keys
from videre.config.config import Config
from videre.config.schema import judge
from videre.errors import ConfigError
from videre.ice import IceServers, SharedSecret, StaticServer
from videre.settings import LEEWAY

# Separates a top-level key from what a fault names below it: `Auth.Issuer`, `IceServers[1].Urls`.
_BELOW = re.compile(r"[.\[]")


def load(
    path: Path | None = None,
    options: Mapping[str, tuple[str, Any]] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return the configuration: options override the file, which overrides the defaults.

    `options` maps a key to the name of an option or variable, and its value: `{"Port": ("--port",
    8080)}`. Paths in the file are relative to the file, all others to the working directory.
    Variables that hold secrets are looked up in `environ`, by default os.environ. Raises
    ConfigError.
    """
    options = options or {}
    values = {} if path is None else _read(path)
    folder = Path() if path is None else path.parent
    environ = os.environ if environ is None else environ
    values.update({key: value for key, (_, value) in options.items()})
    named = [key for key in ("Cert", "Key") if options.get(key, ("", None))[1] is not None]
    if named and "TLS" not in options:
        values["TLS"] = True  # an option that names a certificate implies TLS
    sources = {key: str(path) for key in values} | {key: name for key, (name, _) in options.items()}
    try:
        document, faults = judge(values)
    except RecursionError:
        raise ConfigError([f"{path or 'a variable'}: is nested too deep"]) from None

    def below(key: str) -> Path:
        return Path() if key in options else folder

    found_keys: list[Key] = []
    if not any(key.startswith("Auth") for key, _ in faults) and document.get("Auth"):
        found_keys, key_faults = keys.read(document["Auth"], below("Auth"), environ)
        faults += [(f"Auth.{key}", fault) for key, fault in key_faults]
    servers: list[StaticServer | SharedSecret] = []
    if "IceServers" not in {key for key, _ in faults}:
        servers, server_faults = ice_servers.read(
            document["IceServers"], below("IceServers"), environ
        )
        faults += server_faults
    token: str | None = None
    if not any(key.startswith("AdminToken") for key, _ in faults):
        token, token_faults = keys.admin_token(document, below("AdminTokenFile"), environ)
        faults += token_faults

    def resolve(key: str) -> Path | None:
        if document[key] is None:
            return None
        name: str = document[key]
        return below(key) / name

    words = [
        f"{sources.get(_BELOW.split(key)[0], path or 'default')}: {key}: {fault}"
        for key, fault in faults
    ]
    if {key for key, _ in faults}.isdisjoint(("TLS", "Cert", "Key")):
        files = Config(
            tls=document["TLS"], cert=resolve("Cert"), key=resolve("Key"), sources=sources
        )
        try:
            files.ssl_context()
        except ConfigError as error:
            words += error.faults
    if words:
        raise ConfigError(words)
    found = _config(document, resolve, sources, found_keys, servers)
    hosts = tuple(_placed(host, below("Host")) for host in found.hosts)
    host = hosts[0] if len(hosts) == 1 else hosts
    return dataclasses.replace(found, host=host, admin_token=token)


def _config(
    document: Mapping[str, Any],
    resolve: Callable[[str], Path | None],
    sources: Mapping[str, str],
    signing_keys: Sequence[Key],
    servers: Sequence[StaticServer | SharedSecret],
) -> Config:
    def fields(of: type) -> dict[str, Any]:
        return {
            field.name: _value(field, known, document[known.key], resolve)
            for field, known in settings.of(of).values()
        }

    return Config(
        **fields(settings.Process),
        limits=settings.Limits(**fields(settings.Limits)),
        transport=settings.Options(**fields(settings.Options)),
        auth=keys.auth(document["Auth"], signing_keys),
        leeway=(document["Auth"] or {}).get("Leeway", LEEWAY),
        ice=IceServers(servers),
        document=document,
        sources=sources,
    )


def _value(
    field: dataclasses.Field[Any],
    known: settings.Setting,
    value: Any,
    resolve: Callable[[str], Path | None],
) -> Any:
    """Convert a value of the document to the type of its field."""
    if "Path" in str(field.type):
        return resolve(known.key)
    if known.key == "Prefix":
        prefixes = [value] if isinstance(value, str) else value
        return tuple(prefix.rstrip("/") for prefix in prefixes)
    if known.key == "Host":
        return value if isinstance(value, str) else tuple(value)
    if isinstance(field.default, tuple):
        return tuple(value)
    # In a count, 0 means no limit; so does null.
    return 0 if value is None and field.type == "int" else value


def _placed(host: str, folder: Path) -> str:
    """Return a host; a Unix socket's path is relative to `folder`."""
    path = host.removeprefix("unix:")
    return host if path == host else f"unix:{folder / path}"


def parsed(text: str, source: object) -> Any:
    """Parse JSON from a file or a variable; raises ConfigError if it has a key twice.

    Raises ValueError or RecursionError for other text.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            key = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ConfigError([f"{source}: {key}: is given twice"])
        return found

    return json.loads(text, object_pairs_hook=unique)


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; raises ConfigError."""
    try:
        values = parsed(path.read_text(encoding="utf-8-sig"), path)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8 at byte {error.start}"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: is not JSON: {error}"]) from None
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: must hold a JSON object"])
    values.pop("$schema", None)  # where editors find docs/videre.schema.json
    return values
