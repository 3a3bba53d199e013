"""The front page, at `/`: what runs here, and the URLs for clients and of the client module.

It reveals nothing that a visitor could not learn by connecting. `FrontPage` switches it off.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import importlib.metadata
import re
import string
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web

from videre import demo
from videre.config import Config
from videre.version import __version__

PATH = "/"

_PAGE = (Path(__file__).parent / "front.html").read_text(encoding="utf-8")
_TOKENS = demo.TOKENS.read_text(encoding="utf-8")
_TEMPLATE = string.Template(_PAGE.replace("$tokens", _TOKENS))
_STYLE = re.search(r"<style>(.*?)</style>", _TEMPLATE.template, re.S)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE[1].encode() if _STYLE else b"").digest())

#: The page runs no script and loads nothing; the policy names its style sheet by hash.
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH.decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    hdrs.VARY: hdrs.ACCEPT,
    hdrs.CACHE_CONTROL: "no-cache",
}


def wanted(config: Config) -> bool:
    """Tell whether `/` shows the front page; a prefix at the root has its own answer there."""
    return config.front_page and "" not in config.prefixes


def mount(app: web.Application, config: Config) -> None:
    """Serve the page at `/`: HTML to browsers, JSON to others."""

    async def answer(request: web.Request) -> web.Response:
        found = description(config, has_demo=demo.is_shown(request))
        if not _wants_html(request):
            return web.json_response(found, headers=HEADERS)
        site = request.path.removesuffix(PATH)  # a site may mount the application below a path
        return web.Response(
            text=_page(found, site), content_type="text/html", charset="utf-8", headers=HEADERS
        )

    app.router.add_get(PATH, answer)


def description(config: Config, *, has_demo: bool) -> dict[str, Any]:
    """Return the page as JSON; its links are relative to the page, like those in HTML."""
    return {
        "Server": "videre-server",
        "Version": __version__,
        "Namespaces": [_namespace(prefix, config) for prefix in config.prefixes],
        "Demo": "demo" if has_demo else None,
        "Documentation": _documentation(),
    }


def _namespace(prefix: str, config: Config) -> dict[str, str | None]:
    """Return the URLs for the clients of a prefix, and of the client module."""
    link = prefix.strip("/")
    return {
        "Prefix": prefix,
        "SockJS": link,
        "WebSocket": f"{link}/websocket",
        "Client": f"{link}/videre.js" if config.client_module else None,
    }


@functools.cache  # the metadata is a file
def _documentation() -> str | None:
    """Return the documentation's URL from the installed package's metadata, if it names one."""
    try:
        about = importlib.metadata.metadata("videre-server")
    except importlib.metadata.PackageNotFoundError:  # run from a clone that is not installed
        return None
    links = about.get_all("Project-URL", [])
    found = dict(each.split(", ", 1) for each in links)
    return found.get("Documentation")


def _page(found: dict[str, Any], site: str) -> str:
    lists = "".join(_list(each, site) for each in found["Namespaces"])
    open_demo = '<p><a class="button" href="demo">Try a call</a></p>' if found["Demo"] else ""
    documents = "The documentation is in the folder <code>docs</code> of its source."
    if found["Documentation"]:
        documents = f'<a href="{html.escape(found["Documentation"])}">Read the documentation</a>'
    version = html.escape(found["Version"])
    return _TEMPLATE.substitute(
        version=version, namespaces=lists, demo=open_demo, documents=documents
    )


def _list(each: dict[str, str | None], site: str) -> str:
    """Return a namespace's links as an HTML description list; `site` is the path above them."""
    terms = {
        "SockJS": _code(f"{site}{each['Prefix']}"),
        "WebSocket": _code(f"{site}/{each['WebSocket']}"),
    }
    if client := each["Client"]:
        terms["Browser client"] = f'<a href="{html.escape(client)}">{_code(f"{site}/{client}")}</a>'
    return f"<dl>{''.join(f'<dt>{term}</dt><dd>{text}</dd>' for term, text in terms.items())}</dl>"


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def _wants_html(request: web.Request) -> bool:
    """Tell whether a request accepts HTML explicitly, as browsers do and programs do not."""
    return "text/html" in request.headers.get(hdrs.ACCEPT, "").lower()
