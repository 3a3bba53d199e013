"""The service manager's protocol: socket activation and notifications.

See sd_listen_fds(3) and sd_notify(3). Any supervisor can use it to keep the listening socket open
over a restart, or to learn when we are ready; systemd is not needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

# The first passed descriptor (SD_LISTEN_FDS_START).
FIRST = 3

# Families and types of the sockets that we can serve.
STREAMS = [
    (getattr(socket, family), socket.SOCK_STREAM)
    for family in ("AF_INET", "AF_INET6", "AF_UNIX")
    if hasattr(socket, family)  # Windows has no Unix sockets
]

# Seconds that a message waits for room in a full socket: a busy manager reads on within that, for
# one that hangs we must not wait longer.
PATIENCE = 1.0

# Prefix of a NOTIFY_SOCKET that is the number of a pipe; in sd_notify(3) it is a socket's path.
_PIPE = "pipe:"


def take_socket(environ: MutableMapping[str, str]) -> socket.socket | None:
    """Return the listening socket that this process was started with; None if there is none.

    Removes its variables from `environ`, so that child processes do not inherit them. Raises
    ValueError if there are several sockets, or if it does not accept TCP or Unix connections.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) == 0:
        return None
    if int(count) > 1:
        raise ValueError(f"{count} sockets were passed, only one is supported")
    try:
        listening = socket.socket(fileno=FIRST)
    except OSError as error:
        raise ValueError(f"the passed descriptor is not a socket: {error.strerror}") from None
    os.set_inheritable(FIRST, False)
    listens = listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if (listening.family, listening.type) not in STREAMS or not listens:
        listening.close()
        raise ValueError("the passed socket does not listen for TCP or Unix connections")
    return listening


def notify(state: str, environ: Mapping[str, str] | None = None) -> None:
    """Send `READY=1`, `STOPPING=1`, `RELOADING=1` or `WATCHDOG=1` to the service manager, if any.

    Errors are ignored. If the manager does not read, the message is dropped: `WATCHDOG=1`, which
    comes again, at once, the others after PATIENCE seconds.
    """
    path = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if path.startswith(_PIPE):
        with contextlib.suppress(OSError):
            os.write(int(path.removeprefix(_PIPE)), f"{state}\n".encode())
        return
    if not path.startswith(("/", "@")):
        return
    wait = 0.0 if state == "WATCHDOG=1" else PATIENCE
    if state.startswith("RELOADING"):
        state += f"\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"
    address = "\0" + path[1:] if path.startswith("@") else path
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.settimeout(wait)
        manager.connect(address)  # only a connected socket can wait for room at the other end
        manager.send(state.encode())


def watchdog(environ: Mapping[str, str] | None = None) -> float | None:
    """Return the interval for `WATCHDOG=1`, in seconds; None if there is no watchdog.

    It is half of the service manager's WatchdogSec, as sd_watchdog_enabled(3) recommends.
    """
    environ = os.environ if environ is None else environ
    limit = environ.get("WATCHDOG_USEC", "")
    if not limit.isdecimal() or int(limit) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(limit) / 2_000_000


async def feed_watchdog(seconds: float) -> None:
    """Notify the service manager every `seconds` that the event loop is running."""
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds)


def by_pipe(file: int) -> str:
    """Return a NOTIFY_SOCKET that makes `notify` write to a pipe, which our parent reads."""
    os.set_blocking(file, False)
    return f"{_PIPE}{file}"
