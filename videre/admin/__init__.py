"""The admin port: a separate application for operators.

/metrics                        for Prometheus
/status, /status.json           the server's status, as a page and as JSON
/api/v1/...                     list rooms and members, remove members, send packets, drain
/openapi.json                   the description of all of these
/health, /ready                 as on the public port
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from videre import health, metrics
from videre.admin.access import Guard, add_headers
from videre.admin.api import API, answer
from videre.admin.problems import tell_problems
from videre.admin.status import Status
from videre.config import Config
from videre.metrics.sockets import Counted, Sockets
from videre.namespace import Namespace
from videre.transport.checks import checked
from videre.transport.clients import Proxies
from videre.version import __version__

# Bytes of a body in addition to its packet: up to 64 receivers of 128 characters, each of which
# takes up to six bytes if JSON escapes it.
BESIDE_PACKET = 64 * 1024
# Bytes of the largest body if packets have no limit.
LARGEST_BODY = 16 * 1024 * 1024

#: The access control of an application made by `create_app`.
GUARD: web.AppKey[Guard] = web.AppKey("videre-guard", Guard)


def create_app(
    namespaces: Sequence[Namespace],
    *,
    drain: Callable[[], None],
    config: Config | None = None,
    ready: Callable[[], bool] | None = None,
    loggers: Sequence[logging.Logger] | None = None,
    sockets: Counted | None = None,
) -> web.Application:
    """Return the application for the admin port; for `namespaces`, see `videre.app.NAMESPACES`.

    `drain` starts to drain the server; it returns at once and may be called again. `ready` answers
    `/ready`; by default, whether all namespaces are ready. The status page shows the warnings and
    errors of `loggers`, by default "videre". `sockets` adds its counts to the metrics. `config`
    supplies the token, the trusted proxies, the packet limit and the engine's URL; see `reload`.
    """
    config = config or Config()
    ready = ready or (lambda: all(each.ready for each in namespaces))
    guard = Guard(config.admin_token)
    app = web.Application(middlewares=[tell_problems, checked, guard.middleware()])
    app[GUARD] = guard
    reload(app, config)
    app.on_response_prepare.append(add_headers)
    loggers = loggers or [logging.getLogger("videre")]
    status = Status(namespaces, engine=config.engine, ready=ready, loggers=loggers)
    app.cleanup_ctx.append(status.watch)
    app.add_routes(health.routes(ready, lambda: (each.rooms.fault for each in namespaces)))
    app.add_routes(status.routes())
    more = () if sockets is None else (Sockets(sockets),)
    app.add_routes(metrics.routes(metrics.registry(namespaces, *more)))
    app.add_routes(API(namespaces, drain=drain).routes())
    app.router.add_get("/openapi.json", _tell_openapi)
    return app


def reload(app: web.Application, config: Config) -> None:
    """Apply the trusted proxies and the packet limit of a configuration, but no new token."""
    options = config.transport
    app[GUARD].proxies = Proxies(options.trusted_proxies, options.client_address_header)
    longest = config.max_packet_bytes
    app._client_max_size = LARGEST_BODY if longest is None else longest + BESIDE_PACKET


def openapi() -> dict[str, object]:
    """Return the OpenAPI document that describes the admin port."""
    text = (Path(__file__).parent / "openapi.json").read_text(encoding="utf-8")
    document: dict[str, object] = json.loads(text)
    document["info"]["version"] = __version__  # type: ignore[index]
    return document


async def _tell_openapi(_request: web.Request) -> web.Response:
    return answer(openapi())
