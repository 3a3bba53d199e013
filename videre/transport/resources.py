"""What stands in the site's router: routes with methods, and an answer to every other method.

A route for `*` would do the same, but sites that add their own OPTIONS to each resource, as with
aiohttp-cors, could not start. One that has done so decides on CORS there in our place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from yarl import URL


class _Answering(web.Resource):
    """A resource that answers every method; those without a route by `answer`."""

    _rest: web.ResourceRoute | None = None

    def answer_all(self, methods: Sequence[str], answer: Handler) -> None:
        """Answer these methods by routes that a site sees, and all others too."""
        for method in methods:
            self.add_route(method, answer)
        self._rest = web.ResourceRoute(hdrs.METH_ANY, answer, self)

    async def resolve(self, request: web.Request) -> Any:
        """See Resource."""
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
    """Have requests for a path answered, whatever their method; `methods` are those it is for."""
    found: _Answering = _Dynamic(path) if "{" in path else _Plain(URL.build(path=path).raw_path)
    found.answer_all(methods, answer)
    router.register_resource(found)


def has_cors_of_site(request: web.BaseRequest) -> bool:
    """Tell whether the site answers preflights for what a request asks for, and so does CORS."""
    resource = request.match_info.route.resource if isinstance(request, web.Request) else None
    return isinstance(resource, _Answering) and any(
        route.method == hdrs.METH_OPTIONS for route in resource
    )
