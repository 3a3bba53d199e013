"""Checks that a request must pass before anything else."""

from __future__ import annotations

import re

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10
from aiohttp.typedefs import Handler

#: Longest host name, in characters.
MAX_HOST = 255

# Host and port (RFC 9110, 7.2; RFC 3986, 3.2.2). Empty if the client has no host to name.
_HOST = re.compile(
    rf"(?:\[[0-9A-Fa-f:.]{{2,45}}\]|[A-Za-z0-9._~!$&'()*+,;=%-]{{0,{MAX_HOST}}})(?::([0-9]{{0,5}}))?"
)
_PLAIN = ("", "identity")


def check(request: web.BaseRequest) -> None:
    """Raise an HTTPException for a request that must not be processed.

    Refused are: HTTP before 1.0; compressed bodies, because a few bytes can become many; invalid
    Host headers, because aiohttp fails when asked for the URL; and upgrades with a body, because
    aiohttp takes the body for what follows the request, so that a proxy and this server would
    disagree on where the request ends.
    """
    if request.version < HttpVersion10:
        raise unread(request, web.HTTPVersionNotSupported())
    encodings = request.headers.getall(hdrs.CONTENT_ENCODING, ())
    if encodings and any(
        each.strip().lower() not in _PLAIN for each in ",".join(encodings).split(",")
    ):
        raise unread(
            request, web.HTTPUnsupportedMediaType(headers={hdrs.ACCEPT_ENCODING: "identity"})
        )
    host = _HOST.fullmatch(request.headers.get(hdrs.HOST, ""))
    if host is None or int(host[1] or 0) > 65535:
        raise unread(request, web.HTTPBadRequest(text="The Host header is invalid"))
    if hdrs.UPGRADE in request.headers and (
        request.content_length or hdrs.TRANSFER_ENCODING in request.headers
    ):
        raise unread(request, web.HTTPBadRequest(text="An upgrade has no body"))


def unread(request: web.BaseRequest, answer: web.HTTPException) -> web.HTTPException:
    """Return `answer`, made to close the connection without reading the rest of the request."""
    answer.force_close()
    request.protocol._lingering_time = 0.0
    return answer


def media_type(request: web.BaseRequest) -> str:
    """Return the type in a Content-Type, in lower case; "" if there is none.

    aiohttp parses the parameters, too: that takes 60 us for each byte.
    """
    return request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()


@web.middleware
async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run `check` on each request to an application, for any path: a middleware."""
    check(request)
    return await handler(request)
