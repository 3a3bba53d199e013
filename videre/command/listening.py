"""The listening sockets: our own, or one passed by a service manager."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from videre.command import systemd
from videre.config import Config
from videre.errors import ConfigError

# Milliseconds after which the kernel drops a connection whose client reads nothing: longer than
# the 37 s after which we drop a silent WebSocket.
UNREAD_MS = 60_000

#: Hosts that mean an IPv4 and an IPv6 address, regardless of the resolver.
_BOTH = dict.fromkeys(("*", "::"), ("0.0.0.0", "::"))  # noqa: S104
_BOTH["localhost"] = ("127.0.0.1", "::1")

#: The address family of Unix sockets; None if the system has none (Windows).
AF_UNIX: Any = getattr(socket, "AF_UNIX", None)

# Connections that may wait to be accepted while the event loop is busy.
BACKLOG = 1024


# What the kernel says of an address that this machine cannot listen on; the last one of fe80::1
# without an interface.
_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)

# Attempts to find a port that is free on all addresses.
TRIES = 20


class UnixSocket(socket.socket):
    """A listening Unix socket whose file is ours, and goes when it is closed.

    The file of a socket from a service manager stays: the manager still listens there. So does one
    that another server has put in place of ours.
    """

    _file: os.stat_result | None = None  # ours, once it is bound

    def bind(self, path: Any) -> None:
        """Create the file."""
        super().bind(path)
        self._file = Path(path).stat()

    def close(self) -> None:
        """Remove the file, then close the socket."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                path = Path(self.getsockname())
                if os.path.samestat(file, path.stat()):
                    path.unlink()
        super().close()


class Ports(NamedTuple):
    """The listening sockets of one process."""

    public: socket.socket
    admin: tuple[socket.socket, ...] = ()  # on all addresses of AdminHost; empty: no admin port
    others: tuple[socket.socket, ...] = ()  # for clients, on further hosts

    @property
    def listening(self) -> tuple[socket.socket, ...]:
        """The sockets for clients."""
        return (self.public, *self.others)

    def close(self) -> None:
        """Close all sockets."""
        for each in (*self.listening, *self.admin):
            each.close()


def listen(config: Config) -> Ports:
    """Open the listening sockets; raises ConfigError if an address is not available.

    A socket passed by a service manager overrides Host and Port. Connections wait in it while one
    process ends and the next one starts, so that none is refused.
    """
    public, *others = _listen_public(config)
    ports = Ports(public, others=tuple(others))
    if config.admin_port is None:
        return ports
    try:
        admin = _open_all(config, "Admin", (config.admin_host,), config.admin_port)
        return ports._replace(admin=tuple(admin))
    except ConfigError:
        ports.close()
        raise


def _listen_public(config: Config) -> list[socket.socket]:
    try:
        passed = systemd.take_socket(os.environ)
    except ValueError as error:
        raise config.error("Port", config.port, f"socket activation: {error}") from None
    if passed is not None and config.workers > 1:
        passed.close()
        raise config.error("Workers", config.workers, "socket activation is for one process")
    listening = _open_all(config, "", config.hosts, config.port) if passed is None else [passed]
    for each in listening:
        # Linux only; connections inherit it from the listener.
        if each.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_USER_TIMEOUT"):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
    return listening


def _open_all(config: Config, which: str, hosts: Sequence[str], wanted: int) -> list[socket.socket]:
    """Open the sockets of all hosts; port 0 picks one port that is free on all of them.

    `which` prefixes the keys in a ConfigError: "" or "Admin".
    """
    for tries in range(TRIES):
        opened: list[socket.socket] = []
        port = wanted
        try:
            for host in hosts:
                opened += _open(config, which, host, port, taken=[_place(each) for each in opened])
                tcp = (each.getsockname() for each in opened if each.family != AF_UNIX)
                port = port or next((name[1] for name in tcp), 0)
        except ConfigError:
            for each in opened:
                each.close()
            if wanted != 0 or tries == TRIES - 1:
                raise
        else:
            return opened
    raise AssertionError("no try is left")


def _place(opened: socket.socket) -> tuple[int, str]:
    """Return the family and the address of a socket, without its port."""
    name = opened.getsockname()
    return opened.family, name[0] if isinstance(name, tuple) else name


def _open(
    config: Config, which: str, host: str, port: int, *, taken: Sequence[tuple[int, str]]
) -> list[socket.socket]:
    """Open the sockets of one host; see _open_all.

    A name may have several addresses, and `*` means all IPv4 and IPv6 ones. Addresses that this
    machine does not have are skipped, unless none is left; so are those in `taken`, which an
    earlier host has opened.
    """
    if host.startswith("unix:"):
        return [_open_unix(config, f"{which}Host", host)]
    shared = not which and config.workers > 1 and config.worker_ports == "shared"
    opened: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, address in _addresses(host, port):
            if (family, address[0]) in taken:
                continue
            if opened and port == 0:
                address = (address[0], opened[0].getsockname()[1], *address[2:])
            try:
                opened.append(
                    socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=shared)
                )
            except OSError as error:
                if error.errno not in _NOT_OURS:
                    raise
                missing = error
        if not opened and missing is not None:
            raise missing
    except OSError as error:
        for each in opened:
            each.close()
        if isinstance(error, socket.gaierror) or error is missing:
            raise config.error(f"{which}Host", host, error.strerror or str(error)) from None
        raise config.error(f"{which}Port", port, error.strerror or str(error)) from None
    except UnicodeError as error:  # an invalid host name
        raise config.error(f"{which}Host", host, str(error)) from None
    return opened


def _addresses(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """Resolve a host to (family, address) pairs, IPv4 first; a link-local one has its interface."""
    names = _BOTH.get(host.lower(), (host,))
    found = [
        (int(family), tuple(address))
        for name in names
        for family, _, _, _, address in socket.getaddrinfo(
            name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    ]
    return sorted(dict.fromkeys(found), key=lambda each: each[0] != socket.AF_INET)


def _open_unix(config: Config, key: str, host: str) -> socket.socket:
    """Open a Unix socket, replacing a stale one.

    Its file is open to our user and group; the folder and the group decide who else may connect.
    """
    if AF_UNIX is None:
        raise config.error(key, host, "there are no Unix sockets here")
    path = host.removeprefix("unix:")
    opened = UnixSocket(AF_UNIX)
    try:
        if _is_left_behind(path):
            Path(path).unlink()
        opened.bind(path)
        Path(path).chmod(0o660)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        raise config.error(key, host, error.strerror or str(error)) from None
    return opened


def _is_left_behind(path: str) -> bool:
    """Tell whether a socket's file is stale: no process listens on it."""
    try:
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return False
        with socket.socket(AF_UNIX) as probe:
            probe.setblocking(False)  # a full backlog, which is in use, would make it wait
            probe.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def urls(config: Config, listening: socket.socket) -> list[str]:
    """Return the URL of each prefix."""
    return [f"{url(listening, tls=config.tls)}{prefix}" for prefix in config.prefixes]


def url(listening: socket.socket, *, tls: bool) -> str:
    """Return the URL of a listening socket, without a path.

    A Unix socket is written as nginx does, with `@` for the first byte of an abstract name.
    """
    name = listening.getsockname()
    if not isinstance(name, tuple):
        path = os.fsdecode(name).replace("\0", "@", 1)
        return f"{'https' if tls else 'http'}://unix:{path}:"
    host, port = name[:2]
    if ":" in host:
        host = f"[{host}]"
    return f"{'https' if tls else 'http'}://{host}:{port}"
