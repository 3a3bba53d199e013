"""Admission: who may open a session, and how many sessions may be open."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

from aiohttp import hdrs, web

from videre.limits import TokenBucket
from videre.settings import Options
from videre.tally import Tally
from videre.transport.clients import Client, Origins, Proxies

# Addresses with a rate limiter; the least recently used is dropped first.
MAX_PACED_ADDRESSES = 10_000


class Admission:
    """Admission for one prefix: session limits, in total and for each address, and allowed origins.

    A refusal is an HTTPException, counted by its reason, which is one of tally.REFUSALS.
    """

    def __init__(self, options: Options, tally: Tally) -> None:
        self.open_sessions = 0
        self.closing = False  # admit no new sessions
        self.retry_after = 1  # Retry-After for refused clients, in seconds
        self._tally = tally
        self._addresses: Counter[str] = Counter()  # open sessions by address
        self.configure(options)

    def configure(self, options: Options) -> None:
        """Apply new options to new sessions; open sessions stay."""
        self._options = options
        self.origins = Origins(options.origins)
        self.proxies = Proxies(options.trusted_proxies, options.client_address_header)
        self._buckets: dict[str, TokenBucket] = {}

    def opened(self, address: str) -> None:
        """Count a session that an address opened."""
        self.open_sessions += 1
        self._addresses[address] += 1

    def ended(self, address: str) -> None:
        """Count a session of an address as ended."""
        self.open_sessions -= 1
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def close(self, seconds: float | None = None) -> None:
        """Admit no new sessions; `seconds` is the Retry-After for refused clients."""
        self.closing = True
        if seconds is not None:
            self.retry_after = max(1, math.ceil(seconds))

    def check_origin(self, request: web.BaseRequest) -> None:
        """Raise HTTPForbidden if the request comes from a page of an origin that is not allowed."""
        if not self.origins.allow(request):
            self._tally.refused["origin"] += 1
            raise web.HTTPForbidden(text="This origin is not allowed.")

    def require_open(self) -> None:
        """Raise HTTPServiceUnavailable if no new sessions are admitted."""
        if self.closing:
            self._tally.refused["stopping"] += 1
            headers = {hdrs.RETRY_AFTER: str(self.retry_after)}
            raise web.HTTPServiceUnavailable(text="Server is going away.", headers=headers)

    def new_client(self, request: web.BaseRequest) -> Client:
        """Return the client that opens a session; raise HTTPServiceUnavailable at a limit."""
        self.require_open()
        client = self.proxies.client(request)
        if (refusal := self._refusal(client.address)) is not None:
            self._tally.refused[refusal] += 1
            raise web.HTTPServiceUnavailable(text="Too many connections.")
        return client

    def _refusal(self, address: str) -> str | None:
        """Return the reason to refuse a session, one of tally.REFUSALS, or None."""
        options = self._options
        if 0 < options.max_connections <= self.open_sessions:
            return "connections"
        limit = options.max_connections_per_address
        if limit and self._addresses[address] >= limit:
            return "connections-per-address"
        rate = options.connects_per_second_per_address
        return None if rate is None or self._paces(address, rate) else "connects-per-second"

    def _paces(self, address: str, rate: float) -> bool:
        """Count a session for an address's rate limit; return False if the limit is exceeded."""
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            bucket = TokenBucket(rate, max(1, int(rate)))
            if len(self._buckets) >= MAX_PACED_ADDRESSES:
                del self._buckets[next(iter(self._buckets))]
        self._buckets[address] = bucket  # move to the end: the first is the least recently used
        return bucket.take(asyncio.get_running_loop().time())
