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

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


def prefixes(field: str, value: Any, error: Error) -> None:
    """Require a path, or a list of distinct paths."""
    each = value if isinstance(value, list) else [value]
    if not each or not all(isinstance(prefix, str) for prefix in each):
        error(field, "must be a path, or a list of paths")
    elif not all(_PREFIX.fullmatch(prefix) for prefix in each):
        error(field, "must be a path such as /echo: letters, digits and ._~- between slashes")
    elif len({prefix.rstrip("/") for prefix in each}) < len(each):
        error(field, "names the same prefix twice")


def hosts(field: str, value: Any, error: Error) -> None:
    """Require a host, or a list of distinct hosts."""
    each = value if isinstance(value, list) else [value]
    if not each or not all(isinstance(host, str) and host for host in each):
        error(field, "must be a host or an address, or a list of them")
    elif len(set(each)) < len(each):
        error(field, "names the same host twice")
    elif any(_badly_named(host) for host in each):
        error(field, "a Unix socket is unix: and the path of a file that can be made")


def _badly_named(host: str) -> bool:
    """Tell whether a Unix socket's path is invalid; it has at most 107 bytes, see unix(7)."""
    if not host.startswith("unix:"):
        return False
    path = os.fsencode(host.removeprefix("unix:"))
    return not 0 < len(path) < 108 or b"\0" in path or path.endswith(b"/")


def network(field: str, value: Any, error: Error) -> None:
    """Require an IP address, a network, or `unix:`."""
    if not isinstance(value, str) or value == "unix:":
        return  # the type rule reports a value that is not a string
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        error(field, "must be an address or a network, such as 10.0.0.0/8")


def origin(field: str, value: Any, error: Error) -> None:
    """Require an origin, or a pattern for origins."""
    if not isinstance(value, str):
        return  # the type rule reports it
    if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+", value, re.IGNORECASE):
        error(field, "must be an origin such as https://*.example.com, without a path")


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
}
