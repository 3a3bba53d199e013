"""The fixtures of the transport tests, which name this module in `pytest_plugins`.

`SOCKJS_URL` makes the conformance tests, those that use `base`, talk to a server of yours;
`VIDERE_SEAM=stock` makes all of them run on the stock plugin.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from seam import STOCK, Script, Seam, Seams
from sockjs_client import Wire
from sockjs_server import make_app


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the stock plugin warn at every request, as it does (fault 20)."""
    for item in items if STOCK else ():
        item.add_marker(pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning"))


@pytest.fixture
async def base() -> AsyncIterator[str]:
    """Give the URL of a running echo server."""
    if url := os.environ.get("SOCKJS_URL"):
        yield url
        await Wire.hang_up()
        return
    runner = web.AppRunner(make_app(STOCK), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield "http://{}:{}".format(*runner.addresses[0][:2])
    await Wire.hang_up()
    await runner.cleanup()


@pytest.fixture
async def seam() -> AsyncIterator[Seams]:
    """Give a function that starts a recording server with these options."""
    async with AsyncExitStack() as stack:

        async def start(
            script: Script | None = None, *, stop_within: float = 1.0, **options: Any
        ) -> Seam:
            server = Seam(script or Script(), stop_within, options)
            stack.push_async_callback(server.stop)
            return await server.start()

        yield start
        await Wire.hang_up()
