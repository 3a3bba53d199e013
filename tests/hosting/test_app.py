"""Hosting: signalling in another site, which must not be affected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from patience import WAIT_SECONDS
from signalling import Signalling, connect
from sockjs_client import Wire, fresh, poll

import videre
from videre import Config
from videre.transport import manager

URL = "/rtc/echo"  # the same URL for every way of hosting


def by_setup(site: web.Application) -> None:
    """Mount into the site itself."""
    videre.setup(site, prefix=URL)


def by_subapp(site: web.Application) -> None:
    """Mount as a subapp."""
    site.add_subapp("/rtc", videre.create_app())


def by_rootless_subapp(site: web.Application) -> None:
    """Mount as a subapp without a further prefix."""
    site.add_subapp(URL, videre.create_app(Config(prefixes=("",))))


def by_setup_in_subapp(site: web.Application) -> None:
    """Mount into a subapp of the site."""
    part = web.Application()
    videre.setup(part, prefix="/echo/")
    site.add_subapp("/rtc", part)


WAYS = [by_setup, by_subapp, by_rootless_subapp, by_setup_in_subapp]
Mount = Callable[[web.Application], None]


async def page(request: web.Request) -> web.Response:
    """Answer like the site does; with an error, if requested."""
    if "fail" in request.query:
        raise web.HTTPGone
    return web.Response(text="the site's own", headers={"Vary": "Accept-Language"})


def make_site(mount: Mount | None = None, **more: Any) -> web.Application:
    """Return a site with its own page, and signalling."""
    site = web.Application(**more)
    site.router.add_get("/", page)
    if mount is not None:
        mount(site)
    site.router.add_get("/after", page)
    return site


@asynccontextmanager
async def serving(site: web.Application) -> AsyncIterator[str]:
    """Run a site and give its URL."""
    runner = web.AppRunner(site, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}".format(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()
        await Wire.hang_up()


async def role(peer: Signalling) -> Any:
    """Join, and return whether the peer is its room's initiator."""
    async with asyncio.timeout(WAIT_SECONDS):
        return (await peer.ask("connect"))["Payload"]


@pytest.mark.parametrize("mount", WAYS)
async def test_a_call_in_a_site(mount: Mount) -> None:
    """Both framings and polling work below the prefix, in every way of hosting."""
    async with (
        serving(make_site(mount)) as base,
        connect(base + URL, "raw", user="a", room="r") as raw,
        connect(base + URL, "sockjs", user="b", room="r") as framed,
    ):
        assert await role(raw) == "true"
        assert await role(framed) == "false"
        assert await poll(base, fresh(URL)) == "o\n"
        async with ClientSession() as client, client.get(f"{base}{URL}/info") as answer:
            assert (await answer.json())["websocket"] is True


@pytest.mark.parametrize("query", ["/", "/after", "/?fail", "/nowhere"])
@pytest.mark.parametrize("mount", WAYS)
async def test_the_sites_own_responses_stay_as_they_were(mount: Mount, query: str) -> None:
    """Pages and errors of the site get no header or cookie of ours."""
    answers = []
    for site in (make_site(), make_site(mount)):
        async with serving(site) as base, ClientSession() as client:
            headers = {"Origin": "https://elsewhere.example"}
            async with client.get(base + query, headers=headers) as answer:
                found = {key: value for key, value in answer.headers.items() if key != "Date"}
                answers.append((answer.status, found, await answer.text()))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("mount", WAYS)
async def test_the_sites_middlewares_come_first(mount: Mount) -> None:
    """A middleware of the site sees every request, and can keep strangers out."""
    seen = []

    @web.middleware
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        seen.append(request.path)
        if "Authorization" not in request.headers:
            raise web.HTTPUnauthorized
        response: web.StreamResponse = await handler(request)
        return response

    async with serving(make_site(mount, middlewares=[guard])) as base, ClientSession() as client:
        async with client.get(f"{base}{URL}/websocket") as answer:
            assert answer.status == 401
        headers = {"Authorization": "me"}
        async with client.ws_connect(f"{base}{URL}/websocket", headers=headers) as socket:
            await socket.send_str("nonsense")
            assert "malformed-packet" in await socket.receive_str(timeout=WAIT_SECONDS)
        assert seen == [f"{URL}/websocket"] * 2


@pytest.mark.parametrize("mount", WAYS)
async def test_the_sites_end_closes_sessions(mount: Mount) -> None:
    """When the site shuts down, every session is closed with 1001."""
    async with AsyncExitStack() as stack:
        async with serving(make_site(mount)) as base:
            peers = [
                await stack.enter_async_context(connect(base + URL, "raw", user=name, room="r"))
                for name in ("one", "two")
            ]
            assert [await role(peer) for peer in peers] == ["true", "false"]
            assert (await peers[0].receive())["Header"]["UserId"] == "two"
            hearing = asyncio.gather(*(peer.receive() for peer in peers), return_exceptions=True)
        assert [getattr(error, "code", error) for error in await hearing] == [1001, 1001]


async def test_a_broken_stream_does_not_delay_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shutdown does not wait for a client that is gone."""
    monkeypatch.setattr(manager, "GOODBYE", 60.0)
    async with serving(make_site(by_setup)) as base:
        wire = await Wire.open(base)
        wire.say("POST", f"{fresh(URL)}/xhr_streaming", b"")
        await wire.head()
        wire.reset()
        await poll(base, fresh(URL))  # by then the server has noticed
        before = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - before < 30  # of GOODBYE


async def alone(*urls: str) -> None:
    """Join a room of the same name at each URL; everyone must be alone there."""
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(connect(url, "raw", user=url, room="room"))
            for url in urls
        ]
        assert [await role(peer) for peer in peers] == ["true"] * len(urls)
        for peer in peers:
            assert (await peer.ask("ping"))["Payload"] == f'["{peer.user}"]'


async def test_two_prefixes_of_one_app_share_no_room() -> None:
    """Prefixes are namespaces, even if one is below the other."""
    site = web.Application()
    for prefix in ("/a", "/b", "/a/b/c"):
        videre.setup(site, prefix=prefix)
    site.add_subapp("/sub", videre.create_app(Config(prefixes=("/a", "/b"))))
    async with serving(site) as base:
        await alone(*(base + prefix for prefix in ("/a", "/b", "/a/b/c", "/sub/a", "/sub/b")))


async def test_two_apps_of_one_process_share_nothing() -> None:
    """Applications are separate, and end separately, even with one configuration."""
    config = Config()
    async with serving(videre.create_app(config)) as one:
        async with serving(videre.create_app(config)) as two:
            await alone(f"{one}/echo", f"{two}/echo")
        await alone(f"{one}/echo")


async def test_the_configuration_and_the_logger_are_the_namespaces_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They apply to one namespace only."""
    lines: list[str] = []
    logger = logging.Logger("mine")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    site = web.Application()
    strict = videre.setup(site, prefix="/a", config=Config(duplicate="reject"), logger=logger)
    videre.setup(site, prefix="/b")
    async with (
        serving(site) as base,
        connect(f"{base}/a", "raw", user="a", room="r") as one,
        connect(f"{base}/a", "raw", user="a", room="r") as two,
    ):
        assert await role(one) == "true"
        assert (await two.ask("connect"))["Header"]["Event"] == "error"
        assert (strict.prefix, len(strict.rooms)) == ("/a", 1)
    assert any(line.startswith("join ") for line in lines) and "join" not in caplog.text


async def test_with_aiohttps_test_utilities() -> None:
    """TestServer and TestClient work as with any application."""
    async with TestClient(TestServer(make_site(by_setup))) as client:
        assert await (await client.get(f"{URL}/")).text() == "Welcome to SockJS!\n"
        async with client.ws_connect(f"{URL}/000/session/websocket") as socket:
            assert await socket.receive_str(timeout=WAIT_SECONDS) == "o"


@pytest.mark.parametrize("mount", [by_setup, by_subapp])
def test_one_loop_after_the_other(mount: Mount) -> None:
    """An application is created without a loop, and each runs in its own."""

    async def run(site: web.Application) -> None:
        async with serving(site) as base:
            await alone(base + URL)

    for site in (make_site(mount), make_site(mount)):
        with asyncio.Runner() as runner:
            runner.run(run(site))
