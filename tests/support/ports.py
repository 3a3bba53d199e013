"""Ports for servers that cannot choose one themselves."""

from __future__ import annotations

import secrets
import socket

#: Below those that the kernel gives to outgoing connections, and to servers that ask for any port
#: (Linux: 32768 and up): nobody takes one before its server listens, or while that restarts.
PORTS = range(20_000, 32_768)


def free_port() -> int:
    """Return a port of the loopback address that is free on TCP and UDP."""
    while True:
        port = secrets.choice(PORTS)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        ):
            try:
                for each in (tcp, udp):
                    each.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
