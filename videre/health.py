"""Health checks: whether the process lives, and whether it can take clients now."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

from videre.answers import Answer

NO_STORE = {"Cache-Control": "no-store"}


def routes(ready: Callable[[], bool], faults: Callable[[], Iterable[str]]) -> list[web.RouteDef]:
    """Return the routes `/health` and `/ready`.

    `/health` is 200 as long as the process answers. `/ready` is 200 while `ready()` is true, else
    503 with the sentences of `faults()` as its `Reason`: send clients elsewhere.
    """

    async def tell_health(_request: web.Request) -> web.Response:
        return web.json_response({"Status": "healthy"}, headers=NO_STORE)

    async def tell_ready(_request: web.Request) -> web.Response:
        if ready():
            return web.json_response({"Status": "ready"}, headers=NO_STORE)
        told = {"Status": "unavailable"}
        if reason := "; ".join(sorted({fault for fault in faults() if fault})):
            told["Reason"] = reason
        return web.json_response(told, status=503, headers=NO_STORE)

    return [web.get("/health", tell_health), web.get("/ready", tell_ready)]


def options(ready: Callable[[], bool], *, alone: bool) -> web.RouteDef:
    """Return the route `OPTIONS /`, HAProxy's default health check: 200 or 503, as `/ready`.

    `alone`: the application has nothing else at `/`, so other methods get 404.
    """

    async def tell(request: web.Request) -> web.Response:
        if request.method != "OPTIONS":
            raise web.HTTPNotFound
        return Answer(status=200 if ready() else 503, headers=NO_STORE)

    return web.route("*", "/", tell) if alone else web.options("/", tell)
