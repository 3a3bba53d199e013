"""Growth: a path of many parts costs in proportion to its bytes, on each of the command's ports."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from growth import check_async
from heard_log import HeardLog
from sockjs_client import Wire

from videre import admin
from videre.app import NAMESPACES, create_app
from videre.command.accepting import Site
from videre.command.gate import Gate
from videre.command.http import Runner
from videre.config import Config
from videre.logs import EventLog, Journal

LONGEST = 8000  # bytes: aiohttp accepts lines of 8190

CONFIG = Config(prefixes=("/echo", "/a/b/c", ""), demo=True)


def public() -> web.Application:
    """Return the application for clients: a prefix at the root, and a deep one."""
    return create_app(CONFIG)


def private() -> web.Application:
    """Return the application on the admin port."""
    logger = logging.getLogger("videre.growth")
    return admin.create_app(create_app(CONFIG)[NAMESPACES], drain=lambda: None, loggers=[logger])


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """Serve an application as the command does."""
    gate = Gate(CONFIG, EventLog(Journal(HeardLog().logger), ""), None)
    runner = Runner(app)
    await runner.setup()
    await Site(runner, socket.create_server(("127.0.0.1", 0)), gate, ssl_context=None).start()
    try:
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await Wire.hang_up()
        await runner.cleanup()
        gate.close()


APPS = {"public": public, "private": private}
PATHS: dict[str, Callable[[int], str]] = {
    "slashes": lambda size: "/a" + "/" * size,
    "at-once": lambda size: "/" * size,
    "parts": lambda size: "/a" * (size // 2),
    "below-a-prefix": lambda size: "/echo" + "/a" * (size // 2),
    "below-a-deep-one": lambda size: "/a/b/c" + "/a" * (size // 2),
    "below-a-page": lambda size: "/api/v1/rooms" + "/" * size,
    "dots": lambda size: "/." * (size // 2),
    "up": lambda size: "/.." * (size // 3),
    "escaped": lambda size: "/%2f" * (size // 4),
    "escapes": lambda size: "/" + "%2f" * (size // 3),
    "long-parts": lambda size: f"/{'a' * (size // 4)}" * 4,
    "one-part": lambda size: "/" + "a" * size,
    "absolute": lambda size: "http://a" + "/a" * (size // 2),
    "host": lambda size: f"http://{'a' * size}/nothing",
    "international": lambda size: f"http://xn--{'ab' * (size // 2)}/nothing",
    "international-labels": lambda size: f"http://{'xn--9ca.' * (size // 8)}/nothing",
    "before-a-query": lambda size: "/a" * (size // 4) + "?" + "/a" * (size // 4),
}


@pytest.mark.parametrize("made", APPS.values(), ids=APPS)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_paths(made: Callable[[], web.Application], method: str) -> None:
    """A connection carries twenty requests in a row, none of which finds anything."""
    async with served(made()) as base:
        wire = await Wire.open(base)

        async def work(path: str) -> None:
            for _ in range(20):
                assert (await wire.ask(method, path)).status >= 400

        for make in PATHS.values():
            await check_async(make, work, largest=LONGEST)


@pytest.mark.parametrize("made", APPS.values(), ids=APPS)
def test_no_route_is_deeper_than_its_path(made: Callable[[], web.Application]) -> None:
    """There is no static folder, no nested application, and no parameter that matches a slash."""
    for resource in made().router.resources():
        assert isinstance(resource, web.PlainResource | web.DynamicResource)
        pattern = resource.get_info().get("pattern")
        assert pattern is None or pattern.fullmatch(resource.canonical + "/a") is None


@pytest.mark.parametrize("host", ["xn--a", "xn--", "xn--ab-", "a." * 128])
async def test_urls_with_a_bad_host(host: str) -> None:
    """They are answered. aiohttp fails to decode them, and then left the connection as it was."""
    async with served(public()) as base:
        wire = await Wire.open(base)
        assert (await wire.ask("GET", f"http://{host}/health")).status == 404
        assert (await wire.ask("GET", "http://xn--bcher-kva.example/health")).status == 200


async def test_paths_at_the_bound() -> None:
    """The deepest route is found, even with slashes in its query; a path one part deeper is not."""
    async with served(public()) as base:
        wire = await Wire.open(base)
        deepest = "/a/b/c/000/session/xhr"
        assert (await wire.ask("POST", f"{deepest}?{'/' * 500}", b"")).status == 200
        assert (await wire.ask("POST", f"{deepest}/more", b"")).status == 404
        assert (await wire.ask("GET", "/a/b/c/")).status == 200
