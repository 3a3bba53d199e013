"""Ports for servers that cannot choose one themselves."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections import deque

#: Below those that the kernel gives to outgoing connections, and to servers that ask for any port
#: (Linux: 32768 and up): nobody takes one before its server listens, or while that restarts.
PORTS = range(20_000, 32_768)
BLOCK = 4  # the most ports of one choice

_chosen: deque[int] = deque(maxlen=100)  # lately; their servers may not listen yet


def free_port(count: int = 1) -> int:
    """Return a port of the loopback address that is free on TCP and UDP: the first of `count`."""
    while True:
        first = secrets.choice(_blocks()) + secrets.randbelow(BLOCK - count + 1)
        ports = range(first, first + count)
        if any(port in _chosen for port in ports):
            continue
        with contextlib.ExitStack() as stack:
            try:
                for port in ports:
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        each = stack.enter_context(socket.socket(socket.AF_INET, kind))
                        each.bind(("127.0.0.1", port))
            except OSError:
                continue
        _chosen.extend(ports)
        return first


def _blocks() -> range:
    """Return where the blocks of ports begin from which only this process of a test run takes.

    Another one could choose, or only try, the port of a server that does not listen yet.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return PORTS[worker * BLOCK :: workers * BLOCK]
