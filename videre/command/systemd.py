"""What the service manager and we tell each other (sd_listen_fds(3), sd_notify(3)).

Any supervisor that holds the listening socket over a restart, or wants to hear that we are ready,
may use the same: none of it needs systemd.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

# The first descriptor that is passed (SD_LISTEN_FDS_START).
FIRST = 3

# What stands before the number of a pipe, where sd_notify(3) has the path of a socket.
_PIPE = "pipe:"


def take_socket(environ: MutableMapping[str, str]) -> socket.socket | None:
    """Return the listening socket that this process was started with; None without one.

    The variables that tell of it are taken out: they are not for processes of ours. Raises
    ValueError if there is more than one, or one that does not listen to TCP connections.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    if int(count) > 1:
        raise ValueError(f"{count} sockets were passed, one is used")
    try:
        listening = socket.socket(fileno=FIRST)
    except OSError as error:
        raise ValueError(f"the passed descriptor is not a socket: {error.strerror}") from None
    os.set_inheritable(FIRST, False)
    listens = listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if listening.family not in (socket.AF_INET, socket.AF_INET6) or not listens:
        listening.close()
        raise ValueError("the passed socket does not listen for TCP connections")
    return listening


def notify(state: str, environ: Mapping[str, str] | None = None) -> None:
    """Tell the service manager `READY=1`, `STOPPING=1`, `RELOADING=1` or `WATCHDOG=1`, if it asks.

    A manager that does not listen harms nothing: it knows that by itself.
    """
    path = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if path.startswith(_PIPE):
        with contextlib.suppress(OSError):
            os.write(int(path.removeprefix(_PIPE)), f"{state}\n".encode())
        return
    if not path.startswith(("/", "@")):
        return
    if state.startswith("RELOADING"):
        state += f"\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
    address = "\0" + path[1:] if path.startswith("@") else path
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.sendto(state.encode(), address)


def watchdog(environ: Mapping[str, str] | None = None) -> float | None:
    """Return the seconds after which a `WATCHDOG=1` is due each time; None: nobody watches us.

    Half of the service manager's WatchdogSec, as sd_watchdog_enabled(3) says.
    """
    environ = os.environ if environ is None else environ
    limit = environ.get("WATCHDOG_USEC", "")
    if not limit.isdecimal() or int(limit) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(limit) / 2_000_000


def by_pipe(file: int) -> str:
    """Return a NOTIFY_SOCKET by which `notify` writes to a pipe, whose reader is our own parent."""
    os.set_blocking(file, False)
    return f"{_PIPE}{file}"
