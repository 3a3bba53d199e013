"""Workers: several processes on one machine, whose rooms are in one engine.

The parent opens the ports, starts the workers, and hands signals on. It serves nothing itself. A
service manager hears of it alone: READY when all workers serve. A worker that fails before that
ends all; one that dies later is started again, after longer and longer waits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from videre.command import signals, streams, systemd
from videre.command.listening import Ports
from videre.config import Config
from videre.errors import ConfigError

# Seconds before a worker that has died is started again: doubled each time, up to the longest, for
# one that dies again and again must not fill the log; as at first when it has served for so long.
FIRST_RESTART = 1.0
LONGEST_RESTART = 60.0
SOUND = 60.0

# What ends all workers, and what they are told without it (see server.py).
ENDING = (signal.SIGTERM, signal.SIGINT)
OTHERS = signals.CHANGES
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
        return _Parent([_Worker(*each) for each in enumerate(workers)], serve).run()
    finally:
        for _, ports in workers:
            ports.close()


@dataclasses.dataclass(eq=False)
class _Worker:
    """One worker, as the parent sees it. Times are monotonic, in seconds."""

    number: int
    served: tuple[Config, Ports]
    pid: int | None = None  # of its process; None: there is none
    words: int | None = None  # the pipe by which it says how it is
    ready: bool = False  # whether it serves, or has served
    fed: bool = False  # whether its event loop has turned since the watchdog was told
    began: float = 0.0
    due: float | None = None  # when to start it again
    wait: float = dataclasses.field(default_factory=lambda: FIRST_RESTART)  # before that

    def put_off(self, now: float) -> float:
        """Have it started again, and return after how many seconds."""
        if now - self.began >= SOUND:
            self.wait = FIRST_RESTART
        wait, self.wait = self.wait, min(LONGEST_RESTART, 2 * self.wait)
        self.due = now + wait
        return wait

    def forget(self) -> None:
        """Take in that its process has ended."""
        self.pid = None
        if self.words is not None:
            os.close(self.words)
            self.words = None


class _Parent:
    """Keeps the workers alive."""

    def __init__(self, workers: Sequence[_Worker], serve: Serve) -> None:
        self._workers = workers
        self._serve = serve
        self._stopping = False
        self._starting = True  # until all serve
        self._code = 0

    def run(self) -> int:
        """Return when no worker is left: 0, or the exit code of the first that failed for good."""
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
                self._reap()
                self._restart()
        return self._code

    def _wait(self, wakened: int) -> None:
        """Wait for a signal, for words of a worker, or until one is due; take the words in."""
        poll = select.poll()
        poll.register(wakened, select.POLLIN)
        speaking = {each.words: each for each in self._workers if each.words is not None}
        for words in speaking:
            poll.register(words, select.POLLIN)
        due = [each.due for each in self._workers if each.due is not None]
        seconds = max(0.0, min(due) - time.monotonic()) if due else None
        for file, _ in poll.poll(None if seconds is None else 1000 * seconds + 1):
            heard = os.read(file, 4096)
            if file == wakened:
                continue
            worker = speaking[file]
            if not heard:  # it ends, or has closed what it does not know
                os.close(file)
                worker.words = None
                continue
            worker.ready = worker.ready or b"READY=1" in heard
            worker.fed = worker.fed or b"WATCHDOG=1" in heard
        self._check_ready()
        self._feed_watchdog()

    def _feed_watchdog(self) -> None:
        """Tell the service manager that the event loop of each worker turns."""
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
        """Take in which workers have ended, and what that means."""
        running = {worker.pid: worker for worker in self._workers}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            # The first process of a container is given the orphans of others.
            if (worker := running.get(pid)) is not None:
                worker.forget()
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, code: int) -> None:
        if self._stopping and -code in ENDING:
            code = 0  # it had not come so far that it could end by itself
        if code == 0:  # it was told to, by us or by its admin port
            worker.ready = True
            self._check_ready()
        elif self._stopping:
            self._code = self._code or _exit_code(code)
        elif self._starting:
            streams.complain(f"worker {worker.number} {_how(code)} at the start, stopping all")
            self._code = _exit_code(code)
            self._stopping = True
            self._tell_all(signal.SIGINT)
        else:
            wait = worker.put_off(time.monotonic())
            told = f"worker {worker.number} {_how(code)}, restarting it in {wait:g} s"
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
        self._tell_all(number)

    def _tell_all(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid is not None:
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(worker.pid, number)

    def _start(self, worker: _Worker) -> None:
        # A signal that comes meanwhile reaches the new worker, too; and not by our own handlers.
        held_back = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            if self._stopping:
                return
            worker.began = time.monotonic()
            hears, says = os.pipe()
            if pid := os.fork():
                os.close(says)
                worker.pid, worker.words = pid, hears
                return
            os.close(hears)
            self._work(worker, says)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held_back)

    def _work(self, worker: _Worker, says: int) -> NoReturn:
        """Be a worker."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            os.setpgid(0, 0)  # a terminal's Ctrl-C comes to the parent, which hands it on
            if os.environ.get("WATCHDOG_PID") == str(os.getppid()):
                os.environ["WATCHDOG_PID"] = str(os.getpid())  # we feed the parent, and it systemd
            os.environ["NOTIFY_SOCKET"] = systemd.by_pipe(says)
            for each in (*ENDING, signal.SIGCHLD):
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # the server unblocks the others
            for other in self._workers:
                if other is not worker:
                    other.served[1].close()
            code = self._serve(*worker.served)
        except ConfigError as error:
            streams.complain(*error.faults)
            code = 2
        except BaseException:
            streams.complain(f"worker {worker.number}:\n{traceback.format_exc()}".rstrip())
        finally:
            os._exit(code)


def _how(code: int) -> str:
    """Return how a process ended, by its exit code; a negative one is that of a signal."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"exited with {code}"


def _exit_code(code: int) -> int:
    """Return the exit code that stands for another's, as a shell has it."""
    return 128 - code if code < 0 else code


@contextmanager
def _wakened() -> Iterator[int]:
    """Give a file that can be read when a signal came, the end of a child among them."""
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
