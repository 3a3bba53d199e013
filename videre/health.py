"""What load balancers ask: whether the process lives, and whether it can take clients now."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

NO_STORE = {"Cache-Control": "no-store"}


def routes(ready: Callable[[], bool], faults: Callable[[], Iterable[str]]) -> list[web.RouteDef]:
    """Return `/health`, which is 200 for as long as the process answers, and `/ready`.

    `/ready` is 200 while `ready()` is true, else 503: then clients should be sent elsewhere. What
    `faults()` returns is the reason that it gives; an empty one is none.
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
    """Return what HAProxy asks for where `option httpchk` says nothing else: `OPTIONS /`.

    It is 200 or 503, as `/ready` is. `alone`: nothing else is at `/`, which is 404 for all others.
    """

    async def tell(request: web.Request) -> web.Response:
        if request.method != "OPTIONS":
            raise web.HTTPNotFound
        return web.Response(status=200 if ready() else 503, headers=NO_STORE)

    return web.route("*", "/", tell) if alone else web.options("/", tell)
