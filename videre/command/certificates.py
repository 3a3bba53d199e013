"""The certificate of new connections, renewed without a restart."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence

from videre.config import Config
from videre.errors import ConfigError

# Seconds between two checks of the files: ACME clients renew weeks before a certificate expires.
WATCH = 5.0

Tell = Callable[[Sequence[str]], None]


class Certificates:
    """Serves TLS with Cert and Key of a configuration, and with their replacements.

    `context` is for the listener. Each handshake uses the newest valid pair; a pair that does not
    match, because only half of it is written yet, is never used. Raises ConfigError if the first
    pair is unusable.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stamp = self._now()
        self.context = config.ssl_context()
        self._newest = self.context
        if self.context is not None:
            # OpenSSL calls this at each handshake, with or without a server name (SNI).
            self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        if self._newest is not None:
            connection.context = self._newest

    def renew(self, config: Config) -> None:
        """Serve new connections with `config`'s pair.

        Raises ConfigError if that is unusable; then the current pair stays. It also stays if
        `config` has no TLS: turning TLS on or off needs a restart.
        """
        stamp = _stamp(config)
        newest = config.ssl_context()
        if newest is None:
            return
        self._config, self._stamp, self._newest = config, stamp, newest

    def _now(self) -> object:
        return _stamp(self._config)

    async def watch(self, renewed: Callable[[], None], refused: Tell) -> None:
        """Poll the files forever: reload them when they change, and call `renewed` or `refused`.

        Report an unusable pair once; try again after the next change.
        """
        unusable: object = None
        while True:
            await asyncio.sleep(WATCH)
            stamp = await asyncio.to_thread(self._now)
            if stamp in (unusable, self._stamp):
                continue
            try:
                self.renew(self._config)
            except ConfigError as error:
                unusable = stamp
                refused(error.faults)
            else:
                unusable = None
                renewed()


def _stamp(config: Config) -> object:
    """Return a fingerprint that changes when either file does."""
    found = []
    for path in (config.cert, config.key):
        try:
            status = path.stat() if path is not None else None
        except (OSError, ValueError):  # ValueError: a name that no file can have
            status = None  # missing for now: reading it will report that
        found.append(status and (status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
