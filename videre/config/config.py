"""A valid configuration."""

from __future__ import annotations

import dataclasses
import datetime
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videre.auth import Auth, NoAuth
from videre.config.schema import shown
from videre.errors import ConfigError
from videre.ice import IceServers
from videre.settings import LEEWAY, Limits, Options, Process

# OpenSSL's reasons for a key that is not the certificate's: of its type, or of another one.
_MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Process):
    """A valid configuration. Paths are absolute, or relative to the working directory.

    It inherits the process's settings as fields; see `settings.Process`.
    """

    #: Bearer token that admin clients must send; None: no token, on loopback only.
    admin_token: str | None = dataclasses.field(default=None, repr=False)
    transport: Options = dataclasses.field(default_factory=Options)
    limits: Limits = dataclasses.field(default_factory=Limits)
    auth: Auth = dataclasses.field(default_factory=NoAuth)
    #: Seconds that a seat outlives its token, so that the client can fetch a fresh one.
    leeway: float = LEEWAY
    #: The STUN and TURN servers that members receive.
    ice: IceServers = dataclasses.field(default_factory=IceServers)
    #: The values by key, defaults included.
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    #: Where each key was set: a file, a variable, or a command-line option.
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts to listen on, at least one."""
        return (self.host,) if isinstance(self.host, str) else self.host

    @property
    def max_packet_bytes(self) -> int | None:
        """Longest packet in bytes of UTF-8."""
        return self.transport.max_packet_bytes

    def error(self, key: str, value: object, words: str) -> ConfigError:
        """Return an error that names an unusable value, its key, and where it was set."""
        source = self.sources.get(key, "default")
        return ConfigError([f"{source}: {key}: {shown(value)}: {words}"])

    def complaints(self) -> list[str]:
        """Return warnings about settings that work badly or are unsafe; empty if there are none."""
        return [*self._bursts(), *self._validity()]

    def _bursts(self) -> list[str]:
        waiting, at_once = (
            self.transport.max_backlog_bytes,
            self.limits.at_once(self.max_packet_bytes),
        )
        if waiting is None or (at_once is not None and at_once <= waiting):
            return []
        key = "BytesPerSecond" if self.limits.bytes_per_second is None else "ByteBurst"
        value = None if key == "BytesPerSecond" else at_once
        sent = "any number of" if at_once is None else f"{at_once}"
        words = (
            f"a member may send {sent} bytes at once, but only {waiting} may wait for a reader "
            "(MaxBacklogBytes): it can have others closed as slow consumers"
        )
        return list(self.error(key, value, words).faults)

    def _validity(self) -> list[str]:
        """Return a warning if the certificate is not valid today: no client would accept it."""
        if not self.tls or self.cert is None:
            return []
        from cryptography import x509  # it takes long, and few servers have a certificate

        try:
            found = x509.load_pem_x509_certificate(self.cert.read_bytes())
        except (OSError, ValueError):
            return []  # ssl_context reports it
        since, until = found.not_valid_before_utc, found.not_valid_after_utc
        now = datetime.datetime.now(datetime.UTC)
        if since <= now <= until:
            return []
        words = f"expired on {until:%Y-%m-%d}" if until < now else f"is valid from {since:%Y-%m-%d}"
        return list(self.error("Cert", self.cert, words).faults)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return a context that serves TLS 1.2 or newer with Cert and Key; None without TLS.

        Raises ConfigError if a file cannot be read or used.
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
            if error.reason in _MISMATCHES:
                words = f"does not match the certificate {str(self.cert)!r}"
                raise self.error("Key", self.key, words) from None
            reason = f": {error.reason}" if error.reason else ""
            raise self.error(*self._unusable_pem(), f"is not a usable PEM file{reason}") from None
        except OSError as error:  # a file that was removed a moment ago
            raise self.error("Cert", self.cert, f"this or the Key: {_os_words(error)}") from None
        return context

    def _unusable_pem(self) -> tuple[str, Path | None]:
        """Return which of Cert and Key OpenSSL rejects: its key and path."""
        try:
            ssl.create_default_context(cafile=self.cert)
        except OSError:
            return "Cert", self.cert
        return "Key", self.key

    def changed(self, other: Config) -> list[str]:
        """Return the keys whose values differ, sorted; `load` must have made both."""
        keys = sorted(self.document)
        return [key for key in keys if self.document[key] != other.document[key]]


def _os_words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class _EncryptedKey(Exception):
    pass


def _refuse_password() -> str:
    raise _EncryptedKey
