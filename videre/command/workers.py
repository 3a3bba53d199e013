"""Workers: several processes on one machine that share one engine.

The parent opens the ports, starts the workers and forwards signals; it serves nothing itself. Only
the parent notifies the service manager: READY when all workers serve. A worker that fails before
that stops all of them; one that dies later is restarted, with exponential backoff.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from videre import logs
from videre.command import signals, streams, systemd
from videre.command.worker import (
    ENDING,
    OTHERS,
    SIGNALS,
    Listen,
    Serve,
    Worker,
    exit_code,
    how,
)
from videre.config import Config
from videre.errors import ConfigError


def configs(config: Config) -> list[Config]:
    """Return one configuration per worker: its ports (unless they share one) and log file."""
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
    """Return a worker's log file; they share a device, a pipe, or a link such as /dev/stdout."""
    if path is None or not logs.is_plain(path):
        return path
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def run(config: Config, listen: Listen, serve: Serve, reload: Callable[[], None]) -> int:
    """Run the workers until a signal stops them; return the exit code.

    `listen` opens the ports of a configuration; `serve` runs in each worker process. `reload` runs
    here after each SIGHUP, before the workers get it: a restarted worker inherits what it loaded.
    """
    workers: list[Worker] = []
    try:
        for number, each in enumerate(configs(config)):
            if workers and config.worker_ports == "shared":
                port = workers[0].served[1].public.getsockname()[1]
                each = dataclasses.replace(each, port=port)  # the one that port 0 picked
            workers.append(Worker(number, (each, listen(each))))
        return _Parent(workers, listen, serve, reload).run()
    finally:
        signals.hold(SIGNALS)  # Python removes our handlers next; a late signal would then kill us
        for worker in workers:
            worker.served[1].close()


class _Parent:
    """Keeps the workers alive."""

    def __init__(
        self,
        workers: Sequence[Worker],
        listen: Listen,
        serve: Serve,
        reload: Callable[[], None],
    ) -> None:
        self._workers = workers
        self._listen = listen
        self._serve = serve
        self._reload = reload
        self._stopping = False
        self._starting = True  # until all serve
        self._outdated = False  # whether a SIGHUP came that we have not handled yet
        self._lifeline = os.pipe()  # nobody writes to it; it ends with us
        self._code = 0

    def run(self) -> int:
        """Run until no worker is left; return 0, or the exit code of the first one that failed."""
        for each in ENDING:
            signal.signal(each, self._end)
        for each in OTHERS:
            signal.signal(each, self._hand_on)
        with _wakened() as wakened:
            for worker in self._workers:
                self._start(worker)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, OTHERS)
            while any(worker.pid or worker.due for worker in self._workers):
                self._wait(wakened)
                self._catch_up()
                self._reap()
                self._restart()
        return self._code

    def _wait(self, wakened: int) -> None:
        """Wait for a signal, a worker's notification, or a due restart; handle notifications."""
        due = [each.due for each in self._workers if each.due is not None]
        seconds = max(0.0, min(due) - time.monotonic()) if due else None
        self._hear(None if seconds is None else 1000 * seconds + 1, wakened)

    def _hear(self, milliseconds: float | None, wakened: int | None = None) -> None:
        """Wait for a notification, at most so long; handle those that are there."""
        poll = select.poll()
        speaking = {each.words: each for each in self._workers if each.words is not None}
        for file in (*speaking, *(() if wakened is None else (wakened,))):
            poll.register(file, select.POLLIN)
        for file, _ in poll.poll(milliseconds):
            heard = os.read(file, 4096)
            if file == wakened:
                continue
            worker = speaking[file]
            if not heard:  # it is exiting, or has closed an unknown descriptor
                os.close(file)
                worker.words = None
                continue
            worker.ready = worker.ready or b"READY=1" in heard
            worker.fed = worker.fed or b"WATCHDOG=1" in heard
        self._check_ready()
        self._feed_watchdog()

    def _feed_watchdog(self) -> None:
        """Notify the service manager once the event loops of all workers have reported."""
        running = [each for each in self._workers if each.pid is not None]
        if running and all(each.fed for each in running):
            for each in running:
                each.fed = False
            systemd.notify("WATCHDOG=1")

    def _check_ready(self) -> None:
        if self._starting and not self._stopping and all(each.ready for each in self._workers):
            self._starting = False
            systemd.notify("READY=1")

    def _reap(self) -> None:
        """Collect exited workers, and handle each exit."""
        running = {worker.pid: worker for worker in self._workers}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # As PID 1 of a container we also inherit orphans.
            if (worker := running.get(pid)) is not None:
                self._hear(0)  # what was said before that end: perhaps that all are ready
                worker.forget()
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: Worker, code: int) -> None:
        if self._stopping and -code in ENDING:
            code = 0  # it was stopped before it had handlers
        if code == 0:  # we or its admin port stopped it
            worker.ready = True
            worker.served[1].close()  # otherwise clients would connect, and wait forever
            self._check_ready()
        elif self._stopping:
            self._code = self._code or exit_code(code)
        else:
            self._failed(worker, how(code), exit_code(code))

    def _failed(self, worker: Worker, reason: str, code: int) -> None:
        """Restart a worker after a while; at the start, stop all of them instead."""
        if self._starting:
            streams.complain(f"worker {worker.number} {reason} at the start, stopping all")
            self._code = code
            self._stopping = True
            self._tell_all(signal.SIGINT)
        else:
            worker.leave_shared_port()
            wait = worker.put_off(time.monotonic())
            told = f"worker {worker.number} {reason}, restarting it in {wait:g} s"
            streams.complain(told)

    def _restart(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if self._stopping:
                worker.due = None
            elif worker.due is not None and worker.due <= now:
                worker.due = None
                self._start(worker)

    def _end(self, number: int, _frame: object) -> None:
        self._stopping = True
        systemd.notify("STOPPING=1")
        self._tell_all(number)

    def _hand_on(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._outdated = True
        else:
            self._tell_all(number)

    def _catch_up(self) -> None:
        """Reload after a SIGHUP, then let the workers: a file that breaks later does no harm."""
        if self._outdated:
            self._outdated = False
            self._reload()
            self._tell_all(signal.SIGHUP)

    def _tell_all(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # it has just exited
                    os.kill(worker.pid, number)

    def _start(self, worker: Worker) -> None:
        # Block signals until the new worker has dropped our handlers. We forward to it those that
        # arrive meanwhile.
        held_back = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            if self._stopping:
                return
            self._catch_up()  # it would never hear of a SIGHUP that came a moment ago
            worker.began = time.monotonic()
            try:
                worker.reopen(self._listen)
                pid, pipe = _fork()
            except ConfigError as error:
                self._failed(worker, f"could not listen ({'; '.join(error.faults)})", 2)
                return
            except OSError as error:
                self._failed(worker, f"could not be forked ({error.strerror})", 1)
                return
            if pid:
                worker.pid, worker.words = pid, pipe
                return
            others = [each.served[1] for each in self._workers if each is not worker]
            worker.work(self._serve, pipe, self._lifeline, others)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held_back)


def _fork() -> tuple[int, int]:
    """Fork; return the child's pid (0 in the child), and an end of a pipe that the child writes."""
    hears, says = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(hears)
        os.close(says)
        raise
    os.close(says if pid else hears)
    return pid, hears if pid else says


@contextmanager
def _wakened() -> Iterator[int]:
    """Yield a descriptor that becomes readable on each signal, including SIGCHLD."""
    hears, says = os.pipe()
    for file in (hears, says):
        os.set_blocking(file, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    before = signal.set_wakeup_fd(says, warn_on_full_buffer=False)
    try:
        yield hears
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(hears)
        os.close(says)
