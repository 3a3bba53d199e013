"""The ICE servers of a call: the application's, then those of the latest welcome."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from aiortc import RTCIceServer
from aiortc.rtcicetransport import parse_stun_turn_uri

from videre.client.client import Client
from videre.errors import VidereError

# The part of their validity after which servers are requested again; seconds between checks while
# they do not expire, and until a failed request is repeated; and the least between two checks.
FRESH, IDLE, RETRY, LEAST = 0.8, 60.0, 10.0, 1.0


class Servers:
    """The servers of a `client`'s room, preceded by `own`."""

    def __init__(self, client: Client, own: Sequence[Mapping[str, Any]]) -> None:
        self._client = client
        self._own = own

    def valid(self) -> list[RTCIceServer]:
        """Return the servers that are valid now."""
        return usable([*self._own, *self._client.ice_servers])

    async def keep_valid(self, failed: Callable[[Exception], None]) -> None:
        """Request new servers, for ever, before the credentials of the last ones expire.

        Calls `failed` with the error of a request, which is repeated soon.
        """
        most = math.inf
        while True:
            ttl = self._client.ice_ttl
            await asyncio.sleep(IDLE if ttl is None else max(LEAST, min(most, ttl * FRESH)))
            most = math.inf
            if ttl is not None and self._client.connected:  # if not, the next welcome brings some
                try:
                    await self._client.ice()
                except (VidereError, TimeoutError) as error:
                    most = RETRY
                    failed(error)


def usable(servers: Iterable[Mapping[str, Any]], *, strict: bool = False) -> list[RTCIceServer]:
    """Drop the URLs of ICE servers that aiortc cannot parse; `strict` raises ValueError instead."""
    found = []
    for server in servers:
        urls = server["urls"]
        all_ = [urls] if isinstance(urls, str) else urls
        good = [url for url in all_ if _is_readable(url)]
        if strict and (bad := set(all_) - set(good)):
            raise ValueError(
                f"ice_servers: {sorted(bad)[0]!r} is not the URL of a STUN or TURN server"
            )
        if good:
            name, credential = server.get("username"), server.get("credential")
            found.append(RTCIceServer(urls=good, username=name, credential=credential))
    return found


def _is_readable(url: str) -> bool:
    try:
        parse_stun_turn_uri(url)
    except ValueError:
        return False
    return True
