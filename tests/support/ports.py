"""Ports for servers that cannot choose one themselves."""

from __future__ import annotations

import contextlib
import secrets
import socket

#: Below those that the kernel gives to outgoing connections, and to servers that ask for any port
#: (Linux: 32768 and up): nobody takes one before its server listens, or while that restarts.
PORTS = range(20_000, 32_768)


def free_port(count: int = 1) -> int:
    """Return a port of the loopback address that is free on TCP and UDP: the first of `count`."""
    while True:
        first = secrets.choice(PORTS)
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        each = stack.enter_context(socket.socket(socket.AF_INET, kind))
                        each.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
