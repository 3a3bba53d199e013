"""The browser client on pages of its own, with a real server behind a wire that a test can cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from browser import Browser, Page, Wire
from fakes import packet
from process import NODE, ROOT, node_modules

import videre

Handler = Callable[[web.Request], Awaitable[web.Response]]

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Client</title>
<link rel="icon" href="data:,">
<script>globalThis.SIGNALLER ??= "http://127.0.0.1:{port}/echo";</script>
{more}
<script type="module" src="/client_page.mjs"></script>
"""


class Site:
    """The pages on their own port, and the server behind a cuttable wire."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.wire = Wire()
        self._runners: list[web.AppRunner] = []
        self.port = 0
        self.rooms: Any = None
        self.http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Start the pages and the server."""
        await self.wire.start()
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_static("/static", ROOT / "videre" / "browser")
        for name in ("client_page.mjs", "old_page.mjs"):
            app.router.add_get(f"/{name}", file_handler(NODE / name))
        sockjs = node_modules() / "sockjs-client" / "dist" / "sockjs.min.js"
        app.router.add_get("/sockjs.min.js", file_handler(sockjs))
        self.port = await self.serve(app)
        await self.signal()

    async def signal(self, config: videre.Config | None = None) -> None:
        """Start the server."""
        app = web.Application()
        self.rooms = videre.setup(app, config=config).rooms
        self.wire.target = await self.serve(app)

    async def restart(self, config: videre.Config) -> None:
        """Restart the server with this configuration."""
        await self.silence()
        await self.signal(config)

    async def eve(self, room: str) -> aiohttp.ClientWebSocketResponse:
        """Join eve to a room, over a connection that is not cut."""
        self.http = self.http or aiohttp.ClientSession()
        socket = await self.http.ws_connect(f"http://127.0.0.1:{self.wire.target}/echo/websocket")
        await socket.send_str(packet("connect", "eve", room))
        await socket.receive()
        return socket

    async def silence(self) -> None:
        """Stop the server."""
        await self._runners.pop().cleanup()

    async def stop(self) -> None:
        """Stop everything."""
        if self.http is not None:
            await self.http.close()
        for runner in self._runners:
            await runner.cleanup()
        await self.wire.stop()

    async def open(
        self, *, devices: bool = True, init: str = "", script: str = "", direct: bool = False
    ) -> Page:
        """Open a page with the client.

        `script` runs before it; a `direct` page connects to the server without the wire.
        """
        if direct:
            init += f"globalThis.SIGNALLER = 'http://127.0.0.1:{self.wire.target}/echo';"
        url = f"http://127.0.0.1:{self.port}/?{script}"
        return await self._browser.open(url, devices=devices, init=init)

    async def client(self, user: str, room: str, **more: Any) -> Page:
        """Open a page with a client in a room."""
        page = await self.open(**more)
        code = "globalThis.v = client({ userId: arg[0] }); await v.connect(arg[1]);"
        await page.run(code, [user, room])
        return page

    async def serve(self, app: web.Application) -> int:
        """Run an application, and return its port."""
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._runners.append(runner)
        return int(runner.addresses[0][1])

    async def _page(self, request: web.Request) -> web.Response:
        more = f'<script src="/{request.query_string}"></script>' if request.query_string else ""
        text = PAGE.format(port=self.wire.port, more=more)
        return web.Response(text=text, content_type="text/html")


def file_handler(body: str | Path, content_type: str = "text/javascript") -> Handler:
    """Return a handler that answers with a text or a file."""
    text = body if isinstance(body, str) else body.read_text(encoding="utf-8")

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type)

    return handler


@pytest_asyncio.fixture(loop_scope="session")
async def site(browser: Browser) -> AsyncIterator[Site]:
    """Serve the pages and a server."""
    site = Site(browser)
    await site.start()
    yield site
    await browser.close()
    await site.stop()


@pytest.fixture
def room() -> str:
    """Return the name of a room."""
    return str(uuid4())


async def every(pages: Iterable[Page], code: str, arg: object = None) -> list[Any]:
    """Run the same code in all pages at once, and return each page's result."""
    return await asyncio.gather(*(page.run(code, arg) for page in pages))


#: The other member is seen.
FLOWS = "return advances(v.remoteVideoElement);"
#: This many others are seen.
ALL_FLOW = """
await until(() => Object.keys(v.remote).length === arg);
return (await Promise.all(Object.values(v.remote).map((video) => advances(video)))).length;
"""
PAYLOADS = """
return v.told.filter(({ type }) => type === "message").map(({ detail }) => detail.payload)
  .filter(({ Type }) => !Type);
"""


async def call(site: Site, room: str) -> list[Page]:
    """Return the pages of two people, ann and bob, who see each other."""
    pages = [await site.client(user, room) for user in ("ann", "bob")]
    assert await every(pages, FLOWS) == [True, True]
    return pages
