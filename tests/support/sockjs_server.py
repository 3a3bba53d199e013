"""The echo server for SockJS conformance suites, on our seam or on the stock plugin.

python tests/support/sockjs_server.py [--stock] [--port 8081]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from videre.reasons import End

ROOT = Path(__file__).resolve().parents[2]
STREAMING_LIMIT = 4096  # bytes; what the suites expect of a test server
SERVICES: dict[str, dict[str, Any]] = {
    "/echo": {},
    "/close": {},
    "/disabled_websocket_echo": {"websocket": False},
    "/cookie_needed_echo": {"cookie": True},
}


@dataclass(frozen=True)
class Echo:
    """Send back all that the session receives."""

    session: Any
    seated = True

    def receive(self, text: str) -> None:
        self.session.send(text)

    def too_large(self) -> None:
        pass

    def leaving(self) -> None:
        pass

    def closed(self, end: End) -> None:
        pass


def closer(session: Any) -> Echo:
    """Close the session at once."""
    session.close(3000, "Go away!")
    return Echo(session)


def make_app(stock: bool = False) -> web.Application:
    """Return an application with the services of the official suite."""
    app = web.Application()
    for prefix, options in SERVICES.items():
        (mount_stock if stock else mount_ours)(app, prefix, **options)
    return app


def mount_ours(app: web.Application, prefix: str, **options: Any) -> None:
    from videre.transport import Options, mount

    accept = closer if prefix == "/close" else Echo
    settings = Options(streaming_limit=STREAMING_LIMIT, jsonp=True, htmlfile=True, **options)
    mount(app, prefix, accept, options=settings)


def mount_stock(
    app: web.Application, prefix: str, *, websocket: bool = True, cookie: bool = False
) -> None:
    import sockjs
    from sockjs.transports.base import StreamingTransport

    StreamingTransport.maxsize = STREAMING_LIMIT  # the plugin has no option for it

    async def handler(manager: Any, session: Any, message: Any) -> None:
        if message.type == sockjs.MsgType.OPEN and prefix == "/close":
            session.close(3000, "Go away!")
        elif message.type == sockjs.MsgType.MESSAGE:
            session.send(message.data)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", web.NotAppKeyWarning)
        sockjs.add_endpoint(
            app,
            handler,
            prefix=prefix,
            name=prefix.strip("/"),
            disable_transports=() if websocket else ("websocket", "websocket-raw"),
            cookie_needed=cookie,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stock", action="store_true", help="mount the plugin's own endpoint")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    web.run_app(make_app(arguments.stock), host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
