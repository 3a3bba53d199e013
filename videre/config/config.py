"""The configuration: a JSON file, and what the command line adds to it.

`load` returns a Config or raises a ConfigError that names every fault at once, each with its file
(or option), key and value. What the values may be stands in schema.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from videre.auth import Auth, Key, NoAuth
from videre.config import ice_servers, keys
from videre.config.schema import Duplicate, WorkerPorts, judge, shown
from videre.errors import ConfigError
from videre.ice import IceServers, SharedSecret, StaticServer
from videre.limits import Limits
from videre.logs import Form
from videre.transport import Options

# What ends the key itself where a fault names one below it: `Auth.Issuer`, `IceServers[1].Urls`.
_BELOW = re.compile(r"[.\[]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A configuration that was found good. Paths are absolute, or relative to where we run."""

    host: str = "0.0.0.0"  # noqa: S104
    port: int = 1111
    prefixes: tuple[str, ...] = ("/echo",)
    admin_host: str = "127.0.0.1"
    #: Where metrics, the status page and the API are; None: nowhere.
    admin_port: int | None = None
    #: What who uses the admin port must show; None: nothing, which is for loopback alone.
    admin_token: str | None = dataclasses.field(default=None, repr=False)
    workers: int = 1
    worker_ports: WorkerPorts = "each"
    tls: bool = False
    cert: Path | None = None
    key: Path | None = None
    log_file: Path | None = None
    log_level: str = "info"
    log_format: Form = "text"
    log_max_bytes: int = 10 * 1024 * 1024
    log_backups: int = 5
    #: Seconds for which clients are still served once the server is to end.
    drain_seconds: float = 30.0
    duplicate: Duplicate = "replace"
    #: Where the rooms are kept: memory://, or the URL of a Redis or Valkey that nodes share.
    engine: str = dataclasses.field(default="memory://", repr=False)  # it may hold a password
    #: Seconds after which the others give up a node that does not answer.
    node_timeout: float = 10.0
    transport: Options = dataclasses.field(default_factory=Options)
    limits: Limits = dataclasses.field(default_factory=Limits)
    auth: Auth = dataclasses.field(default_factory=NoAuth)
    #: Seconds that a seat outlives its token, so that a fresh one can be brought.
    leeway: float = 60.0
    #: Whether there is a demo at /demo; None: where the command runs, for its own machine.
    demo: bool | None = None
    #: What members are told of STUN and TURN.
    ice: IceServers = dataclasses.field(default_factory=IceServers)
    #: What was read, by key, defaults included.
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    #: Where each key was read: a file, or an option of the command line.
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def max_packet_bytes(self) -> int | None:
        """Longest packet in bytes of UTF-8."""
        return self.transport.max_packet_bytes

    def error(self, key: str, value: object, words: str) -> ConfigError:
        """Return what tells of a value that turned out to be unusable, and where it was read."""
        source = self.sources.get(key, "default")
        return ConfigError([f"{source}: {key}: {shown(value)}: {words}"])

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

    def changed(self, other: Config) -> list[str]:
        """Return the keys whose values differ, in no order of meaning; both must be `load`ed."""
        keys = sorted(self.document)
        return [key for key in keys if self.document[key] != other.document[key]]


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
    prefix = document["Prefix"]
    prefixes = [prefix] if isinstance(prefix, str) else prefix
    return Config(
        sources=sources,
        document=document,
        host=document["Host"],
        port=document["Port"],
        workers=document["Workers"],
        worker_ports=document["WorkerPorts"],
        prefixes=tuple(each.rstrip("/") for each in prefixes),
        admin_host=document["AdminHost"],
        admin_port=document["AdminPort"],
        tls=document["TLS"],
        cert=resolve("Cert"),
        key=resolve("Key"),
        log_file=resolve("LogFile"),
        log_level=document["LogLevel"],
        log_format=document["LogFormat"],
        log_max_bytes=document["LogMaxBytes"],
        log_backups=document["LogBackups"],
        drain_seconds=document["DrainSeconds"],
        duplicate=document["Duplicate"],
        engine=document["Engine"],
        node_timeout=document["NodeTimeout"],
        limits=Limits(
            room_capacity=document["RoomCapacity"],
            max_rooms=document["MaxRooms"],
            packets_per_second=document["PacketsPerSecond"],
            packet_burst=document["PacketBurst"],
            join_timeout=document["JoinTimeout"],
            grace=document["Grace"],
            max_resume_bytes=document["MaxResumeBytes"],
        ),
        auth=keys.auth(document["Auth"], signing_keys),
        leeway=(document["Auth"] or {}).get("Leeway", Config.leeway),
        demo=document["Demo"],
        ice=IceServers(servers),
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
