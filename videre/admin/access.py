"""Who may use the admin port: a bearer token, and no page of another site.

The token is what keeps others out. Without one, which only a port on loopback may be, two kinds of
page could still use it through a browser on this machine: one whose own name leads to 127.0.0.1
(DNS rebinding) is refused by its Host, one that sends requests across sites by its Origin.
"""

from __future__ import annotations

import hmac
import ipaddress

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from yarl import URL

from videre.admin.problems import Problem

#: What needs no token: what load balancers ask, and the status page, which holds no data itself.
OPEN = frozenset({"/health", "/ready", "/status", "/status.css", "/status.js"})

#: What load balancers ask, by whatever name they know us.
_FOR_ALL = frozenset({"/health", "/ready"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses who may not be let in. `token` is in ASCII, None: none; it may be set anew."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def middleware(self) -> Middleware:
        """Return what an application has to have."""

        @web.middleware
        async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.check(request)
            return await handler(request)

        return check

    def check(self, request: web.Request) -> None:
        """Raise a Problem if a request must not be served."""
        if request.path in _FOR_ALL:
            return
        if self.token is None:
            _check_host(request)
        if request.method not in _SAFE:
            _check_site(request)
        if self.token is not None and request.path not in OPEN:
            _check_token(request, self.token.encode())


async def add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Have no answer kept, framed, or taken for what it is not."""
    for key, value in _HEADERS.items():
        response.headers.setdefault(key, value)


def _check_token(request: web.Request, wanted: bytes) -> None:
    given = request.headers.getall(hdrs.AUTHORIZATION, [])
    scheme, _, shown = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    same = hmac.compare_digest(shown.strip().encode(errors="surrogateescape"), wanted)
    if not (same and scheme.lower() == "bearer"):
        challenge = 'Bearer realm="videre"' + (', error="invalid_token"' if given else "")
        detail = "Send the header Authorization: Bearer, with the token of the configuration."
        raise Problem("unauthorized", detail, headers={hdrs.WWW_AUTHENTICATE: challenge})


def _check_host(request: web.Request) -> None:
    """Refuse a Host that is a name other than localhost: an address cannot be made to lie."""
    try:
        host = URL(f"//{request.headers.get(hdrs.HOST, '')}").host or ""
    except ValueError:
        host = ""
    if host == "localhost" or host.endswith(".localhost"):
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        detail = "Without a token, use the address of the port, or localhost."
        raise Problem("wrong-host", detail) from None


def _check_site(request: web.Request) -> None:
    """Refuse what a page of another origin makes a browser send.

    By Sec-Fetch-Site, which browsers set on trustworthy URLs and pages cannot; else by the Origin,
    which they set on all that changes something. What no browser sent has neither.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        own = site in ("same-origin", "none")
    else:
        origin = request.headers.get(hdrs.ORIGIN)
        own = origin is None or origin.partition("://")[2] == request.headers.get(hdrs.HOST)
    if not own:
        raise Problem("cross-site", "The request came from a page of another origin.")
