"""A worker process, as its parent sees it and as it runs: its restarts, its end, its exit code."""

from __future__ import annotations

import dataclasses
import os
import signal
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

from videre.command import signals, streams, systemd
from videre.command.listening import Ports
from videre.config import Config
from videre.errors import ConfigError

# Seconds before a dead worker is restarted: doubled each time up to LONGEST_RESTART, so that a
# crash loop does not fill the log; reset once the worker has run for SOUND seconds.
FIRST_RESTART = 1.0
LONGEST_RESTART = 60.0
SOUND = 60.0

# Seconds within which a worker gets the same signal from systemd and from its parent.
TOGETHER = 1.0

# Signals that stop all workers, and signals that are only forwarded to them (see server.py).
ENDING = (signal.SIGTERM, signal.SIGINT)
OTHERS = signals.CHANGES
SIGNALS = (*ENDING, *OTHERS)

#: Opens the ports of a configuration. Raises ConfigError.
Listen = Callable[[Config], Ports]

#: Serves a configuration on its ports until a signal; returns the exit code.
Serve = Callable[[Config, Ports], int]


@dataclasses.dataclass(eq=False)
class Worker:
    """A worker as seen by the parent. Times are monotonic, in seconds."""

    number: int
    served: tuple[Config, Ports]
    pid: int | None = None  # None: no process
    words: int | None = None  # the pipe with its notifications
    ready: bool = False  # whether it serves, or has served
    closed: bool = False  # whether its ports are closed until its restart
    fed: bool = False  # whether it sent WATCHDOG=1 since we last did
    began: float = 0.0
    due: float | None = None  # when to restart it
    wait: float = dataclasses.field(default_factory=lambda: FIRST_RESTART)  # the next delay

    def put_off(self, now: float) -> float:
        """Schedule its restart; return the delay in seconds."""
        if now - self.began >= SOUND:
            self.wait = FIRST_RESTART
        wait, self.wait = self.wait, min(LONGEST_RESTART, 2 * self.wait)
        self.due = now + wait
        return wait

    def leave_shared_port(self) -> None:
        """Close its ports, while it is dead, if it shares one with living workers.

        The kernel would give it its share of the clients, who would wait for its restart.
        """
        config, ports = self.served
        if config.worker_ports == "shared" and not self.closed:
            port, *admin = (each.getsockname()[1] for each in (ports.public, *ports.admin[:1]))
            config = dataclasses.replace(config, port=port, admin_port=admin[0] if admin else None)
            self.served = config, ports  # with the numbers that port 0 picked
            ports.close()
            self.closed = True

    def reopen(self, listen: Listen) -> None:
        """Open its ports if they are closed; raises ConfigError if one is taken."""
        if self.closed:
            config, _ = self.served
            self.served = config, listen(config)
            self.closed = False

    def forget(self) -> None:
        """Forget its process, which has ended."""
        self.pid = None
        if self.words is not None:
            os.close(self.words)
            self.words = None

    def work(
        self, serve: Serve, says: int, lifeline: tuple[int, int], others: Iterable[Ports]
    ) -> NoReturn:
        """Serve, in the child process; never returns.

        `says` is a pipe to the parent. `lifeline` is a pipe that ends with the parent, so we close
        our copy of the end that it holds open. The ports of `others` are not for this process.
        """
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signals.together = TOGETHER
            signals.lifeline, parents_end = lifeline
            os.close(parents_end)
            os.setpgid(0, 0)  # a terminal's Ctrl-C reaches only the parent, which forwards it
            if os.environ.get("WATCHDOG_PID") == str(os.getppid()):
                os.environ["WATCHDOG_PID"] = str(os.getpid())  # we notify the parent, it systemd
            os.environ["NOTIFY_SOCKET"] = systemd.by_pipe(says)
            for each in (*ENDING, signal.SIGCHLD):
                signal.signal(each, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # the server unblocks the others
            for ports in others:
                ports.close()
            code = serve(*self.served)
        except ConfigError as error:
            streams.complain(*error.faults)
            code = 2
        except BaseException:
            streams.complain(f"worker {self.number}:\n{traceback.format_exc()}".rstrip())
        finally:
            os._exit(code)


def how(code: int) -> str:
    """Describe how a process ended; a negative exit code is a signal's number."""
    if code >= 0:
        return f"exited with {code}"
    names = {int(each): each.name for each in signal.Signals}  # without most real-time signals
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def exit_code(code: int) -> int:
    """Return our exit code for a worker's; for a signal 128 plus its number, as shells do."""
    return 128 - code if code < 0 else code
