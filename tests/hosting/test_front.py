"""The front page at `/`: its content, for whom, and when there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from inprocess import serving

import videre
from videre.config import Config
from videre.settings import Limits
from videre.version import __version__

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def get(
    app: web.Application, path: str = "/", **headers: str
) -> tuple[int, dict[str, str], str]:
    """Return the status, the headers and the body of an answer."""
    async with serving(app) as server, server.http.get(server.url + path, headers=headers) as found:
        return found.status, dict(found.headers), await found.text()


async def described(config: Config, path: str = "/") -> Any:
    """Return the page as JSON."""
    status, headers, body = await get(videre.create_app(config), path)
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    return json.loads(body)


async def test_the_page_for_programs() -> None:
    """It has the version, each prefix with its links, and whether there is a demo."""
    assert await described(Config(prefixes=("/echo", "/a/b"), demo=True)) == {
        "Server": "videre-server",
        "Version": __version__,
        "Namespaces": [
            {
                "Prefix": "/echo",
                "SockJS": "echo",
                "WebSocket": "echo/websocket",
                "Client": "echo/videre.js",
            },
            {
                "Prefix": "/a/b",
                "SockJS": "a/b",
                "WebSocket": "a/b/websocket",
                "Client": "a/b/videre.js",
            },
        ],
        "Demo": "demo",
        "Documentation": None,
    }


async def test_what_is_off_is_not_named() -> None:
    """Neither the demo nor the client module appears."""
    found = await described(Config(client_module=False))
    assert found["Demo"] is None
    assert found["Namespaces"][0]["Client"] is None
    _, _, page = await get(videre.create_app(Config(client_module=False)), **BROWSER)
    assert "videre.js" not in page
    assert 'href="demo"' not in page


async def test_browsers_get_a_page_whose_links_work() -> None:
    """The page is HTML, and each link leads somewhere."""
    app = videre.create_app(Config(demo=True))
    async with serving(app) as server:
        async with server.http.get(server.url + "/", headers=BROWSER) as answer:
            assert answer.content_type == "text/html"
            assert answer.headers["Vary"] == "Accept"
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'")
            assert "unsafe" not in policy
            page = await answer.text()
        links = [part.split('"')[0] for part in page.split('href="')[1:]]
        assert links == ["demo", "echo/videre.js"]
        for link in links:
            async with server.http.get(f"{server.url}/{link}") as answer:
                assert answer.status == 200


async def test_links_lead_below_the_path_of_a_site() -> None:
    """Links are relative, so that a site may mount the application anywhere."""
    site = web.Application()
    site.add_subapp("/rtc", videre.create_app(Config()))
    status, _, body = await get(site, "/rtc/")
    assert (status, json.loads(body)["Namespaces"][0]["SockJS"]) == (200, "echo")


@pytest.mark.parametrize("mount", ["", "/rtc", "/a/b"])
async def test_the_page_shows_whole_paths(mount: str) -> None:
    """The texts have the path below which a site mounts the application."""
    site = web.Application()
    app = videre.create_app(Config(prefixes=("/echo", "/x")))
    if mount:
        site.add_subapp(mount, app)
    _, _, page = await get(site if mount else app, f"{mount}/", **BROWSER)
    shown = [part.partition("</code>")[0] for part in page.split("<dd>") if "<code>" in part]
    names = ("/echo", "/echo/websocket", "/echo/videre.js", "/x", "/x/websocket", "/x/videre.js")
    assert [each.rpartition("<code>")[2] for each in shown] == [mount + name for name in names]


async def test_a_prefix_is_escaped() -> None:
    """A prefix is text, not HTML."""
    _, _, page = await get(videre.create_app(Config(prefixes=("/<b>&",))), **BROWSER)
    assert "<b>" not in page
    assert "/&lt;b&gt;&amp;" in page


async def test_nothing_secret_is_shown() -> None:
    """Limits, rooms, the store and the log do not appear."""
    config = Config(limits=Limits(room_capacity=4711), engine="memory://", log_file=None)
    text = json.dumps(await described(config))
    assert "4711" not in text
    assert "memory" not in text


@pytest.mark.parametrize(
    ("config", "status"), [(Config(front_page=False), 404), (Config(prefixes=("",)), 200)]
)
async def test_when_there_is_none(config: Config, status: int) -> None:
    """A key switches it off; a prefix at the root has SockJS's greeting there."""
    found, _, body = await get(videre.create_app(config))
    assert found == status
    assert "Namespaces" not in body


@pytest.mark.parametrize("front_page", [True, False])
async def test_health_checks_by_options_go_on(front_page: bool) -> None:
    """HAProxy requests `OPTIONS /`; no method writes to the page."""
    app = videre.create_app(Config(front_page=front_page))
    async with serving(app) as server:
        async with server.http.options(server.url + "/") as answer:
            assert answer.status == 200
        async with server.http.post(server.url + "/") as answer:
            assert answer.status == (405 if front_page else 404)
        async with server.http.head(server.url + "/") as answer:
            assert answer.status == (200 if front_page else 404)
