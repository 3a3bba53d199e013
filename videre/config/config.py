"""A configuration that was found good."""

from __future__ import annotations

import dataclasses
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videre.auth import Auth, NoAuth
from videre.config.schema import shown
from videre.errors import ConfigError
from videre.ice import IceServers
from videre.settings import LEEWAY, Limits, Options, Process


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Process):
    """A configuration that was found good. Paths are absolute, or relative to where we run.

    The settings of the process are its own fields; see `settings.Process`.
    """

    #: Bearer token that clients of the admin port must send; None: none, for loopback alone.
    admin_token: str | None = dataclasses.field(default=None, repr=False)
    transport: Options = dataclasses.field(default_factory=Options)
    limits: Limits = dataclasses.field(default_factory=Limits)
    auth: Auth = dataclasses.field(default_factory=NoAuth)
    #: Seconds that a seat outlives its token, so that the client can fetch a fresh one.
    leeway: float = LEEWAY
    #: The STUN and TURN servers that members learn of.
    ice: IceServers = dataclasses.field(default_factory=IceServers)
    #: What was read, by key, defaults included.
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    #: Where each key was read: a file, or an option of the command line.
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where to listen, one or more."""
        return (self.host,) if isinstance(self.host, str) else self.host

    @property
    def max_packet_bytes(self) -> int | None:
        """Longest packet in bytes of UTF-8."""
        return self.transport.max_packet_bytes

    def error(self, key: str, value: object, words: str) -> ConfigError:
        """Return what tells of a value that turned out to be unusable, and where it was read."""
        source = self.sources.get(key, "default")
        return ConfigError([f"{source}: {key}: {shown(value)}: {words}"])

    def complaints(self) -> list[str]:
        """Return, in words, what works but should not be so; empty for a good configuration."""
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
            raise self.error(
                *self._unusable_pem(), f"is not a usable PEM file: {error.reason}"
            ) from None
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
