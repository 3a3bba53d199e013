"""The demo: a page at `/demo` that makes calls without a login.

It needs only this server, and its headers keep it from reaching any other. By default the command
serves it to this machine only.
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

_FOLDER = Path(__file__).parent
#: The colours, radii and type of all pages: the demo, the status page and the front page.
TOKENS = _FOLDER / "demo_tokens.css"
_FILES = sorted(path.name for path in _FOLDER.iterdir() if path.suffix in (".css", ".js", ".svg"))

# The page loads from and connects to its own origin only; it has no inline scripts or styles.
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

#: Headers by which a proxy says that it passes on somebody else's request.
PROXY_HEADERS = frozenset(("Forwarded", "X-Forwarded-For", "X-Real-IP", hdrs.VIA))

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def everybody(_request: web.Request) -> bool:
    """Show the demo to every browser."""
    return True


#: To which requests the demo in an application is shown.
Shown = Callable[[web.Request], bool]
_SHOWN: web.AppKey[Shown] = web.AppKey("videre-demo-shown")


def mount(app: web.Application, config: Config, shown: Shown = everybody) -> None:
    """Serve the page and its files to the requests for which `shown` is true; 404 to others.

    The page signals at the first prefix of `config`.
    """
    app[_SHOWN] = shown
    # Relative to the page, so that the application may be mounted anywhere.
    signaller = config.prefixes[0].removeprefix("/") or "."
    page = string.Template((_FOLDER / "demo.html").read_text(encoding="utf-8"))
    text = page.substitute(signaller=html.escape(signaller))
    app.router.add_get(PATH, _handler(File(text.encode(), ".html"), shown))
    own = {name: File((_FOLDER / name).read_bytes(), Path(name).suffix) for name in _FILES}
    for name, file in (own | FILES).items():
        app.router.add_get(f"{PATH}/{name}", _handler(file, shown))


#: The hosts that listen on all addresses of this machine.
EVERYWHERE = ("*", "0.0.0.0", "::")  # noqa: S104


def wanted_locally(config: Config) -> bool:
    """Tell whether the command serves the demo to browsers on its machine by default.

    It does, unless `Demo` is set or the demo cannot work: tokens are required, a prefix is at
    `/demo`, `Origins` is restricted, or the server does not listen on loopback.
    """
    if config.demo is not None or config.auth.required or PATH in config.prefixes:
        return False
    if "*" not in config.transport.origins:
        return False
    return any(_is_loopback(host) or host in EVERYWHERE for host in config.hosts)


def link(config: Config, address: str, port: int) -> str | None:
    """Return the URL of a fresh room in the command's demo; None if it serves no demo there.

    The server listens on `address` and `port`. Opening the URL in two windows starts a call.
    """
    if not (config.demo or wanted_locally(config)):
        return None
    if ipaddress.ip_address(address).is_unspecified:
        address = "localhost"
    elif not config.demo and not is_loopback(address):  # `is_here` would refuse it
        return None
    host = f"[{address}]" if ":" in address else address
    scheme = "https" if config.tls else "http"
    return f"{scheme}://{host}:{port}{PATH}#{secrets.token_urlsafe(16)}"


def is_shown(request: web.Request) -> bool:
    """Tell whether the application of a request has a demo and shows it to this client."""
    shown = request.app.get(_SHOWN)
    return shown is not None and shown(request)


def _handler(file: File, shown: Shown) -> _Handler:
    async def answer(request: web.Request) -> web.StreamResponse:
        if not shown(request):
            raise web.HTTPNotFound
        return file.answer(request, HEADERS)

    return answer


def is_here(request: web.Request) -> bool:
    """Tell whether the request comes from this machine and names this machine as its host.

    This excludes clients behind a local proxy, which adds a forwarding header or names its own
    host, and pages whose name was made to resolve to this machine (DNS rebinding).
    """
    return (
        is_direct(request) and _is_loopback(request.remote or "") and _is_loopback(host_of(request))
    )


def is_direct(request: web.Request) -> bool:
    """Tell whether no proxy reports that it forwarded this request."""
    return not PROXY_HEADERS & request.headers.keys()


def host_of(request: web.Request) -> str:
    """Return the host that a request names; "" if its Host header is invalid."""
    try:
        return request.url.host or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    return host.endswith(".localhost") or is_loopback(host.removeprefix("::ffff:"))
