"""The checks that settings name, for what cerberus' own rules cannot express."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable
from typing import Any

from videre import engine_url
from videre.config import engine_files

#: Takes the name of the field at fault, and what is wrong with it.
Error = Callable[[str, str], None]

# Without . and .. between slashes, which clients resolve before they ask.
_PREFIX = re.compile(r"(/(?!\.\.?(?:/|\Z))[A-Za-z0-9._~-]+)*/?")

#: Paths that are not free for a prefix: the health checks.
_TAKEN = {"/health", "/ready"}


def prefixes(field: str, value: Any, error: Error) -> None:
    """Require a path, or a list of distinct paths."""
    each = value if isinstance(value, list) else [value]
    if not each or not all(isinstance(prefix, str) for prefix in each):
        error(field, "must be a path, or a list of paths")
    elif not all(_PREFIX.fullmatch(prefix) for prefix in each):
        error(field, "must be a path such as /echo: letters, digits and ._~- between slashes")
    elif len({prefix.rstrip("/") for prefix in each}) < len(each):
        error(field, "names the same prefix twice")
    elif not _TAKEN.isdisjoint(prefix.rstrip("/") for prefix in each):
        error(field, "must not be /health or /ready, where the health checks are")


def hosts(field: str, value: Any, error: Error) -> None:
    """Require a host, or a list of distinct hosts."""
    each = value if isinstance(value, list) else [value]
    if not each or not all(isinstance(host, str) and host for host in each):
        error(field, "must be a host or an address, or a list of them")
    elif len(set(each)) < len(each):
        error(field, "names the same host twice")
    elif (covered := _covered(each)) is not None:
        error(field, "names {} beside {}, which includes it".format(*covered))
    elif any(_badly_named(host) for host in each):
        most = engine_url.MAX_SOCKET
        error(field, f"a Unix socket is unix: and the path of a file, of at most {most} bytes")


#: Hosts that stand for all addresses; the value tells whether IPv6 is among them.
_ALL = {"*": True, "::": True, "0.0.0.0": False}  # noqa: S104


def _covered(hosts: list[str]) -> tuple[str, str] | None:
    """Return a host and the one that includes its address, of which a port can be had only once.

    None if there are none. Names but localhost are not looked up here.
    """
    for whole in (host for host in hosts if host in _ALL):
        for host in hosts:
            if host in _ALL or host.startswith("unix:"):
                continue
            if _ALL[whole] or host.lower() == "localhost" or _is_usual(host, 4):
                return host, whole
    return None


def tcp_host(field: str, value: Any, error: Error) -> None:
    """Require an address or a name, not a Unix socket."""
    if isinstance(value, str) and value.startswith("unix:"):
        error(field, "must be an address or a name, not a Unix socket")


def _badly_named(host: str) -> bool:
    """Tell whether a Unix socket's path is invalid; see engine_url.MAX_SOCKET."""
    if not host.startswith("unix:"):
        return False
    try:
        path = os.fsencode(host.removeprefix("unix:"))
    except UnicodeEncodeError:  # a lone surrogate
        return True
    return not 0 < len(path) <= engine_url.MAX_SOCKET or b"\0" in path or path.endswith(b"/")


#: Origins without a host: any page; a sandboxed one; a file (Cordova).
_WHOLE_ORIGINS = ("*", "null", "file://")

_DEFAULT_PORTS = {"http": "80", "https": "443"}

# A host and a port, whatever is in them.
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:]*)(?::(.*))?")

# A port without leading zeros, or a pattern for ports.
_PORT = re.compile(r"[1-9][0-9]{0,4}|[0-9]*\*[0-9*]*")


def network(field: str, value: Any, error: Error) -> None:
    """Require an IP address, a network, or `unix:`."""
    if not isinstance(value, str) or value == "unix:":
        return  # the type rule reports a value that is not a string
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        error(field, "must be an address or a network, such as 10.0.0.0/8")


def origin(field: str, value: Any, error: Error) -> None:
    """Require an origin as browsers send it, or a pattern for such origins."""
    if not isinstance(value, str):
        return  # the type rule reports it
    if (words := _origin_fault(value)) is not None:
        error(field, words)


def _origin_fault(origin: str) -> str | None:
    """Return why no browser sends such an origin; None if one does."""
    if origin.lower() in _WHOLE_ORIGINS:
        return None
    parts = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([^/\s]+)", origin, re.IGNORECASE)
    if parts is None:
        return "must be an origin such as https://*.example.com, without a path"
    scheme, authority = parts[1].lower(), parts[2]
    if scheme in ("ws", "wss"):
        return "is never a page's origin, which begins with https:// or http:// even for WebSockets"
    if not origin.isascii():
        return "must be in ASCII: browsers send an international name as xn--..."
    if scheme not in _DEFAULT_PORTS:
        return None  # of an app or an extension, which choose their own form
    host, port = _AUTHORITY.fullmatch(authority).groups()  # type: ignore[union-attr]
    if not _is_host(host):
        return "must have a host as browsers send it: a name, or an IP address in its usual form"
    if port == _DEFAULT_PORTS[scheme]:
        return f"must be without :{port}, which browsers leave out for {scheme}"
    if port is not None and not _PORT.fullmatch(port):
        return "must have a port after the colon, or *"
    return None


def _is_host(host: str) -> bool:
    if host.startswith("["):
        return _is_usual(host[1:-1], 6)
    if re.fullmatch(r"[0-9.]*[0-9]", host):
        return _is_usual(host, 4)
    return re.fullmatch(r"[A-Za-z0-9._*-]+", host) is not None


def _is_usual(address: str, version: int) -> bool:
    """Tell whether an IP address is written in its shortest form."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.version == version and str(parsed) == address.lower()


def finite(field: str, value: Any, error: Error) -> None:
    """Reject NaN and infinity: JSON does not have them, but Python reads them."""
    if isinstance(value, float) and not math.isfinite(value):
        error(field, "must be a finite number")


def engine(field: str, value: Any, error: Error) -> None:
    """Require the URL of an engine that is installed."""
    if not isinstance(value, str):
        return  # the type rule reports it
    if (words := engine_url.fault(value) or engine_files.fault(value)) is not None:
        error(field, words)


CHECKS: dict[str, Callable[[str, Any, Error], None]] = {
    "engine": engine,
    "finite": finite,
    "hosts": hosts,
    "network": network,
    "origin": origin,
    "prefixes": prefixes,
    "tcp_host": tcp_host,
}
