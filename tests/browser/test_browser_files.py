"""The browser client as a server serves it: to which pages, and with which headers."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from inprocess import serving
from process import ROOT, signaller

import videre
from videre.browser_files import PATHS
from videre.config import Config
from videre.transport import Options

CLIENT = ROOT / "videre" / "browser"
HERE = "https://app.example.com"


def set_up(config: Config) -> web.Application:
    """Return a site with the server in it."""
    site = web.Application()
    videre.setup(site, config=config)
    return site


MADE = {"setup": set_up, "create_app": videre.create_app}


def config(*origins: str, **more: Any) -> Config:
    """Return a configuration that allows pages of these origins."""
    return Config(transport=Options(origins=origins or ("*",)), **more)


def test_all_modules_are_served() -> None:
    """All modules that the first one imports, directly or not, and its types."""
    modules = {f"videre/{path.name}" for path in (CLIENT / "videre").iterdir()}
    assert set(PATHS) == {"videre.js", "videre.d.ts"} | modules


@pytest.mark.parametrize("path", PATHS)
async def test_it_is_served_below_the_prefix(path: str) -> None:
    """Every page gets the unchanged file; browsers revalidate it, and download it once."""
    async with serving(set_up(config())) as server:
        url = f"{server.url}/echo/{path}"
        async with server.http.get(url, headers={"Origin": HERE}) as answer:
            assert answer.status == 200
            assert await answer.read() == (CLIENT / path).read_bytes()
            headers = answer.headers
            kind = "application/typescript" if path.endswith(".ts") else "text/javascript"
            assert (answer.content_type, answer.charset) == (kind, "utf-8")
        assert headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert headers["Cache-Control"] == "no-cache"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in headers
        for known, status in ((headers["ETag"], 304), ('"another"', 200)):
            asked = {"Origin": HERE, "If-None-Match": known}
            async with server.http.get(url, headers=asked) as answer:
                assert answer.status == status
                assert answer.headers["ETag"] == headers["ETag"]
                assert answer.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
async def test_every_way_of_hosting(made: Callable[[Config], web.Application]) -> None:
    """`setup` and `create_app` serve it, unless a key switches it off."""
    for wanted, status in ((True, 200), (False, 404)):
        async with serving(made(config(client_module=wanted))) as server:
            async with server.http.get(f"{server.url}/echo/videre.js") as answer:
                assert answer.status == status
            async with server.http.get(f"{server.url}/echo/info") as answer:
                assert answer.status == 200


@pytest.mark.process
@pytest.mark.parametrize("wanted", [True, False])
async def test_the_command_serves_it(tmp_path: Path, wanted: bool) -> None:
    """It is below each prefix; `ClientModule` switches it off."""
    document = {"Prefix": ["/echo", "/a/b"], "ClientModule": wanted}
    async with signaller(tmp=tmp_path, config=document) as server, ClientSession() as http:
        for prefix in ("/echo", "/a/b"):
            url = f"http://127.0.0.1:{server.port}{prefix}/videre.js"
            async with http.get(url) as answer:
                assert answer.status == (200 if wanted else 404)


@pytest.mark.parametrize("prefix", ["", "/echo", "/a/b"])
async def test_any_prefix(prefix: str) -> None:
    """Its URL does not collide with those of sessions, below any prefix."""
    async with serving(videre.create_app(config(prefixes=(prefix,)))) as server:
        for path, status in {
            "/videre.js": 200,
            "/videre/call.js": 200,
            "/videre.mjs": 404,
            "/videre/none.js": 404,
            "/videre/..%2f..%2f__init__.py": 404,
        }.items():
            async with server.http.get(f"{server.url}{prefix}/{path[1:]}") as answer:
                assert answer.status == status, path
        # A server and a session named like a module's folder.
        async with server.http.post(f"{server.url}{prefix}/videre/call.js/xhr") as answer:
            assert answer.status == 404  # with a dot in the name
        async with server.http.post(f"{server.url}{prefix}/videre/call/xhr") as answer:
            assert (answer.status, await answer.text()) == (200, "o\n")


async def test_pages_that_may_not_connect_may_not_import() -> None:
    """`Origins` decides, caches keep requesters apart, and pages of the own host may import."""
    async with serving(set_up(config(HERE))) as server:
        url = f"{server.url}/echo/videre.js"
        async with server.http.get(url, headers={"Origin": HERE}) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == HERE
            assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
            assert "Origin" in ",".join(answer.headers.getall("Vary"))
        async with server.http.get(url, headers={"Origin": "https://evil.example"}) as answer:
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
        async with server.http.get(url) as answer:  # not from another site, or without CORS
            assert answer.status == 200
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert "Origin" in ",".join(answer.headers.getall("Vary"))


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br", "gzip"),
        ("br;q=1.0, GZIP;q=0.5", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.0", None),
        ("br", None),
        ("", None),
    ],
)
async def test_compression(accepted: str, coding: str | None) -> None:
    """The compressed file has its own ETag; caches hear what the answer depends on."""
    async with serving(set_up(config())) as server:
        headers = {"Accept-Encoding": accepted}
        url = f"{server.url}/echo/videre/call.js"
        async with server.http.get(url, headers=headers, auto_decompress=False) as answer:
            body = await answer.read()
            assert answer.headers.get("Content-Encoding") == coding
            assert answer.headers["ETag"].endswith('-gzip"') is (coding is not None)
            assert "Accept-Encoding" in ",".join(answer.headers.getall("Vary"))
        plain = gzip.decompress(body) if coding else body
        assert plain == (CLIENT / "videre/call.js").read_bytes()
