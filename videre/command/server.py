"""One server process: serves, handles signals, and drains.

SIGTERM         drain: ask clients to leave; close those still connected after DrainSeconds
SIGINT          close every client with 1001, then exit
a second one    exit at once
SIGHUP          reload the configuration and the certificate
SIGUSR1         reopen the log file, for logrotate
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from videre import demo, logs
from videre.app import NAMESPACES, create_app
from videre.command import announcing, signals, speedups, streams, systemd
from videre.command.accepting import Site
from videre.command.certificates import Certificates
from videre.command.gate import Gate, raise_file_limit
from videre.command.http import Runner
from videre.command.listening import Ports, url, urls
from videre.command.reloading import Load, Reloading
from videre.config import Config
from videre.config.schema import is_loopback
from videre.jobs import Jobs
from videre.version import __version__

if TYPE_CHECKING:
    from videre.command.lan import Lan

# Descriptors assumed for the admin port's gate: enough for a few people and a Prometheus.
ADMIN_SOCKETS = 128
# Seconds at the end of a drain for accepted connections to get a last response.
LAST_ANSWERS = 1.0


class Server:
    """Serves a configuration on listening sockets until told to stop."""

    def __init__(
        self,
        config: Config,
        certificates: Certificates,
        ports: Ports,
        logging_: logs.Logging,
        load: Load,
        lan: Lan | None = None,
        newest: Config | None = None,
    ) -> None:
        self._config = config  # as of the start; Reloading has later changes
        self._newest = newest
        self._lan = lan
        self._certificates = certificates
        self._ports = ports
        self._admin_url: str | None = None
        self._logging = logging_
        self._journal = logs.Journal(logging.getLogger("videre"), batched=True)
        self._log = logs.EventLog(self._journal, "")
        self._gate = Gate(config, self._log, raise_file_limit())
        self._gates = [self._gate]  # and that of the admin port
        self._app = create_app(config, journal=self._journal)
        if lan is not None or demo.wanted_locally(config):
            demo.mount(self._app, config, demo.is_here if lan is None else lan.shows)
        self._reloading = Reloading(
            config, load, certificates, logging_, self._log, self._gates, self._app[NAMESPACES]
        )
        self._stop = asyncio.Event()
        self._signalled: float | None = None  # when a signal first asked us to stop
        self._ending = False
        self._drained = False
        self._jobs = Jobs()

    async def run(self) -> None:
        """Serve until a signal or the admin port stops us."""
        signals.heed("SIGTERM", self._on_stop, signal.SIGTERM)
        signals.heed("SIGINT", self._on_stop, signal.SIGINT)
        signals.heed("SIGHUP", self._start, self._reloading.reload)
        signals.heed("SIGUSR1", self._reopen_log)
        signals.heed_end_of_parent(self._on_end_of_parent)
        signals.release(signals.CHANGES)
        self._log("start", version=__version__, pid=os.getpid(), sockets=self._gate.most)
        self._warn_of_few_files()
        runner = Runner(self._app, keep_alive=self._config.keep_alive)
        await runner.setup()
        admin_runner: Runner | None = None
        try:
            context = self._certificates.context
            if self._ports.admin:
                admin_runner = await self._set_up_admin()
            if self._newest is not None:  # before anybody can connect
                self._reloading.go_by(self._newest)
            if admin_runner is not None:
                await self._serve_admin(admin_runner, self._ports.admin)
            sites = [
                Site(runner, each, self._gate, ssl_context=context)
                for each in self._ports.listening
            ]
            for site in sites:
                await site.start()
            self._tell_listening()
            if context is not None:
                self._start(self._watch_certificates)
            speedups.tune_garbage_collection()
            self._start(speedups.keep_thawed)
            systemd.notify("READY=1")
            if (seconds := systemd.watchdog()) is not None:
                self._start(lambda: systemd.feed_watchdog(seconds))
            await self._stop.wait()
            if self._drained and runner.server is not None:
                await self._give_last_answers(sites)
        finally:
            systemd.notify("STOPPING=1")
            await self._jobs.end()
            await runner.cleanup()
            if admin_runner is not None:  # last, so that it shows the shutdown
                await admin_runner.cleanup()
            for gate in self._gates:
                gate.close()
            self._log("stop")
            self._log.flush()

    def _warn_of_few_files(self) -> None:
        """Log a warning if the limit of open files does not allow MaxConnections."""
        most, promised = self._gate.most, self._config.transport.max_connections
        if most is not None and promised > most:
            self._log("few-descriptors", sockets=most, max_connections=promised)

    async def _set_up_admin(self) -> Runner:
        """Prepare to serve the admin port."""
        from videre import admin  # with its metrics: most servers need neither

        namespaces = self._app[NAMESPACES]
        app = admin.create_app(
            namespaces,
            config=self._config,
            drain=self.drain,
            sockets=self._gate,
            loggers=[logging.getLogger(name) for name in logs.LOGGERS],
        )
        self._reloading.admin = app
        # Operators connect to this port themselves, even from the address of a proxy.
        config = dataclasses.replace(self._config, proxy_protocol=False)
        self._gates.append(Gate(config, self._log, ADMIN_SOCKETS))
        runner = Runner(app)
        await runner.setup()
        return runner

    async def _serve_admin(self, runner: Runner, listening: Sequence[socket.socket]) -> None:
        """Serve the admin port."""
        # No TLS on loopback: the certificate is for the public name.
        context = None if is_loopback(self._config.admin_host) else self._certificates.context
        for each in listening:
            await Site(runner, each, self._gates[-1], ssl_context=context).start()
        self._admin_url = f"{url(listening[0], tls=context is not None)}/status"

    def _start(self, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._jobs.spawn(job())

    def _tell_listening(self) -> None:
        found = [each for opened in self._ports.listening for each in urls(self._config, opened)]
        about = {} if self._admin_url is None else {"admin": self._admin_url}
        self._log("listen", urls=found, **about)
        self._log.flush()
        if self._config.log_file is None and self._config.log_format == "json":
            return  # standard output is the log; every line must be JSON
        faults = [each.rooms.fault for each in self._app[NAMESPACES] if each.rooms.fault]
        link = announcing.demo_link(self._config, self._ports.listening, self._lan)
        streams.tell(announcing.told(found, link, self._lan, self._admin_url, faults))

    # Shutdown.

    def _on_stop(self, number: signal.Signals) -> None:
        now = asyncio.get_running_loop().time()
        if self._signalled is not None:
            if now - self._signalled >= signals.together:
                os._exit(0)  # a second signal: exit at once
            return
        self._signalled = now
        self._log("signal", signal=number.name)
        if number == signal.SIGTERM and self._reloading.config.drain_seconds > 0:
            self.drain()
            return
        self._ending = True
        self._stop.set()

    def _on_end_of_parent(self) -> None:
        """Stop as at SIGTERM: nobody would restart us, and a new parent needs our port."""
        if self._signalled is None:  # the parent may have been killed while we drain
            self._log("parent-gone")
            self._on_stop(signal.SIGTERM)

    def drain(self) -> None:
        """Start to drain: ask all clients to leave; stop when they have, or after DrainSeconds.

        Does nothing if the server is already stopping.
        """
        if not self._ending:
            self._ending = True
            systemd.notify("STOPPING=1")
            self._start(self._drain)

    async def _drain(self) -> None:
        seconds = self._reloading.config.drain_seconds
        namespaces = self._app[NAMESPACES]
        sessions = sum(each.sessions.open_sessions for each in namespaces)
        self._log("drain", seconds=seconds, sessions=sessions)
        try:
            await asyncio.gather(*(each.drain(seconds) for each in namespaces))
        finally:
            self._drained = True
            self._stop.set()

    async def _give_last_answers(self, sites: Sequence[Site]) -> None:
        """Stop accepting, and let accepted connections get a response before they are closed.

        New connections go to whoever else holds the socket: a service manager or the next process.
        """
        for site in sites:
            await site.stop()
        loop = asyncio.get_running_loop()
        end = loop.time() + LAST_ANSWERS
        while loop.time() < end:
            if not self._gate.open:  # counts from accept on, TLS handshakes included
                return
            await asyncio.sleep(0.02)

    # Files that change.

    async def _watch_certificates(self) -> None:
        renewed = functools.partial(self._log, "certificate-renewed")
        await self._certificates.watch(renewed, self._reloading.refused)

    def _reopen_log(self) -> None:
        self._log.flush()
        self._logging.reopen()


async def serve(
    config: Config,
    certificates: Certificates,
    ports: Ports,
    logging_: logs.Logging,
    load: Load,
    lan: Lan | None = None,
    newest: Config | None = None,
) -> None:
    """Serve `config` until told to stop; see Server. `lan`: show the demo to the networks too.

    `newest` is what a restarted worker goes by: the configuration that the others have reloaded.
    """
    await Server(config, certificates, ports, logging_, load, lan, newest).run()
