"""The routes in the site's router: some methods as routes, and an answer to all others.

A `*` route would do the same. But a site that adds its own OPTIONS to each resource, for example
with aiohttp-cors, could not start then. If a site has added one, it controls CORS there, not we.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from yarl import URL


class _Answering(web.Resource):
    """A resource that answers every method; `answer` handles those without a route."""

    _rest: web.ResourceRoute | None = None

    def answer_all(self, methods: Sequence[str], answer: Handler) -> None:
        """Add routes for these methods, visible to the site, and answer all others too."""
        for method in methods:
            self.add_route(method, answer)
        self._rest = web.ResourceRoute(hdrs.METH_ANY, answer, self)

    async def resolve(self, request: web.Request) -> Any:
        """See web.Resource."""
        found, allowed = await super().resolve(request)
        if found is None and self._rest is not None:
            parts = self._match(request.rel_url.path_safe)
            if parts is not None:
                found = web.UrlMappingMatchInfo(parts, self._rest)
        return found, allowed


class _Plain(_Answering, web.PlainResource):
    pass


class _Dynamic(_Answering, web.DynamicResource):
    pass


def add(router: web.UrlDispatcher, path: str, answer: Handler, *methods: str) -> None:
    """Add a path that answers every method; only `methods` become routes."""
    found: _Answering = _Dynamic(path) if "{" in path else _Plain(URL.build(path=path).raw_path)
    found.answer_all(methods, answer)
    router.register_resource(found)


def has_cors_of_site(request: web.BaseRequest) -> bool:
    """Tell whether the site handles CORS for a resource: it has added an OPTIONS route there."""
    resource = request.match_info.route.resource if isinstance(request, web.Request) else None
    return isinstance(resource, _Answering) and any(
        route.method == hdrs.METH_OPTIONS for route in resource
    )
