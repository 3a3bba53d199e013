"""The browser client in real Chromium, in calls between pages through a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from aiohttp import web
from browser import Browser, Page, Wire, chromium
from process import NODE, ROOT, node_modules

import videre

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Client</title>
<script>globalThis.SIGNALLER = "http://127.0.0.1:{port}/echo";</script>
{more}
<script type="module" src="/client_page.mjs"></script>
"""


class Site:
    """The pages, on a port of their own, and the signaller at the end of a wire."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.wire = Wire()
        self._runners: list[web.AppRunner] = []
        self.port = 0

    async def start(self) -> None:
        """Serve the pages and the signaller."""
        await self.wire.start()
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_static("/static", ROOT / "videre" / "static")
        app.router.add_get("/client_page.mjs", _file(NODE / "client_page.mjs"))
        sockjs = node_modules() / "sockjs-client" / "dist" / "sockjs.min.js"
        app.router.add_get("/sockjs.min.js", _file(sockjs))
        self.port = await self._serve(app)
        await self.signal()

    async def signal(self, config: videre.Config | None = None) -> None:
        """Start the signaller."""
        app = web.Application()
        videre.setup(app, config=config)
        self.wire.target = await self._serve(app)

    async def silence(self) -> None:
        """Stop the signaller."""
        await self._runners.pop().cleanup()

    async def stop(self) -> None:
        """Stop everything."""
        for runner in self._runners:
            await runner.cleanup()
        await self.wire.stop()

    async def open(self, *, devices: bool = True, init: str = "", script: str = "") -> Page:
        """Open a page that has the client; `script` is one that it loads before."""
        url = f"http://127.0.0.1:{self.port}/?{script}"
        return await self._browser.open(url, devices=devices, init=init)

    async def client(self, user: str, room: str, options: str = "{}", **more: object) -> Page:
        """Open a page with a client in a room."""
        page = await self.open(**more)  # type: ignore[arg-type]
        code = f"""
        globalThis.v = client({{ userId: arg[0], ...{options} }});
        await v.connect(arg[1]);
        """
        await page.run(code, [user, room])
        return page

    async def _serve(self, app: web.Application) -> int:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._runners.append(runner)
        return int(runner.addresses[0][1])

    async def _page(self, request: web.Request) -> web.Response:
        more = f'<script src="/{request.query_string}"></script>' if request.query_string else ""
        text = PAGE.format(port=self.wire.port, more=more)
        return web.Response(text=text, content_type="text/html")


def _file(path: Path) -> Callable[[web.Request], Awaitable[web.Response]]:
    text = path.read_text(encoding="utf-8")

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/javascript")

    return handler


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Run one Chromium for all."""
    async with chromium() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def site(browser: Browser) -> AsyncIterator[Site]:
    """Serve the pages and a signaller."""
    site = Site(browser)
    browser.faults.clear()
    await site.start()
    yield site
    await site.stop()
    assert browser.faults == []


@pytest.fixture
def room() -> str:
    """Name a room."""
    return str(uuid4())


FLOWS = "return advances(v.remoteVideoElement);"


async def test_two_people_see_each_other(site: Site, room: str) -> None:
    """Frames advance on both sides, and who is left sees that the other has gone."""
    ann = await site.client("ann", room)
    bob = await site.client("bob", room)
    assert await asyncio.gather(ann.run(FLOWS), bob.run(FLOWS)) == [True, True]
    assert await ann.run("return [v.isInitiator, v.signaller.users];") == [True, ["ann", "bob"]]
    assert await bob.run("return [v.isInitiator, v.signaller.users];") == [False, ["ann", "bob"]]
    await ann.run("v.disconnect();")
    assert await bob.run("await until(() => !v.peers.size); return v.isInitiator;") is True
    assert await bob.run("return v.remoteVideoElement.srcObject;") is None
    assert await ann.run("return [v.localStream, v.localVideoElement.srcObject];") == [None, None]
