"""The SockJS seam: the only package that knows the `sockjs` plugin.

It uses the plugin's framing, and replaces its session life cycle with subclasses: Route, Manager,
Session and the transports. It patches nothing and leaves the plugin's module globals alone, because
the hosting site may use the plugin too.
"""

from __future__ import annotations

import secrets
import time

from aiohttp import web
from aiohttp.typedefs import Handler as Handle

from videre.errors import CloseCode
from videre.settings import Options
from videre.tally import Tally
from videre.transport import resources
from videre.transport.checks import check, checked
from videre.transport.manager import Manager
from videre.transport.route import Route, finish_headers
from videre.transport.session import Accept, Session
from videre.transport.shared import Handler

__all__ = ["Accept", "Handler", "Manager", "Options", "Route", "Session", "mount"]


def mount(
    app: web.Application,
    prefix: str,
    accept: Accept,
    *,
    options: Options | None = None,
    tally: Tally | None = None,
) -> Manager:
    """Serve SockJS and raw WebSocket sessions below `prefix`, and return their manager.

    `accept(session)` is called for each session that opens, and returns its Handler. When the
    application shuts down, all sessions are closed with 1001. `tally` counts the sessions.
    """
    prefix = prefix.rstrip("/")
    name = f"videre-{secrets.token_hex(4)}"
    manager = Manager(name, app, accept, options or Options(), tally or Tally(time.monotonic))
    route = Route(name, manager)
    router = app.router
    for path in (prefix, f"{prefix}/") if prefix else ("/",):
        resources.add(router, path, _checked(app, route.greet), "GET")
    session = "/{server}/{session}/{transport}"
    for end in ("", "/"):  # as sockjs-node has it
        for path, answer in (
            ("/info", route.info),
            ("/iframe{version:[^/]*}.html", route.page),
            ("/websocket", route.websocket),
        ):
            resources.add(router, f"{prefix}{path}{end}", _checked(app, answer), "GET")
        resources.add(
            router, f"{prefix}{session}{end}", _checked(app, route.transport), "GET", "POST"
        )

    async def shutdown(_app: web.Application) -> None:
        await manager.shutdown(CloseCode.GOING_AWAY, CloseCode.GOING_AWAY.reason)

    app.on_response_prepare.append(finish_headers)
    app.on_shutdown.append(shutdown)
    app.on_cleanup.append(manager.stop)
    return manager


def _checked(app: web.Application, answer: Handle) -> Handle:
    """Run `check` before a handler, unless the application does so for all paths."""
    if checked in app.middlewares:
        return answer

    async def check_first(request: web.Request) -> web.StreamResponse:
        check(request)
        return await answer(request)

    return check_first
