"""Admission: who may open a session, and how many."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

from aiohttp import hdrs, web

from videre.limits import TokenBucket
from videre.settings import Options
from videre.tally import Tally
from videre.transport.clients import Client, Origins, Proxies

# Addresses whose pace is remembered; the longest unused are forgotten first.
MAX_PACED_ADDRESSES = 10_000


class Admission:
    """The door of one prefix: its bounds in all and for each address, and the allowed origins.

    A refusal is an HTTPException, and is counted by its reason, one of tally.REFUSALS.
    """

    def __init__(self, options: Options, tally: Tally) -> None:
        self.open_sessions = 0
        self.closing = False  # no session is opened any more
        self.retry_after = 1  # Retry-After for refused clients, in seconds
        self._tally = tally
        self._addresses: Counter[str] = Counter()  # open sessions of each address
        self.configure(options)

    def configure(self, options: Options) -> None:
        """Go by other options from now on; sessions that are open stay."""
        self._options = options
        self.origins = Origins(options.origins)
        self.proxies = Proxies(options.trusted_proxies, options.client_address_header)
        self._buckets: dict[str, TokenBucket] = {}

    def opened(self, address: str) -> None:
        """Count a session of an address."""
        self.open_sessions += 1
        self._addresses[address] += 1

    def ended(self, address: str) -> None:
        """Count a session of an address no more."""
        self.open_sessions -= 1
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def close(self, seconds: float | None = None) -> None:
        """Open no session any more; refused clients may try again after so many seconds."""
        self.closing = True
        if seconds is not None:
            self.retry_after = max(1, math.ceil(seconds))

    def check_origin(self, request: web.BaseRequest) -> None:
        """Raise HTTPForbidden for a request from a page that may not use the server."""
        if not self.origins.allow(request):
            self._tally.refused["origin"] += 1
            raise web.HTTPForbidden(text="This origin is not allowed.")

    def require_open(self) -> None:
        """Raise HTTPServiceUnavailable if no session is opened any more."""
        if self.closing:
            self._tally.refused["stopping"] += 1
            headers = {hdrs.RETRY_AFTER: str(self.retry_after)}
            raise web.HTTPServiceUnavailable(text="Server is going away.", headers=headers)

    def new_client(self, request: web.BaseRequest) -> Client:
        """Return who opens a session, or raise HTTPServiceUnavailable if there is no room."""
        self.require_open()
        client = self.proxies.client(request)
        if (refusal := self._refusal(client.address)) is not None:
            self._tally.refused[refusal] += 1
            raise web.HTTPServiceUnavailable(text="Too many connections.")
        return client

    def _refusal(self, address: str) -> str | None:
        """Return why no session may be opened, of tally.REFUSALS; None if one may."""
        options = self._options
        if 0 < options.max_connections <= self.open_sessions:
            return "connections"
        limit = options.max_connections_per_address
        if limit and self._addresses[address] >= limit:
            return "connections-per-address"
        rate = options.connects_per_second_per_address
        return None if rate is None or self._paces(address, rate) else "connects-per-second"

    def _paces(self, address: str, rate: float) -> bool:
        """Tell whether an address opens sessions no faster than it may, and count this one."""
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            bucket = TokenBucket(rate, max(1, int(rate)))
            if len(self._buckets) >= MAX_PACED_ADDRESSES:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[address] = bucket  # last in order: the first is the longest unused
        return bucket.take(asyncio.get_running_loop().time())
