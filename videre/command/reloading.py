"""SIGHUP: the configuration and the certificate that a running server uses from now on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from videre import logs
from videre.command import systemd
from videre.command.certificates import Certificates
from videre.command.gate import Gate
from videre.config import Config
from videre.config.schema import RELOADED, is_loopback
from videre.errors import ConfigError
from videre.namespace import Namespace
from videre.settings import LEVELS

if TYPE_CHECKING:
    from aiohttp import web

#: Loads the configuration again, from the same sources as at the start. Raises ConfigError.
Load = Callable[[], Config]


class Newest:
    """The newest valid configuration, as the parent of workers knows it, for those it restarts.

    `config` is None until the first reload. `certificates` are renewed, too.
    """

    def __init__(self, load: Load, certificates: Certificates) -> None:
        self.config: Config | None = None
        self._load = load
        self._certificates = certificates

    def reload(self) -> None:
        """Reload both; keep them if the files are invalid, which the running workers log."""
        with contextlib.suppress(ConfigError):
            config = self._load()
            self._certificates.renew(config)
            self.config = config


class Reloading:
    """The configuration in force, in `config`, and the objects that a change of it updates."""

    def __init__(
        self,
        config: Config,
        load: Load,
        certificates: Certificates,
        logging_: logs.Logging,
        log: logs.EventLog,
        gates: Sequence[Gate],
        namespaces: Sequence[Namespace],
    ) -> None:
        self.config = config
        self.admin: web.Application | None = None
        self._load = load
        self._certificates = certificates
        self._logging = logging_
        self._log = log
        self._gates = gates
        self._namespaces = namespaces
        self._lock = asyncio.Lock()

    async def reload(self) -> None:
        """Reload the configuration and the certificate; if they are invalid, log all faults."""
        async with self._lock:
            systemd.notify("RELOADING=1")
            try:
                config = await asyncio.to_thread(self._load)
                self._certificates.renew(config)
            except ConfigError as error:
                self.refused(error.faults)
            else:
                self.go_by(config)
            finally:
                systemd.notify("READY=1")

    def go_by(self, config: Config) -> None:
        """Use a configuration from now on, except for what needs a restart."""
        changed = self.config.changed(config)
        # The other keys keep their values, so that each reload reports them until the restart.
        document = {**self.config.document, **{key: config.document[key] for key in RELOADED}}
        levels = self.config.log_level, config.log_level
        self.config = dataclasses.replace(
            self.config,
            document=document,
            drain_seconds=config.drain_seconds,
            log_level=config.log_level,
        )
        self._logging.set_level(min(levels, key=LEVELS.index))  # the more verbose logs the reload
        self._log(
            "reload",
            changed=[key for key in changed if key in RELOADED],
            restart=[key for key in changed if key not in RELOADED],
        )
        self._log.flush()
        self._logging.set_level(config.log_level)
        if complaints := config.complaints():
            self._log("config-complaint", complaints=complaints)
        for namespace in self._namespaces:
            namespace.reload(config)
        for gate in self._gates:
            gate.configure(config)
        if self.admin is None:
            return
        from videre import admin

        admin.reload(self.admin, config)
        # A new AdminHost needs a restart: until then, a port open to others must keep its token.
        if config.admin_token is not None or is_loopback(self.config.admin_host):
            self.admin[admin.GUARD].token = config.admin_token

    def refused(self, faults: Sequence[str]) -> None:
        """Log why new files are not used."""
        self._log("reload-refused", faults=list(faults))
