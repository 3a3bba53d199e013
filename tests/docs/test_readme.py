"""The README's Python runs as written."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web
from documents import Block, claim, run_python
from fakes import packet
from inprocess import serving

SITES = [
    (claim("README.md", "videre.setup(app"), "/echo"),
    (claim("README.md", "add_subapp"), "/rtc/echo"),
]


@pytest.mark.parametrize(("block", "path"), SITES, ids=str)
async def test_a_site_serves_signalling(
    block: Block, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does so at the path that the README says."""
    apps: list[web.Application] = []
    monkeypatch.setattr(web, "run_app", lambda app, port: apps.append(app))
    run_python(block)
    async with (
        serving(*apps) as server,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{server.url}{path}/websocket") as socket,
    ):
        await socket.send_str(packet("connect", "a", "room"))
        assert (await socket.receive_json())["Payload"] == "true"
