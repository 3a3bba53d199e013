"""The configuration: a JSON file, what the command line adds to it, and what they must be.

`SCHEMA` is the one list of keys, with types, bounds and defaults. `load` returns a Config or raises
a ConfigError that names every fault at once, each with its file (or option), key and value.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from cerberus import TypeDefinition, Validator

from videre import keyring
from videre.auth import Auth, Key, NoAuth
from videre.errors import ConfigError
from videre.limits import Limits
from videre.transport import Options

#: What becomes of a user id that is in the room already: the old seat goes, or the newcomer.
Duplicate = Literal["replace", "reject"]

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
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        error(field, "must be an address or a network, as 10.0.0.0/8")


def _origin(field: str, value: Any, error: Error) -> None:
    if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+", value, re.IGNORECASE):
        error(field, "must be an origin as https://*.example.com, without a path")


def _string(**rules: Any) -> dict[str, Any]:
    return {"type": "string", **rules}


def _least(least: int, default: int | None) -> dict[str, Any]:
    return {"type": "integer", "min": least, "nullable": True, "default": default}


def _rate(default: float | None) -> dict[str, Any]:
    return {"type": "number", "min": 0.001, "nullable": True, "default": default}


def _switch(default: bool) -> dict[str, Any]:
    return {"type": "boolean", "default": default}


_SEAM = Options()
_LIMITS = Limits()

SCHEMA: dict[str, dict[str, Any]] = {
    "Host": _string(default="0.0.0.0", minlength=1),  # noqa: S104  # as the original
    "Port": {"type": "integer", "min": 0, "max": 65535, "default": 1111},
    "Prefix": {"check_with": _prefixes, "default": "/echo"},
    "TLS": _switch(False),
    "Cert": _string(nullable=True, default=None),
    "Key": _string(nullable=True, default=None),
    "LogFile": _string(nullable=True, default=None, minlength=1),
    "LogLevel": _string(allowed=list(LEVELS), default="info"),
    "LogMaxBytes": {"type": "integer", "min": 0, "default": 10 * 1024 * 1024},
    "LogBackups": {"type": "integer", "min": 0, "max": 1000, "default": 5},
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
    "Auth": {"type": "dict", "nullable": True, "default": None, "schema": keyring.SCHEMA},
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


class _Validator(Validator):  # type: ignore[misc]  # cerberus has no types
    # true is no number: Python's bool is an int, cerberus does not mind.
    types_mapping: ClassVar[dict[str, TypeDefinition]] = {
        **Validator.types_mapping,
        "integer": TypeDefinition("integer", (int,), (bool,)),
        "number": TypeDefinition("number", (int, float), (bool,)),
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A configuration that was found good. Paths are absolute, or relative to where we run."""

    host: str = "0.0.0.0"  # noqa: S104
    port: int = 1111
    prefixes: tuple[str, ...] = ("/echo",)
    tls: bool = False
    cert: Path | None = None
    key: Path | None = None
    log_file: Path | None = None
    log_level: str = "info"
    log_max_bytes: int = 10 * 1024 * 1024
    log_backups: int = 5
    duplicate: Duplicate = "replace"
    transport: Options = dataclasses.field(default_factory=Options)
    limits: Limits = dataclasses.field(default_factory=Limits)
    auth: Auth = dataclasses.field(default_factory=NoAuth)
    #: Seconds that a seat outlives its token, so that a fresh one can be brought.
    leeway: float = 60.0
    #: Where each key was read: a file, or an option of the command line.
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def max_packet_bytes(self) -> int | None:
        """Longest packet in bytes of UTF-8."""
        return self.transport.max_packet_bytes

    def error(self, key: str, value: object, words: str) -> ConfigError:
        """Return what tells of a value that turned out to be unusable, and where it was read."""
        source = self.sources.get(key, "default")
        return ConfigError([f"{source}: {key}: {_shown(value)}: {words}"])

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return what serves TLS 1.2 or newer with Cert and Key; None without TLS.

        Raises ConfigError for files that cannot be read or used.
        """
        if not self.tls or self.cert is None or self.key is None:
            return None
        faults: list[str] = []
        for name, path in (("Cert", self.cert), ("Key", self.key)):
            try:
                path.read_bytes()
            except (OSError, ValueError) as error:
                faults += self.error(name, path, _os_words(error)).faults
        if faults:
            raise ConfigError(faults)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.cert, self.key, password=_refuse_password)
        except _EncryptedKey:
            words = "is encrypted, a server cannot ask for its password"
            raise self.error("Key", self.key, words) from None
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                words = f"does not match the certificate {str(self.cert)!r}"
                raise self.error("Key", self.key, words) from None
            raise self.error(*self._unusable_pem(), f"is no usable PEM: {error.reason}") from None
        return context

    def _unusable_pem(self) -> tuple[str, Path | None]:
        """Return which of Cert and Key it is that OpenSSL does not take."""
        try:
            ssl.create_default_context(cafile=self.cert)
        except ssl.SSLError:
            return "Cert", self.cert
        return "Key", self.key


def _os_words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class _EncryptedKey(Exception):
    pass


def _refuse_password() -> str:
    raise _EncryptedKey


def load(
    path: Path | None = None,
    options: Mapping[str, tuple[str, Any]] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """Return the configuration of a file, of the options that beat it, and of the defaults.

    `options` maps a key to the option's name and its value: `{"Port": ("--port", 8080)}`. Paths of
    the file are relative to it, those of options to the working directory. Secrets may stand in a
    variable of `environ` (the process's own unless given). Raises ConfigError.
    """
    options = options or {}
    values = {} if path is None else _read(path)
    folder = Path() if path is None else path.parent
    environ = os.environ if environ is None else environ
    values.update({key: value for key, (_, value) in options.items()})
    for key in ("Cert", "Key"):
        if key in options:
            values["TLS"] = True  # who names a certificate wants it used
    sources = {key: str(path) for key in values} | {key: name for key, (name, _) in options.items()}
    validator = _Validator(SCHEMA)
    validator.validate(values)
    faults = _null_faults(values) + _faults(validator.errors, values)
    wrong = {key for key, _ in faults}
    document: dict[str, Any] = validator.document or {}
    if "TLS" not in wrong and document.get("TLS"):
        faults += [
            (key, f"{_shown(values.get(key))}: TLS needs it")
            for key in ("Cert", "Key")
            if key not in wrong and not document.get(key)
        ]
    keys: list[Key] = []
    if "Auth" not in wrong and document.get("Auth"):
        keys, key_faults = keyring.read(document["Auth"], folder, environ)
        faults += [(f"Auth.{key}", fault) for key, fault in key_faults]

    def resolve(key: str) -> Path | None:
        if document[key] is None:
            return None
        return Path(document[key]) if key in options else folder / document[key]

    words = [
        f"{sources.get(key.partition('.')[0], path or 'default')}: {key}: {fault}"
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
    return _config(document, resolve, sources, keys)


def _config(
    document: Mapping[str, Any],
    resolve: Callable[[str], Path | None],
    sources: Mapping[str, str],
    keys: Sequence[Key],
) -> Config:
    prefix = document["Prefix"]
    prefixes = [prefix] if isinstance(prefix, str) else prefix
    return Config(
        sources=sources,
        host=document["Host"],
        port=document["Port"],
        prefixes=tuple(each.rstrip("/") for each in prefixes),
        tls=document["TLS"],
        cert=resolve("Cert"),
        key=resolve("Key"),
        log_file=resolve("LogFile"),
        log_level=document["LogLevel"],
        log_max_bytes=document["LogMaxBytes"],
        log_backups=document["LogBackups"],
        duplicate=document["Duplicate"],
        limits=Limits(
            room_capacity=document["RoomCapacity"],
            max_rooms=document["MaxRooms"],
            packets_per_second=document["PacketsPerSecond"],
            packet_burst=document["PacketBurst"],
            join_timeout=document["JoinTimeout"],
        ),
        auth=keyring.auth(document["Auth"], keys),
        leeway=(document["Auth"] or {}).get("Leeway", Config.leeway),
        transport=Options(
            connects_per_second_per_address=document["ConnectsPerSecondPerAddress"],
            max_packet_bytes=document["MaxPacketBytes"],
            max_backlog_bytes=document["MaxBacklogBytes"],
            max_connections=document["MaxConnections"] or 0,
            max_connections_per_address=document["MaxConnectionsPerAddress"] or 0,
            origins=tuple(document["Origins"]),
            trusted_proxies=tuple(document["TrustedProxies"]),
            compression=document["Compression"],
            cookie=document["SessionCookie"],
            htmlfile=document["HTMLFile"],
            jsonp=document["JSONP"],
            sockjs_url=document["SockJSUrl"],
        ),
    )


def _read(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds."""
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: is no UTF-8: {error}"]) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{path}: is not JSON: {error}"]) from None
    if not isinstance(values, dict):
        raise ConfigError([f"{path}: must hold a JSON object, not {json.dumps(values)[:80]}"])
    return values


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
                for words in _words(deeper)
            ]
        else:
            faults += [(str(key), f"{_shown(value)}: {words}") for words in _words(problems)]
    return faults


def _words(problems: Any) -> list[str]:
    """Flatten cerberus' error of one key, however deep it is, into sentences."""
    if isinstance(problems, str):
        return [problems]
    if isinstance(problems, dict):
        return [words for inner in problems.values() for words in _words(inner)]
    return [words for inner in problems for words in _words(inner)]


def _shown(value: object) -> str:
    if isinstance(value, Path):
        return repr(str(value))
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:80]}..."
