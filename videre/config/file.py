"""How a configuration is read: a JSON file, and what options and variables add to it.

`load` returns a Config or raises a ConfigError that names every fault at once, each with its file
(or option), key and value. What the values may be is in schema.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
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

# What ends the key itself where a fault names one below it: `Auth.Issuer`, `IceServers[1].Urls`.
_BELOW = re.compile(r"[.\[]")


def load(
    path: Path | None = None,
    options: Mapping[str, tuple[str, Any]] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return the configuration of a file, of the options that beat it, and of the defaults.

    `options` maps a key to the name of an option or variable, and its value: `{"Port": ("--port",
    8080)}`. Paths of the file are relative to it, all others to the working directory. Secrets may
    stand in a variable of `environ` (the process's own unless given). Raises ConfigError.
    """
    options = options or {}
    values = {} if path is None else _read(path)
    folder = Path() if path is None else path.parent
    environ = os.environ if environ is None else environ
    values.update({key: value for key, (_, value) in options.items()})
    named = [key for key in ("Cert", "Key") if options.get(key, ("", None))[1] is not None]
    if named and "TLS" not in options:
        values["TLS"] = True  # who names a certificate wants it used
    sources = {key: str(path) for key in values} | {key: name for key, (name, _) in options.items()}
    document, faults = judge(values)

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
    return dataclasses.replace(found, admin_token=token)


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
    """Return a value of the file as its field holds it."""
    if "Path" in str(field.type):
        return resolve(known.key)
    if known.key == "Prefix":
        prefixes = [value] if isinstance(value, str) else value
        return tuple(prefix.rstrip("/") for prefix in prefixes)
    if known.key == "Host" and isinstance(value, list):
        return value[0] if len(value) == 1 else tuple(value)
    if isinstance(field.default, tuple):
        return tuple(value)
    # A count has 0 for no limit, and so has null.
    return 0 if value is None and field.type == "int" else value


def _read(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds."""
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is not UTF-8: {error}"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: is not JSON: {error}"]) from None
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: must hold a JSON object, not {json.dumps(values)[:80]}"])
    return values
