"""The checks that settings name: what cerberus' own rules cannot say of a value."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable
from typing import Any

from videre import engine_url
from videre.config import engine_files

#: Takes the field at fault, and what is wrong with it.
Error = Callable[[str, str], None]

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


def prefixes(field: str, value: Any, error: Error) -> None:
    """Complain of what is no path, or no list of different paths."""
    each = value if isinstance(value, list) else [value]
    if not each or not all(isinstance(prefix, str) for prefix in each):
        error(field, "must be a path, or a list of paths")
    elif not all(_PREFIX.fullmatch(prefix) for prefix in each):
        error(field, "must be a path such as /echo: letters, digits and ._~- between slashes")
    elif len({prefix.rstrip("/") for prefix in each}) < len(each):
        error(field, "names the same prefix twice")


def hosts(field: str, value: Any, error: Error) -> None:
    """Complain of what is no host, or no list of different hosts."""
    each = value if isinstance(value, list) else [value]
    if not each or not all(isinstance(host, str) and host for host in each):
        error(field, "must be a host or an address, or a list of them")
    elif len(set(each)) < len(each):
        error(field, "names the same host twice")
    elif any(_badly_named(host) for host in each):
        error(field, "a Unix socket is unix: and the path of a file that can be made")


def _badly_named(host: str) -> bool:
    """Tell whether a Unix socket has a path that none can have: 107 bytes at most, see unix(7)."""
    if not host.startswith("unix:"):
        return False
    path = os.fsencode(host.removeprefix("unix:"))
    return not 0 < len(path) < 108 or b"\0" in path or path.endswith(b"/")


def network(field: str, value: Any, error: Error) -> None:
    """Complain of what is no address or network, and not `unix:`."""
    if not isinstance(value, str) or value == "unix:":
        return  # the rule for its type complains
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        error(field, "must be an address or a network, such as 10.0.0.0/8")


def origin(field: str, value: Any, error: Error) -> None:
    """Complain of what is no origin, or no pattern of one."""
    if not isinstance(value, str):
        return  # the rule for its type complains
    if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/\s]+", value, re.IGNORECASE):
        error(field, "must be an origin such as https://*.example.com, without a path")


def finite(field: str, value: Any, error: Error) -> None:
    """Complain of NaN and infinity, which JSON does not have and Python reads."""
    if isinstance(value, float) and not math.isfinite(value):
        error(field, "must be a finite number")


def engine(field: str, value: Any, error: Error) -> None:
    """Complain of a URL that stands for no engine, or for one that is not installed."""
    if not isinstance(value, str):
        return  # the rule for its type complains
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
