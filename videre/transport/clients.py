"""Who sent a request: its origin, and its address behind trusted proxies."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
from collections.abc import Iterable

from aiohttp import web

from videre.transport import forwarded

#: Stands for clients of a Unix socket in TrustedProxies.
UNIX = "unix:"

_NONE = "'none'"

# Characters kept of a proxy's request id, for the log; a UUID has 36.
MAX_REQUEST_ID = 64

# Addresses whose owner is remembered: each connection asks twice, and parsing takes 5 us.
KNOWN_ADDRESSES = 1024


@dataclasses.dataclass(frozen=True)
class Client:
    """The client that opened a session."""

    address: str = ""  # as returned by `owner`
    secure: bool = False  # whether it uses TLS
    request_id: str = ""  # assigned by a trusted proxy


class Origins:
    """The origins that may use the server, like `https://*.example.com`; a plain `*` allows all."""

    def __init__(self, patterns: Iterable[str]) -> None:
        patterns = tuple(patterns)
        self._all = "*" in patterns
        #: The Content-Security-Policy: which pages may frame ours. A framed page acts in our name.
        framing = " ".join("file:" if each == "file://" else each for each in patterns)
        self.policy = None if self._all else f"frame-ancestors {framing or _NONE}"
        self._patterns = [_compiled(pattern) for pattern in patterns]

    def allow(self, request: web.BaseRequest) -> bool:
        """Tell whether the request's origin is allowed; a request without an Origin is.

        Browsers send an Origin with every WebSocket handshake and every cross-origin XHR.
        """
        origins = () if self._all else request.headers.getall("Origin", ())
        return all(  # browsers send one Origin; if there are more, a proxy or cache may pick any
            any(pattern.fullmatch(origin) for pattern in self._patterns)
            for origin in map(str.lower, origins)
        )


def _compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of Origins, for lower-case origins.

    A wildcard matches host names, labels or a port, never a `/` or `@`. Each part between two
    wildcards is matched where it first occurs, and nowhere else (`(?>`): to match it later never
    helps, and to try so costs the origin's length to the power of the number of wildcards.
    """
    first, *middle = map(re.escape, pattern.lower().split("*"))
    last = "".join(f"[a-z0-9.-]*{part}" for part in middle[-1:])
    return re.compile(first + "".join(f"(?>[a-z0-9.-]*?{part})" for part in middle[:-1]) + last)


class Proxies:
    """The proxies trusted to name their clients: addresses, networks or `unix:`.

    `header` is a header that the proxies set and clients cannot: X-Forwarded-For, Forwarded, or one
    that holds an address, such as X-Real-IP. `unix:` stands for all clients of a Unix socket.
    """

    def __init__(self, trusted: Iterable[str], header: str = "X-Forwarded-For") -> None:
        trusted = tuple(trusted)
        self._unix = UNIX in trusted
        self._trusted = [forwarded.network(each) for each in trusted if each != UNIX]
        self._header = header

    def trusts(self, address: str) -> bool:
        """Tell whether an address is a trusted proxy's; "" is the address of a Unix socket."""
        if not address:
            return self._unix
        parsed = forwarded.parse(address) if self._trusted else None
        return parsed is not None and any(parsed in network for network in self._trusted)

    def address(self, request: web.BaseRequest) -> str:
        """Return the client's address; "" if there is none (a Unix socket).

        The header is read from its end, for as long as the addresses are trusted: the first address
        that is not could have forged everything before it.
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
        """Tell whether the client uses TLS, to this server or to a trusted proxy."""
        if self.trusts(request.remote or ""):
            if self._header.lower() == forwarded.FORWARDED:
                told = forwarded.proto(request.headers.getall(self._header, ()))
            else:
                told = request.headers.get("X-Forwarded-Proto", "").split(",")[-1].strip().lower()
            if told:
                return told in ("https", "wss")
        return request.secure

    def client(self, request: web.BaseRequest) -> Client:
        """Return the client that sent a request."""
        trusted = self.trusts(request.remote or "")
        request_id = request.headers.get("X-Request-Id", "")[:MAX_REQUEST_ID] if trusted else ""
        return Client(owner(self.address(request)), self.secure(request), request_id)


@functools.lru_cache(KNOWN_ADDRESSES)
def owner(address: str) -> str:
    """Return the key that counts as one client: an IPv4 address, or an IPv6 client's /64."""
    try:
        parsed = forwarded.unmapped(ipaddress.ip_address(address))
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
