"""The demo's pages as they are served: to whom, and with which headers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from inprocess import serving
from process import ROOT, signaller
from tokens import SECRET

import videre
from videre import demo
from videre.auth import TokenAuth, secret_key
from videre.config import Config, load
from videre.errors import ConfigError
from videre.transport import Options

FOLDER = ROOT / "videre" / "demo"
FILES = {
    "/demo": ("text/html", "demo.html"),
    "/demo/demo.css": ("text/css", "demo.css"),
    "/demo/demo_tokens.css": ("text/css", "demo_tokens.css"),
    "/demo/demo.svg": ("image/svg+xml", "demo.svg"),
    "/demo/demo.js": ("text/javascript", "demo.js"),
    "/demo/demo_call.js": ("text/javascript", "demo_call.js"),
    "/demo/demo_details.js": ("text/javascript", "demo_details.js"),
    "/demo/demo_devices.js": ("text/javascript", "demo_devices.js"),
    "/demo/demo_elements.js": ("text/javascript", "demo_elements.js"),
    "/demo/demo_lobby.js": ("text/javascript", "demo_lobby.js"),
    "/demo/demo_meter.js": ("text/javascript", "demo_meter.js"),
    "/demo/demo_own.js": ("text/javascript", "demo_own.js"),
    "/demo/demo_page.js": ("text/javascript", "demo_page.js"),
    "/demo/demo_panels.js": ("text/javascript", "demo_panels.js"),
    "/demo/demo_people.js": ("text/javascript", "demo_people.js"),
    "/demo/demo_tile.js": ("text/javascript", "demo_tile.js"),
    "/demo/videre.js": ("text/javascript", "videre.js"),
    "/demo/videre/call.js": ("text/javascript", "videre/call.js"),
}
CLIENT = ROOT / "videre" / "browser"


def source(name: str) -> Path:
    """Return the path of a file of the demo: its own, or the browser client's."""
    return (FOLDER if name.startswith("demo") else CLIENT) / name


def test_all_files_of_the_demo_are_served() -> None:
    """Each file in the folder is served, and nothing else."""
    own = {name for _, name in FILES.values() if source(name).parent == FOLDER}
    assert own == {
        file.name for file in FOLDER.iterdir() if file.suffix != ".py" and file.is_file()
    }


def test_the_page_loads_nothing_else() -> None:
    """The page has no inline script or style, and no file has an address of another site."""
    page = (FOLDER / "demo.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page, re.S) == [""]
    for _, name in FILES.values():
        text = source(name).read_text(encoding="utf-8")
        links = set(re.findall(r"\w+://[\w.]+", text)) - {"http://www.w3.org"}
        assert not links, name  # w3.org: the name of SVG's namespace


@pytest.mark.parametrize("path", FILES)
async def test_strict_pages(path: str) -> None:
    """Each has its type, no cookie, and headers that let it connect to this server only."""
    content_type, name = FILES[path]
    async with serving(videre.create_app(Config(demo=True))) as server:
        async with server.http.get(server.url + path) as answer:
            assert (answer.status, answer.content_type) == (200, content_type)
            assert answer.charset == "utf-8"
            headers = answer.headers
            if path != "/demo":
                assert await answer.read() == source(name).read_bytes()
        assert "Set-Cookie" not in headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        policy = {
            words.split()[0]: words.split()[1:]
            for words in headers["Content-Security-Policy"].split(";")
        }
        assert policy["default-src"] == ["'none'"]
        own = ("script-src", "style-src", "img-src", "connect-src")
        assert all(policy[kind] == ["'self'"] for kind in own)
        assert {policy[kind][0] for kind in ("base-uri", "form-action", "frame-ancestors")} == {
            "'none'"
        }
        assert "unsafe" not in headers["Content-Security-Policy"]

        # Browsers revalidate it, and download it once.
        assert headers["Cache-Control"] == "no-cache"
        known = {"If-None-Match": headers["ETag"]}
        async with server.http.get(server.url + path, headers=known) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
            assert answer.headers["ETag"] == headers["ETag"]
            assert answer.headers["Content-Security-Policy"] == headers["Content-Security-Policy"]
        stale = {"If-None-Match": '"another"'}
        async with server.http.get(server.url + path, headers=stale) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(("config", "status"), [(Config(), 404), (Config(demo=False), 404)])
async def test_an_application_serves_it_on_request(config: Config, status: int) -> None:
    """create_app serves no page by default."""
    async with (
        serving(videre.create_app(config)) as server,
        server.http.get(f"{server.url}/demo") as answer,
    ):
        assert answer.status == status


@pytest.mark.process
@pytest.mark.parametrize(
    ("prefixes", "signaller"), [(("/echo",), "echo"), (("",), "."), (("/a/b", "/c"), "a/b")]
)
async def test_the_page_knows_the_signalling_path(
    prefixes: tuple[str, ...], signaller: str
) -> None:
    """It uses the first prefix relative to itself, so that it works below a site's path, too."""
    site = web.Application()
    site.add_subapp("/rtc", videre.create_app(Config(demo=True, prefixes=prefixes)))
    async with serving(site) as server:
        async with server.http.get(f"{server.url}/rtc/demo") as answer:
            assert f'<meta name="signaller" content="{signaller}">' in await answer.text()
        info = f"{server.url}/rtc/{signaller}/info".replace("/./", "/")
        async with server.http.get(info) as answer:
            assert (await answer.json())["websocket"] is True


def printed_link(output: list[str]) -> str | None:
    """Return the link that a server has printed."""
    links = [line.removeprefix("Try a call: ") for line in output if line.startswith("Try")]
    return links[0] if links else None


@pytest.mark.process
async def test_the_command_prints_a_link_for_this_machine(tmp_path: Path) -> None:
    """By default it listens on all addresses, and shows the demo to its own machine only."""
    async with (
        signaller("--host", "0.0.0.0", tmp=tmp_path) as server,
        aiohttp.ClientSession() as http,
    ):
        async with http.get(f"http://localhost:{server.port}/echo") as answer:
            assert answer.status == 200  # by now everything is printed
        link = printed_link(server.output)
        assert link is not None
        assert re.fullmatch(rf"http://localhost:{server.port}/demo#[\w-]{{22}}", link)

        async def get(host: str | None = None, **headers: str) -> int:
            if host is not None:
                headers["Host"] = host
            async with http.get(link.partition("#")[0], headers=headers) as answer:
                return answer.status

        for host in (None, "127.0.0.1:1111", "127.1.2.3", "[::1]:80", "a.localhost"):
            assert await get(host) == 200, host
        for host in ("example.com", "127.0.0.1.example.com", "10.0.0.1", "localhost.example.com"):
            assert await get(host) == 404, host
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
            assert await get(None, **{header: "127.0.0.1"}) == 404, header


async def test_other_machines_get_no_demo() -> None:
    """The connection's address decides."""
    app = web.Application()
    demo.mount(app, Config(), demo.is_here)
    for address, status in (
        ("127.0.0.1", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        ("10.0.0.1", 404),
        ("::ffff:10.0.0.1", 404),
        ("2001:db8::1", 404),
        (None, 404),  # a Unix socket, which only a proxy connects to
    ):
        assert await status_for(app, address) == status, address


async def status_for(app: web.Application, address: str | None) -> int:
    """Return the status of the page, requested from an address."""
    request = make_mocked_request("GET", "/demo", headers={"Host": "localhost"}, app=app)
    match = await app.router.resolve(request)
    try:
        answer: Any = await match.handler(request.clone(remote=cast(str, address)))
    except web.HTTPException as error:
        return error.status
    return int(answer.status)


@pytest.mark.parametrize(
    ("config", "address", "expected"),
    [
        (Config(), "0.0.0.0", "http://localhost:1111/demo#"),
        (Config(host="::"), "::", "http://localhost:1111/demo#"),
        (Config(host="localhost"), "127.0.0.1", "http://127.0.0.1:1111/demo#"),
        (Config(host="::1", tls=True), "::1", "https://[::1]:1111/demo#"),
        (Config(host="192.0.2.1"), "192.0.2.1", None),
        (Config(host=("192.0.2.1", "127.0.0.1")), "192.0.2.1", None),
        (Config(host="192.0.2.1", demo=True), "192.0.2.1", "http://192.0.2.1:1111/demo#"),
        (Config(demo=True), "0.0.0.0", "http://localhost:1111/demo#"),
        (Config(demo=False), "0.0.0.0", None),
        (Config(prefixes=("/echo", "/demo")), "0.0.0.0", None),
        (Config(transport=Options(origins=("https://example.com",))), "0.0.0.0", None),
        (Config(auth=TokenAuth([secret_key(SECRET)])), "0.0.0.0", None),
        (Config(auth=TokenAuth([secret_key(SECRET)], required=False)), "0.0.0.0", "http://"),
    ],
)
def test_when_a_link_is_printed(config: Config, address: str, expected: str | None) -> None:
    """If the demo can be reached and used; each link has its own room."""
    links = {demo.link(config, address, 1111) for _ in range(2)}
    if expected is None:
        assert links == {None}
    else:
        assert len(links) == 2 and all(str(link).startswith(expected) for link in links)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"Prefix": ["/echo", "/demo/"]}, "Demo: true: /demo is also a Prefix"),
        (
            {"Auth": {"Secrets": [SECRET]}},
            "Demo: true: the demo has no token, and Auth requires one",
        ),
    ],
)
def test_an_impossible_demo(values: dict[str, Any], fault: str, tmp_path: Path) -> None:
    """Asking for one is reported as a fault."""
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps({"Demo": True, **values}))
    with pytest.raises(ConfigError) as caught:
        load(conf)
    assert list(caught.value.faults) == [f"{conf}: {fault}"]
    conf.write_text(json.dumps(values))
    assert load(conf).demo is None
