"""The demo: a page that makes calls, at `/demo`, without a login of any kind.

It needs nothing but this server, and its headers let it reach nothing else. Unless the
configuration says otherwise the command shows it to this machine alone.
"""

from __future__ import annotations

import html
import ipaddress
import secrets
import string
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import hdrs, web

from videre.browser_files import FILES, File
from videre.config import Config
from videre.config.schema import is_loopback

PATH = "/demo"

_STATIC = Path(__file__).parent / "static"
_PARTS = ("", "_call", "_page", "_parts")
_FILES = ("demo.css", "demo.svg", *(f"demo{part}.js" for part in _PARTS))

# All that the page loads and connects to is of its own origin; no script or style is in the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def mount(app: web.Application, config: Config, *, local: bool = False) -> None:
    """Add the page and its files; with `local`, for browsers on this machine alone.

    The page signals at the first prefix of `config`.
    """
    # Relative to the page, wherever the application is.
    signaller = config.prefixes[0].removeprefix("/") or "."
    page = string.Template((_STATIC / "demo.html").read_text(encoding="utf-8"))
    text = page.substitute(signaller=html.escape(signaller))
    app.router.add_get(PATH, _handler(File(text.encode(), ".html"), local))
    own = {name: File((_STATIC / name).read_bytes(), Path(name).suffix) for name in _FILES}
    for name, file in (own | FILES).items():
        app.router.add_get(f"{PATH}/{name}", _handler(file, local))


#: The hosts that listen on each address of this machine.
EVERYWHERE = ("*", "0.0.0.0", "::")  # noqa: S104


def wanted_locally(config: Config) -> bool:
    """Tell whether a command with this configuration shows the demo to browsers on its machine.

    It does unless it was told (`Demo`), or the demo is of no use: it has no token to show, its
    origin is not among `Origins`, and what listens at one address of the network alone hears
    nothing from this machine's own.
    """
    if config.demo is not None or config.auth.required or PATH in config.prefixes:
        return False
    if "*" not in config.transport.origins:
        return False
    return any(_is_loopback(host) or host in EVERYWHERE for host in config.hosts)


def link(config: Config, address: str, port: int) -> str | None:
    """Return the URL of a fresh room in the demo of a command; None where it has none.

    `address` and `port` are where it listens. Who opens the URL in two windows can have a call.
    """
    if not (config.demo or wanted_locally(config)):
        return None
    if ipaddress.ip_address(address).is_unspecified:
        address = "localhost"
    host = f"[{address}]" if ":" in address else address
    scheme = "https" if config.tls else "http"
    return f"{scheme}://{host}:{port}{PATH}#{secrets.token_urlsafe(16)}"


def _handler(file: File, local: bool) -> _Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if local and not _is_here(request):
            raise web.HTTPNotFound
        return file.answer(request, HEADERS)

    return answer


def _is_here(request: web.Request) -> bool:
    """Tell whether a browser on this machine asks, for what it takes to be this machine.

    A proxy is on this machine, too, but its clients are not: it says so, or names its own host. So
    does a page whose name was made to lead here (DNS rebinding).
    """
    if {"Forwarded", "X-Forwarded-For", "X-Real-IP", hdrs.VIA} & request.headers.keys():
        return False
    try:
        host = request.url.host or ""
    except ValueError:  # the Host header is none
        return False
    return _is_loopback(request.remote or "") and _is_loopback(host)


def _is_loopback(host: str) -> bool:
    return host.endswith(".localhost") or is_loopback(host.removeprefix("::ffff:"))
