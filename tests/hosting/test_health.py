"""What load balancers ask of a server."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from fakes import World
from inprocess import serving
from later_engine import LaterEngine
from yarl import URL

import videre
from videre.config import Config
from videre.rooms import Rooms


@pytest.mark.parametrize("prefixes", [("/echo",), ("",), ("/a", "/b")])
@pytest.mark.parametrize(("path", "status"), [("health", "healthy"), ("ready", "ready")])
async def test_a_signaller_is_well(prefixes: tuple[str, ...], path: str, status: str) -> None:
    """The answer does not depend on prefixes, and is not cached."""
    async with (
        serving(videre.create_app(Config(prefixes=prefixes))) as server,
        aiohttp.ClientSession() as http,
        http.get(f"{server.url}/{path}") as answer,
    ):
        assert (answer.status, await answer.json()) == (200, {"Status": status})
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("prefixes", [("/echo",), ("",)])
@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_haproxys_default_check(
    prefixes: tuple[str, ...], ready: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`OPTIONS / HTTP/1.0` without a Host; a prefix at the root still has its greeting."""
    monkeypatch.setattr(Rooms, "ready", property(lambda _: ready))
    config = Config(prefixes=prefixes, front_page=False)
    async with serving(videre.create_app(config)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(server.url).port)
        writer.write(b"OPTIONS / HTTP/1.0\r\n\r\n")
        line = await reader.readline()
        assert line.split()[1] == str(status).encode()
        writer.close()
        async with server.http.get(f"{server.url}/") as answer:
            assert answer.status == (404 if prefixes == ("/echo",) else 200)


async def test_a_signaller_without_its_engine_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives, but clients should go elsewhere."""
    monkeypatch.setattr(Rooms, "ready", property(lambda _: False))
    async with serving(videre.create_app()) as server, aiohttp.ClientSession() as http:
        async with http.get(f"{server.url}/ready") as answer:
            assert (answer.status, await answer.json()) == (503, {"Status": "unavailable"})
        async with http.get(f"{server.url}/health") as answer:
            assert answer.status == 200


def test_rooms_are_as_ready_as_their_engine() -> None:
    """Nothing else is checked."""
    world = World(LaterEngine)
    assert world.rooms.ready and World().rooms.ready
    assert isinstance(world.engine, LaterEngine)
    world.engine.down = "later"
    assert not world.rooms.ready
