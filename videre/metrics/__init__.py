"""Prometheus metrics: counters and current values of a process's namespaces.

    registry = videre.metrics.registry([namespace])
    app.add_routes(videre.metrics.routes(registry))

Each registry has its own namespaces; nothing is global. Metrics are computed per scrape, so that
packets pay only for `videre.tally`. A scrape first walks through the sessions in slices, and counts
the tasks in a separate turn of the event loop. docs/operations.md lists all metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import hdrs, web
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from videre.metrics.namespaces import Namespaces
from videre.namespace import Namespace

# Characters to read of an Accept header: Prometheus sends about 300.
MAX_ACCEPT = 1000


class Registry(CollectorRegistry):
    """A registry that can add up the sessions' backlogs in slices, see `measured`."""

    def __init__(self, namespaces: Sequence[Namespace]) -> None:
        super().__init__(auto_describe=False)
        self._namespaces = Namespaces(namespaces)
        self.register(self._namespaces)

    async def measured(self, accept: str = "") -> tuple[bytes, str]:
        """Return the same as `exposition`, but yield to the event loop while adding up backlogs.

        It blocks no longer than it takes to count the tasks or to write the metrics.
        """
        found = await self._namespaces.measure()
        self._namespaces.found = found
        try:
            return exposition(self, accept)
        finally:
            self._namespaces.found = None


def registry(namespaces: Sequence[Namespace], *more: Collector) -> Registry:
    """Return a new registry with the metrics of these namespaces, of `more`, and of the process."""
    made = Registry(namespaces)
    for each in more:
        made.register(each)
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def exposition(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """Return the current metrics and their content type.

    The format is Prometheus text, or OpenMetrics if `accept`, a request's Accept header, prefers
    it. Call this in the namespaces' event loop. It blocks for O(sessions); `Registry.measured`
    does not.
    """
    encode, content_type = _encoder(accept[:MAX_ACCEPT])
    return encode(registry), content_type


def _encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is not a number
        return choose_encoder("")


def routes(registry: Registry, path: str = "/metrics") -> list[web.RouteDef]:
    """Return the route for Prometheus; the application must control the access to it."""

    async def tell_metrics(request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall(hdrs.ACCEPT, []))
        body, content_type = await registry.measured(accept)
        headers = {hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(body=body, headers=headers)

    return [web.get(path, tell_metrics)]
