"""Serve the browser client: `<prefix>/videre.js`, its types, and the modules it imports.

The files are those of the npm package in `videre/browser/`; there is no build step.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import hdrs, web

from videre.answers import Answer
from videre.transport import Manager

FOLDER = Path(__file__).parent / "browser"
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".ts": "application/typescript",
}

#: The paths served below `<prefix>/`. A page imports the first, which imports the others.
PATHS = (
    "videre.js",
    "videre.d.ts",
    *sorted(f"videre/{path.name}" for path in (FOLDER / "videre").glob("*.js")),
)


class File:
    """A file held in memory, plain and compressed."""

    def __init__(self, body: bytes, suffix: str) -> None:
        self._type = _TYPES[suffix]
        self._bodies = {"": body, "gzip": gzip.compress(body, 9, mtime=0)}
        self._tag = hashlib.sha256(body).hexdigest()[:32]

    def answer(self, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        """Return the file with these headers, or 304 if the browser has it already.

        `no-cache` makes browsers revalidate each time: modules of two versions do not mix.
        """
        coding = "gzip" if _takes_gzip(request) else ""
        tag = f"{self._tag}-{coding}".rstrip("-")
        if any(each.value == tag for each in request.if_none_match or ()):
            response = Answer(status=304, headers=headers)
        else:
            response = Answer(
                body=self._bodies[coding], content_type=self._type, charset="utf-8", headers=headers
            )
            if coding:
                response.headers[hdrs.CONTENT_ENCODING] = coding
        response.headers[hdrs.CACHE_CONTROL] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
        response.etag = tag
        return response


FILES = {path: File((FOLDER / path).read_bytes(), Path(path).suffix) for path in PATHS}


def mount(app: web.Application, prefix: str, sessions: Manager) -> None:
    """Serve the client below `prefix` to pages whose origin may open a session there."""
    for path, file in FILES.items():
        app.router.add_get(f"{prefix.rstrip('/')}/{path}", _handler(file, sessions))


def _handler(file: File, sessions: Manager) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        sessions.admission.check_origin(request)
        origin = request.headers.get(hdrs.ORIGIN)
        everybody = sessions.admission.origins.policy is None
        headers = {"Cross-Origin-Resource-Policy": "same-origin"}
        if everybody or origin:
            headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*" if everybody else origin or ""
        if not everybody:
            headers[hdrs.VARY] = hdrs.ORIGIN
        headers["X-TypeScript-Types"] = "./videre.d.ts"
        return file.answer(request, headers)

    return answer


def _takes_gzip(request: web.Request) -> bool:
    """Tell whether a request accepts gzip (RFC 9110 12.5.3); a weight of 0 refuses it."""
    for each in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "").rstrip("0").rstrip(".") not in ("q=", "q=0")
    return False
