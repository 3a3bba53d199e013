"""Ports for servers that cannot choose one themselves."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import socket

#: Below those that the kernel gives to outgoing connections, and to servers that ask for any port
#: (Linux: 32768 and up): nobody takes one before its server listens, or while that restarts.
PORTS = range(20_000, 32_768)


def _share() -> range:
    """Return the ports of this process: others run tests beside it, and choose some meanwhile."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % workers
    size = len(PORTS) // workers
    return PORTS[number * size : (number + 1) * size]


#: In turn, from any on: none is given again before its first server listens.
_OURS = _share()
_turns = itertools.count(secrets.randbelow(len(_OURS)))


def free_port(count: int = 1) -> int:
    """Return a port of the loopback address that is free on TCP and UDP: the first of `count`."""
    while True:
        turns = [next(_turns) % len(_OURS) for _ in range(count)]
        first = _OURS[turns[0]]
        if turns[-1] < turns[0]:
            continue  # not in a row
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        each = stack.enter_context(socket.socket(socket.AF_INET, kind))
                        each.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
