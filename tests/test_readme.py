"""The README's Python runs as it stands."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fakes import packet
from process import ROOT

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)


def block(words: str) -> str:
    """Return the one block in which these words stand."""
    (found,) = [each for each in BLOCKS if words in each]
    return found


@pytest.fixture
def site(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> web.Application:
    """Give the application that a block runs."""
    apps: list[web.Application] = []
    monkeypatch.setattr(web, "run_app", lambda app, port: apps.append(app))
    exec(compile(block(request.param), "README.md", "exec"), {})
    (app,) = apps
    return app


async def url_of(app: web.Application) -> tuple[web.AppRunner, str]:
    """Run an application on a free port."""
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, "http://{}:{}".format(*runner.addresses[0])


@pytest.mark.parametrize(
    ("site", "path"),
    [('videre.setup(app, prefix="/echo")\nweb', "/echo"), ("add_subapp", "/rtc/echo")],
    indirect=["site"],
)
async def test_a_site_serves_signalling(site: web.Application, path: str) -> None:
    """Below the path that it says."""
    runner, url = await url_of(site)
    try:
        async with aiohttp.ClientSession() as http, http.ws_connect(f"{url}{path}/websocket") as ws:
            await ws.send_str(packet("connect", "a", "room"))
            assert (await ws.receive_json())["Payload"] == "true"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("site", ["rooms.on_join"], indirect=True)
async def test_a_site_that_shows_who_is_where(
    site: web.Application, capsys: pytest.CaptureFixture[str]
) -> None:
    """Members are greeted and listed; one is kicked, and told why."""
    runner, url = await url_of(site)
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{url}/echo/websocket") as ws,
        ):
            await ws.send_str(packet("connect", "a", "room"))
            heard: list[dict[str, Any]] = [await ws.receive_json() for _ in range(2)]
            assert [each["Header"]["Event"] for each in heard] == ["connect", "broadcast"]
            assert heard[1]["Payload"] == {"Type": "Notice", "Text": "a is here"}
            async with http.get(f"{url}/who") as answer:
                assert await answer.json() == {"room": ["a"]}
            for status in (204, 404):
                async with http.delete(f"{url}/who/room/a") as answer:
                    assert answer.status == status
            end = await ws.receive()
            assert (end.data, end.extra) == (4504, "Be nice")
            assert capsys.readouterr().out == "a left: Be nice\n"
    finally:
        await runner.cleanup()
