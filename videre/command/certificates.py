"""The certificate that new connections get; another one may take its place while we run."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence

from videre.config import Config
from videre.errors import ConfigError

# Seconds between two looks at the files: ACME clients renew weeks before a certificate ends.
WATCH = 5.0

Tell = Callable[[Sequence[str]], None]


class Certificates:
    """Serves TLS with Cert and Key of a configuration, and with what is put there later.

    `context` is for the listener. Each handshake is carried out with the newest certificate that
    was found good, as a whole: a pair that does not match, half of it written yet, is never used.
    Raises ConfigError if the first ones are of no use.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stamp = self._now()
        self.context = config.ssl_context()
        self._newest = self.context
        if self.context is not None:
            # OpenSSL asks this at each handshake, with or without a server name (SNI).
            self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        if self._newest is not None:
            connection.context = self._newest

    def renew(self, config: Config) -> None:
        """Serve new connections with what `config` names; raises ConfigError, and all stays."""
        stamp = _stamp(config)
        newest = config.ssl_context()
        self._config, self._stamp, self._newest = config, stamp, newest

    def _now(self) -> object:
        return _stamp(self._config)

    async def watch(self, renewed: Callable[[], None], refused: Tell) -> None:
        """Look at the files for ever; take them when they have changed, and tell.

        What is refused is told of once, and tried again when it has changed again.
        """
        seen = self._stamp
        while True:
            await asyncio.sleep(WATCH)
            stamp = await asyncio.to_thread(self._now)
            if stamp in (seen, self._stamp):
                continue
            seen = stamp
            try:
                self.renew(self._config)
            except ConfigError as error:
                refused(error.faults)
            else:
                renewed()


def _stamp(config: Config) -> object:
    """Return what is another value when the files are others."""
    found = []
    for path in (config.cert, config.key):
        try:
            status = path.stat() if path is not None else None
        except OSError:
            status = None  # gone, for now: it is told when it is to be read
        found.append(status and (status.st_ino, status.st_size, status.st_mtime_ns))
    return tuple(found)
