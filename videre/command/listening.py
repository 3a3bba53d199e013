"""The listening sockets: the ones that we open, or one that a service manager holds for us."""

from __future__ import annotations

import errno
import os
import socket
from typing import NamedTuple

from videre.command import systemd
from videre.config import Config
from videre.errors import ConfigError

# Milliseconds after which the kernel gives up a connection that takes nothing of what was written:
# longer than the 37 s after which a silent WebSocket is given up.
UNREAD_MS = 60_000

# Connections that may wait to be accepted: those of a moment in which the loop is busy.
BACKLOG = 1024


class Ports(NamedTuple):
    """The sockets on which one process listens."""

    public: socket.socket
    admin: socket.socket | None = None

    def close(self) -> None:
        """Close them."""
        self.public.close()
        if self.admin is not None:
            self.admin.close()


def listen(config: Config) -> Ports:
    """Return sockets that listen; raises ConfigError where an address cannot be had.

    One that a service manager has passed beats Host and Port: connections wait in it while one
    process ends and the next one starts, and none is refused.
    """
    public = _listen_public(config)
    if config.admin_port is None:
        return Ports(public)
    try:
        return Ports(public, _open(config, "Admin", config.admin_host, config.admin_port))
    except ConfigError:
        public.close()
        raise


def _listen_public(config: Config) -> socket.socket:
    try:
        passed = systemd.take_socket(os.environ)
    except ValueError as error:
        raise config.error("Port", config.port, f"socket activation: {error}") from None
    if passed is not None and config.workers > 1:
        passed.close()
        raise config.error("Workers", config.workers, "socket activation is for one process")
    shared = config.workers > 1 and config.worker_ports == "shared"
    listening = passed or _open(config, "", config.host, config.port, reuse_port=shared)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections have it from the listener
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    return listening


def _open(
    config: Config, which: str, host: str, port: int, *, reuse_port: bool = False
) -> socket.socket:
    """Return a socket that listens; `which` port it is begins the keys in a ConfigError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        return socket.create_server(
            address[:2], family=family, backlog=BACKLOG, reuse_port=reuse_port
        )
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise config.error(f"{which}Host", host, error.strerror or str(error)) from None
        raise config.error(f"{which}Port", port, error.strerror or str(error)) from None
    except UnicodeError as error:  # a host name that cannot be one
        raise config.error(f"{which}Host", host, str(error)) from None


def urls(config: Config, listening: socket.socket) -> list[str]:
    """Return where each prefix is served."""
    return [f"{url(listening, tls=config.tls)}{prefix}" for prefix in config.prefixes]


def url(listening: socket.socket, *, tls: bool) -> str:
    """Return where a socket is to be found."""
    host, port = listening.getsockname()[:2]
    if ":" in host:
        host = f"[{host}]"
    return f"{'https' if tls else 'http'}://{host}:{port}"
