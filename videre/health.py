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
