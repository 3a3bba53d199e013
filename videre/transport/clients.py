"""Who a request is from: its origin, and its address behind proxies that are trusted."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Iterable

from aiohttp import web

from videre.transport import forwarded

#: Stands in TrustedProxies for whoever comes by a Unix socket.
UNIX = "unix:"

_NONE = "'none'"

# Characters of a proxy's request id that are kept for the log: a UUID has 36.
MAX_REQUEST_ID = 64


@dataclasses.dataclass(frozen=True)
class Client:
    """Who opened a session."""

    address: str = ""  # as `owner` has it
    secure: bool = False  # whether over TLS
    request_id: str = ""  # what a trusted proxy calls the request


class Origins:
    """The origins that may use the server, as `https://*.example.com`; `*` alone allows all."""

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        self._all = "*" in patterns
        #: What tells a browser which pages may frame ours: one that is framed acts in our name.
        self.policy = None if self._all else f"frame-ancestors {' '.join(patterns) or _NONE}"
        # A wildcard stands for host names, labels or a port, never for a `/` or `@`.
        self._patterns = [
            re.compile("[a-z0-9.-]*".join(map(re.escape, pattern.lower().split("*"))))
            for pattern in patterns
        ]

    def allow(self, request: web.BaseRequest) -> bool:
        """Tell whether the request's origin is allowed; no browser sent one without an Origin."""
        origins = () if self._all else request.headers.getall("Origin", ())
        return all(  # a browser sends one; to which of several a cache or proxy goes, who knows
            any(pattern.fullmatch(origin.lower()) for pattern in self._patterns)
            for origin in origins
        )


class Proxies:
    """The proxies whose word on their clients is taken: addresses or networks, or `unix:`.

    `header` is the one that they set and that no client can: X-Forwarded-For, Forwarded, or one
    that holds an address, as X-Real-IP. `unix:` stands for whoever comes by a Unix socket.
    """

    def __init__(self, trusted: Iterable[str], header: str = "X-Forwarded-For") -> None:
        trusted = tuple(trusted)
        self._unix = UNIX in trusted
        self._trusted = [forwarded.network(each) for each in trusted if each != UNIX]
        self._header = header

    def trusts(self, address: str) -> bool:
        """Tell whether an address is a proxy's; "" is that of a Unix socket."""
        if not address:
            return self._unix
        parsed = forwarded.parse(address) if self._trusted else None
        return parsed is not None and any(parsed in network for network in self._trusted)

    def address(self, request: web.BaseRequest) -> str:
        """Return the client's address, "" where there is none (a Unix socket).

        The header is read from its end, as far as proxies vouch for it: what stands before the
        first address that is not trusted could have been written by that one.
        """
        address = request.remote or ""
        if not self.trusts(address):
            return address
        for hop in forwarded.hops(self._header, request.headers.getall(self._header, ())):
            parsed = forwarded.parse(hop)
            if parsed is None:
                break
            address = str(parsed)
            if not self.trusts(address):
                break
        return address

    def secure(self, request: web.BaseRequest) -> bool:
        """Tell whether the client's connection is TLS: our own, or that to a trusted proxy."""
        if self.trusts(request.remote or ""):
            if self._header.lower() == forwarded.FORWARDED:
                told = forwarded.proto(request.headers.getall(self._header, ()))
            else:
                told = request.headers.get("X-Forwarded-Proto", "").split(",")[-1].strip().lower()
            if told:
                return told in ("https", "wss")
        return request.secure

    def client(self, request: web.BaseRequest) -> Client:
        """Return who a request is from."""
        trusted = self.trusts(request.remote or "")
        request_id = request.headers.get("X-Request-Id", "")[:MAX_REQUEST_ID] if trusted else ""
        return Client(owner(self.address(request)), self.secure(request), request_id)


def owner(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 that IPv6 clients are given."""
    try:
        parsed = forwarded.unmapped(ipaddress.ip_address(address))
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
