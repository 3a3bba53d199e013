"""Request bodies: bounds on their bytes in flight and on their duration."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from videre.transport.checks import unread
from videre.transport.holdings import Holdings

# Seconds in which a body must arrive: enough for 1 MiB at 300 kbit/s.
BODY_SECONDS = 30.0

# Bytes of bodies in flight. Above MAX_BODIES the largest holders are cut off; one address may have
# MAX_ADDRESS_BODIES, room for sixteen of the largest bodies.
MAX_BODIES = 64 * 1024 * 1024
MAX_ADDRESS_BODIES = 16 * 1024 * 1024


class Body:
    """The body of one request, counted while it arrives."""

    def __init__(self, request: web.Request, address: str, bodies: Holdings[Body]) -> None:
        self.address = address
        self._request = request
        self._bodies = bodies

    async def read(self, limit: int | None) -> bytes:
        """Return the body of up to `limit` bytes (None: no limit).

        Raises an HTTPException if it is too large, too slow or broken.
        """
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._collect(limit)
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        except (HttpProcessingError, web.RequestPayloadError) as error:
            raise unread(self._request, web.HTTPBadRequest(text="Broken body")) from error
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
                raise unread(
                    self._request, web.HTTPTooManyRequests(text="Too many bytes in flight")
                )
            if self._bodies.total > max(MAX_BODIES, limit or 0):
                for payer in self._bodies.heaviest(self._bodies.total // 8):
                    payer._cut()
        return bytes(body)

    def _cut(self) -> None:
        """Abort the connection; the bytes received are freed once the reader notices."""
        self._bodies.drop(self)
        if (tcp := self._request.transport) is not None:
            tcp.abort()


def _too_large(limit: int, size: int) -> web.HTTPRequestEntityTooLarge:
    return web.HTTPRequestEntityTooLarge(max_size=limit, actual_size=size)
