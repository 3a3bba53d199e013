"""Read and validate `IceServers`: the entries and their secrets."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cerberus.schema import UnvalidatedSchema

from videre.config.keys import VARIABLE, stored
from videre.config.schema import StrictValidator, sentences, shown
from videre.ice import TTL, SharedSecret, StaticServer

#: Shortest shared secret. coturn takes any, but one credential is enough to guess secrets offline.
MIN_SECRET = 16  # characters
MIN_TTL = 60  # seconds; below this, small differences between clocks would matter
MAX_TTL = 365 * 24 * 3600  # seconds; a longer-lived credential is not temporary

Fault = tuple[str, str]


def _printable(field: str, value: object, error: Any) -> None:
    if isinstance(value, str) and not value.isprintable():
        error(field, "must be one line of printable characters")


_TEXT = {"type": "string", "minlength": 1, "check_with": _printable}

#: An entry: a server with the same credential for everybody, or one that shares a secret with us.
SCHEMA: dict[str, dict[str, Any]] = {
    "Urls": {"type": ["string", "list"], "required": True},
    "Username": _TEXT,
    "Credential": _TEXT,
    "Secret": {"type": "string"},
    "SecretFile": _TEXT,
    "SecretVariable": {"type": "string", "regex": "[A-Za-z_][A-Za-z0-9_]*"},
    "Ttl": {"type": "integer", "min": MIN_TTL, "max": MAX_TTL},
}
#: The W3C's spelling, for entries copied from a page; without shared secrets.
W3C = {key.lower(): SCHEMA[key] for key in ("Urls", "Username", "Credential")}
SECRETS = ("Secret", "SecretFile", "SecretVariable")

# The URLs of RFC 7064 and 7065, in lower case, which every browser accepts.
_URL = re.compile(
    r"(?P<scheme>stun|turn)s?:(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<transport>\?transport=(?:udp|tcp))?",
    re.ASCII,
)


def read(
    entries: Sequence[Any], folder: Path, environ: Mapping[str, str]
) -> tuple[list[StaticServer | SharedSecret], list[Fault]]:
    """Return the valid entries and all faults: (`IceServers[1].Urls`, the value and what is wrong).

    Files are relative to `folder`. Faults contain no secrets or credentials.
    """
    servers: list[StaticServer | SharedSecret] = []
    faults: list[Fault] = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            faults.append((f"IceServers[{number}]", "must be an object"))
            continue
        found = list(_faults(entry))
        wrong = {key for key, _ in found}
        secret = None
        for key in SECRETS:
            if key in entry and key not in wrong:
                try:
                    secret = _secret(key, entry[key], folder, environ)
                except OSError as error:
                    found.append((key, f"{_quoted(key, entry[key])}{error.strerror}"))
                except ValueError as error:
                    found.append((key, f"{_quoted(key, entry[key])}{error}"))
        if found:
            faults += [(f"IceServers[{number}].{key}", words) for key, words in found]
        else:
            servers.append(_server(entry, secret))
    return servers, faults


def _server(entry: Mapping[str, Any], secret: str | None) -> StaticServer | SharedSecret:
    """Build a server from a valid entry, in either spelling."""
    values = {key.lower(): value for key, value in entry.items()}
    urls = tuple(_urls(values["urls"]))
    if secret is not None:
        return SharedSecret(urls, secret, values.get("ttl", TTL))
    return StaticServer(urls, values.get("username"), values.get("credential"))


def _faults(entry: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield (key, its value and what is wrong) for each fault; does not read secrets."""
    schema = W3C if W3C.keys() & entry.keys() and not SCHEMA.keys() & entry.keys() else SCHEMA
    validator = StrictValidator(UnvalidatedSchema(schema))
    validator.validate(dict(entry))
    for key, problems in validator.errors.items():
        for words in sentences(problems):
            yield key, f"{_quoted(key, entry.get(key))}{words}"
    urls, username, credential, *secrets = schema
    yield from _url_faults(urls, entry.get(urls))
    given = [key for key in SECRETS if key in entry and key in secrets]
    static = [key for key in (username, credential) if key in entry]
    named = [url for url in _urls(entry.get(urls)) if isinstance(url, str)]
    turn = any(url.startswith("turn") for url in named)
    if given:
        yield from ((key, f"only one of {', '.join(SECRETS)} is needed") for key in given[1:])
        yield from ((key, f"is not needed with {given[0]}") for key in static)
        if named and not turn and all(map(_is_url, named)):
            words = f"{given[0]} only applies to turn, and there is no turn URL"
            yield urls, f"{_quoted(urls, entry[urls])}{words}"
        return
    if "Ttl" in entry:
        words = "only applies to a shared secret, and there is none"
        yield "Ttl", f"{_quoted('Ttl', entry['Ttl'])}{words}"
    if len(static) == 1:
        (other,) = {username, credential} - set(static)
        yield other, f"{static[0]} needs it"
    elif turn and not static:
        yield username, f"turn needs it together with {credential}, or a shared secret"


def _url_faults(key: str, value: object) -> Iterator[Fault]:
    """Yield a fault for each invalid URL; `key` is Urls or urls."""
    if value == []:
        yield key, "[]: must name a URL"
    for url in _urls(value):
        if not isinstance(url, str):
            yield key, "must be a string, or a list of strings"
        elif not _is_url(url):
            words = "must look like stun:host:port, or turn:host:port?transport=udp"
            yield key, f"{_quoted(key, url)}{words}"


def _urls(value: object) -> list[Any]:
    """Return the value's URLs, not validated, as a list; a string counts as one URL."""
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _is_url(url: str) -> bool:
    """Tell whether every browser accepts a URL; one that it rejects makes the whole call fail."""
    found = _URL.fullmatch(url)
    if found is None or not 0 < int(found["port"] or 1) < 65536:
        return False
    if found["transport"] and found["scheme"] == "stun":
        return False
    host = found["host"]
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
        elif not re.search("[A-Za-z]", host):
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return not re.search(r"^[.-]|\.[.-]|-\.|-$", host)


def _quoted(key: str, value: object) -> str:
    """Return a value for a fault; an empty string if it is, or may be, a misplaced secret."""
    if key == "Ttl":
        harmless = isinstance(value, int | float)
    elif key == "SecretVariable":
        harmless = isinstance(value, str) and VARIABLE.fullmatch(value) is not None
    elif key in ("Urls", "urls"):
        # turn:user:password@host is not a valid TURN URL, but an easy mistake.
        urls = _urls(value)
        harmless = bool(urls) and all(isinstance(url, str) and "@" not in url for url in urls)
    else:
        harmless = key == "SecretFile" and isinstance(value, str)
    return f"{shown(value)}: " if harmless else ""


def _secret(key: str, value: str, folder: Path, environ: Mapping[str, str]) -> str:
    """Return the secret that an entry contains or refers to; raises OSError or ValueError."""
    secret = stored(key, value, folder, environ)
    if not secret.isprintable():
        raise ValueError("must be one line of printable characters")
    if len(secret) < MIN_SECRET:
        raise ValueError(f"must have at least {MIN_SECRET} characters, not {len(secret)}")
    return secret
