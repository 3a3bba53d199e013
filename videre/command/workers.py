"""Workers: several processes on one machine, whose rooms are in one engine.

The parent opens the ports, starts the workers, starts one again that has died, and hands signals
on. It serves nothing itself. A service manager hears of it alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from videre.command import systemd
from videre.command.listening import Ports
from videre.config import Config
from videre.errors import ConfigError

# Seconds before a worker that has died is started again: one that dies at once must not spin.
RESTART = 1.0

# What ends all workers, and what they are told without it (see server.py).
ENDING = (signal.SIGTERM, signal.SIGINT)
OTHERS = (signal.SIGHUP, signal.SIGUSR1)
SIGNALS = (*ENDING, *OTHERS)

Listen = Callable[[Config], Ports]
Serve = Callable[[Config, Ports], int]


def configs(config: Config) -> list[Config]:
    """Return each worker's configuration: its ports, unless they share one, and its log file."""
    each = config.worker_ports == "each" and config.port != 0
    return [
        dataclasses.replace(
            config,
            port=config.port + number if each else config.port,
            admin_port=config.admin_port and config.admin_port + number,
            log_file=_numbered(config.log_file, number),
        )
        for number in range(config.workers)
    ]


def _numbered(path: Path | None, number: int) -> Path | None:
    return path and path.with_name(f"{path.stem}.{number}{path.suffix}")


def run(config: Config, listen: Listen, serve: Serve) -> int:
    """Run the workers until a signal says stop; return the exit code.

    `listen` opens the ports of a configuration, `serve` serves on them in a process of its own.
    """
    workers: list[tuple[Config, Ports]] = []
    try:
        for each in configs(config):
            if workers and config.worker_ports == "shared":
                port = workers[0][1].public.getsockname()[1]
                each = dataclasses.replace(each, port=port)  # 0: the one found
            workers.append((each, listen(each)))
        return _Parent(workers, serve).run()
    finally:
        for _, ports in workers:
            ports.close()


class _Parent:
    """Keeps the workers alive."""

    def __init__(self, workers: Sequence[tuple[Config, Ports]], serve: Serve) -> None:
        self._workers = workers
        self._serve = serve
        self._running: dict[int, int] = {}  # process id -> number of the worker
        self._stopping = False

    def run(self) -> int:
        """Return when no worker is left: the greatest exit code of one that was told to stop."""
        for each in ENDING:
            signal.signal(each, self._end)
        for each in OTHERS:
            signal.signal(each, self._hand_on)
        for number in range(len(self._workers)):
            self._start(number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OTHERS)
        systemd.notify("READY=1")  # the ports are open: who connects waits for a worker
        worst = 0
        while self._running:
            pid, status = os.wait()
            if pid not in self._running:
                continue  # the first process of a container is given the orphans of others
            number = self._running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping and -code in ENDING:
                code = 0  # it had not come so far that it could end by itself
            if self._stopping or code == 0:
                worst = max(worst, abs(code))
                continue
            print(f"videre-server: worker {number} ended ({code}), once more", file=sys.stderr)
            time.sleep(RESTART)
            self._start(number)
        return worst

    def _end(self, number: int, frame: object) -> None:
        self._stopping = True
        systemd.notify("STOPPING=1")
        self._hand_on(number, frame)

    def _hand_on(self, number: int, _frame: object) -> None:
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, number)

    def _start(self, number: int) -> None:
        # A signal that comes meanwhile reaches the new worker, too; and not by our own handlers.
        held_back = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            if self._stopping:
                return
            if pid := os.fork():
                self._running[pid] = number
                return
            self._work(number)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held_back)

    def _work(self, number: int) -> NoReturn:
        """Be a worker."""
        code = 1
        try:
            os.setpgid(0, 0)  # a terminal's Ctrl-C comes to the parent, which hands it on
            os.environ.pop("NOTIFY_SOCKET", None)
            for each in ENDING:
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # the server unblocks the others
            for other, (_, ports) in enumerate(self._workers):
                if other != number:
                    ports.close()
            code = self._serve(*self._workers[number])
        except ConfigError as error:
            print(f"videre-server: {error}", file=sys.stderr)
        finally:
            sys.stdout.flush()
            os._exit(code)
