"""Access control of the admin port: a bearer token, and no pages of other sites.

Addresses that send wrong tokens are delayed. Only a port on loopback may do without a token. Then
two kinds of page could still use it through a browser on this machine: the Host check refuses
pages whose name resolves to 127.0.0.1 (DNS rebinding), the Origin check cross-site requests.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import math
import time
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from videre.admin.problems import Problem
from videre.admin.status import FILES
from videre.limits import LONGEST_DELAY, Penalties
from videre.transport.clients import Proxies, owner

#: Paths without a token: those for load balancers, and the status page, which contains no data.
OPEN = frozenset({"/health", "/ready", *FILES})

#: Paths for load balancers, under any Host.
_FOR_ALL = frozenset({"/health", "/ready"})

#: Delayed requests per address: a person has a page and a program or two open. More are refused at
#: once, whether their token is right or not: a guess without a delay must reveal nothing.
MAX_WAITING = 8

_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses unauthorized requests. `token` is ASCII, or None for no token.

    `proxies` are trusted to name the client's address. A reload may set both. After wrong tokens,
    an address waits longer and longer before its next token is checked, even a right one: see
    limits.Penalties.
    """

    def __init__(
        self,
        token: str | None,
        *,
        proxies: Proxies | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.token = token
        self.proxies = proxies or Proxies(())
        self._clock = clock
        self._sleep = sleep
        self._penalties = Penalties()

    def middleware(self) -> Middleware:
        """Return the middleware that runs `check` on every request."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            await self.check(request)
            return await handler(request)

        return check

    async def check(self, request: web.Request) -> None:
        """Raise a Problem if the request must be refused."""
        if request.path in _FOR_ALL:
            return
        if self.token is None:
            _check_host(request)
        _check_site(request)
        if self.token is not None and request.path not in OPEN:
            await self._check_token(request)

    async def _check_token(self, request: web.Request) -> None:
        if hdrs.AUTHORIZATION not in request.headers:  # not a guess
            raise _unauthorized(given=False)
        address = owner(self.proxies.address(request))
        delay = self._penalties.delay(address, self._clock())
        if delay > 0:
            await self._wait(address, delay)
        # Read the token after the delay: it may have changed.
        if self.token is not None and not _shows_token(request, self.token.encode()):
            self._penalties.record(address, self._clock())
            raise _unauthorized(given=True)

    async def _wait(self, address: str, delay: float) -> None:
        if self._penalties.tries(address) >= MAX_WAITING:
            detail = "This address has sent too many wrong tokens. Try again later."
            headers = {"Retry-After": str(math.ceil(LONGEST_DELAY))}
            raise Problem("too-many-tries", detail, headers=headers)
        with self._penalties.delayed(address):
            await self._sleep(delay)


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add headers that forbid caching, framing and content sniffing."""
    for key, value in _HEADERS.items():
        response.headers.setdefault(key, value)


def _shows_token(request: web.Request, wanted: bytes) -> bool:
    given = request.headers.getall(hdrs.AUTHORIZATION)
    scheme, _, shown = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    same = hmac.compare_digest(shown.strip().encode(errors="surrogateescape"), wanted)
    return same and scheme.lower() == "bearer"


def _unauthorized(*, given: bool) -> Problem:
    challenge = 'Bearer realm="videre"' + (', error="invalid_token"' if given else "")
    detail = "Send the header Authorization: Bearer, with the token of the configuration."
    return Problem("unauthorized", detail, headers={hdrs.WWW_AUTHENTICATE: challenge})


def _check_host(request: web.Request) -> None:
    """Refuse a Host that is a name other than localhost: DNS can rebind names, not addresses."""
    try:
        host = URL(f"//{request.headers.get(hdrs.HOST, '')}").host or ""
    except ValueError:
        host = ""
    if host == "localhost" or host.endswith(".localhost"):
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        detail = "This port has no token, so Host must be an IP address or localhost."
        raise Problem("wrong-host", detail) from None


def _check_site(request: web.Request) -> None:
    """Refuse requests that a page of another origin makes a browser send, to read or to write.

    Sec-Fetch-Site decides: browsers set it on trustworthy URLs, and pages cannot. Without it, the
    Origin decides: browsers set it on every request that changes something. Other clients send
    neither. Any site may link to the status page: it contains no data and cannot be framed.
    """
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if sites:
        own = all(site in ("same-origin", "none") for site in sites)
    else:
        host = request.headers.get(hdrs.HOST)
        origins = request.headers.getall(hdrs.ORIGIN, [])
        own = all(origin.partition("://")[2] == host for origin in origins)
    if not own and not _follows_link(request):
        raise Problem("cross-site", "The request came from a page of another origin.")


def _follows_link(request: web.Request) -> bool:
    """Tell whether a browser navigates to the status page, for example by a link."""
    navigates = request.headers.get("Sec-Fetch-Mode") == "navigate"
    shown_alone = request.headers.get("Sec-Fetch-Dest") == "document"
    opens = request.method == "GET" and request.path == "/status"
    return opens and navigates and shown_alone
