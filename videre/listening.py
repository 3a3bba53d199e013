"""The listening socket: the one that we open, or the one that a service manager holds for us."""

from __future__ import annotations

import errno
import os
import socket

from videre import systemd
from videre.config import Config

# Milliseconds after which the kernel gives up a connection that takes nothing of what was written:
# longer than the 37 s after which a silent WebSocket is given up.
UNREAD_MS = 60_000

# Connections that may wait to be accepted: those of a moment in which the loop is busy.
BACKLOG = 1024


def listen(config: Config) -> socket.socket:
    """Return a socket that listens; raises ConfigError where the address cannot be had.

    One that a service manager has passed beats Host and Port: connections wait in it while one
    process ends and the next one starts, and none is refused.
    """
    try:
        passed = systemd.take_socket(os.environ)
    except ValueError as error:
        raise config.error("Port", config.port, f"socket activation: {error}") from None
    if passed is not None and config.workers > 1:
        passed.close()
        raise config.error("Workers", config.workers, "socket activation is for one process")
    listening = _open(config) if passed is None else passed
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections have it from the listener
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    return listening


def _open(config: Config) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        shared = config.workers > 1 and config.worker_ports == "shared"
        return socket.create_server(address[:2], family=family, backlog=BACKLOG, reuse_port=shared)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise config.error("Host", config.host, error.strerror or str(error)) from None
        raise config.error("Port", config.port, error.strerror or str(error)) from None
    except UnicodeError as error:  # a host name that cannot be one
        raise config.error("Host", config.host, str(error)) from None


def urls(config: Config, listening: socket.socket) -> list[str]:
    """Return where each prefix is served."""
    host, port = listening.getsockname()[:2]
    if ":" in host:
        host = f"[{host}]"
    scheme = "https" if config.tls else "http"
    return [f"{scheme}://{host}:{port}{prefix}" for prefix in config.prefixes]
