"""What a request may look like before anything else about it matters, and its body."""

from __future__ import annotations

import asyncio
import re

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion10
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from videre.transport.holdings import Holdings

# Seconds in which the body of a request must have come: 1 MiB over a line of 300 kbit/s.
BODY_SECONDS = 30.0

# Bytes of bodies that are on their way, of all clients: when that is reached, who holds most is cut
# off. And of one address: room for sixteen of the largest.
MAX_BODIES = 64 * 1024 * 1024
MAX_ADDRESS_BODIES = 16 * 1024 * 1024

# A host and a port (RFC 9110, 7.2; RFC 3986, 3.2.2). Empty where a client has none to name.
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~!$&'()*+,;=%-]{0,255})(?::([0-9]{0,5}))?"
)
_PLAIN = ("", "identity")


def check(request: web.BaseRequest) -> None:
    """Raise the HTTPException that answers a request which we do not want to understand.

    That is one with a compressed body, of which a few bytes become many; one whose Host header is
    none, since aiohttp fails when it is asked for its URL; and an upgrade with a body, which to
    aiohttp is what comes after it: a proxy and we would not agree on where the request ends.
    """
    if request.version < HttpVersion10:
        raise _unread(request, web.HTTPVersionNotSupported())
    encodings = request.headers.getall(hdrs.CONTENT_ENCODING, ())
    if any(each.strip().lower() not in _PLAIN for each in ",".join(encodings).split(",")):
        raise _unread(
            request, web.HTTPUnsupportedMediaType(headers={hdrs.ACCEPT_ENCODING: "identity"})
        )
    host = _HOST.fullmatch(request.headers.get(hdrs.HOST, ""))
    if host is None or int(host[1] or 0) > 65535:
        raise _unread(request, web.HTTPBadRequest(text="The Host header is none"))
    if hdrs.UPGRADE in request.headers and (
        request.content_length or hdrs.TRANSFER_ENCODING in request.headers
    ):
        raise _unread(request, web.HTTPBadRequest(text="An upgrade has no body"))


def _unread(request: web.BaseRequest, answer: web.HTTPException) -> web.HTTPException:
    """Return an answer after which the connection ends, without what it still brings being read."""
    answer.force_close()
    request.protocol._lingering_time = 0.0
    return answer


@web.middleware
async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check each request to an application, for any path: a middleware."""
    check(request)
    return await handler(request)


class Body:
    """The body of one request, counted while it comes."""

    def __init__(self, request: web.Request, address: str, bodies: Holdings[Body]) -> None:
        self.address = address
        self._request = request
        self._bodies = bodies

    async def read(self, limit: int | None) -> bytes:
        """Return the body; raise an HTTPException if it is too large, too slow or broken."""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._collect(limit)
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        except (HttpProcessingError, web.RequestPayloadError) as error:
            raise _unread(self._request, web.HTTPBadRequest(text="Broken body")) from error
        finally:
            self._bodies.drop(self)

    async def _collect(self, limit: int | None) -> bytes:
        declared = self._request.content_length or 0
        if limit is not None and declared > limit:
            raise _too_large(limit, declared)
        body = bytearray()
        async for chunk in self._request.content.iter_any():
            body += chunk
            if limit is not None and len(body) > limit:
                raise _too_large(limit, len(body))
            self._bodies.add(self, len(chunk))
            if self._bodies.of(self.address) > max(MAX_ADDRESS_BODIES, limit or 0):
                raise _unread(self._request, web.HTTPTooManyRequests(text="Too much on its way"))
            if self._bodies.total > MAX_BODIES:
                for payer in self._bodies.heaviest(self._bodies.total // 8):
                    payer._cut()
        return bytes(body)

    def _cut(self) -> None:
        """End the connection: what has come of the body is let go of when that is noticed."""
        self._bodies.drop(self)
        if (tcp := self._request.transport) is not None:
            tcp.abort()


def _too_large(limit: int, size: int) -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=size)
