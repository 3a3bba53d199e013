"""Real proxies with the configurations of docs/, before two servers: Caddy, Envoy and Traefik.

All tests of a proxy share it and its servers, so each has rooms and addresses of its own. (nginx
and HAProxy: tests/cluster.)
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from fakes import packet
from patience import LEFT_SECONDS
from ports import free_port
from process import ROOT, Signaller, missing, signaller
from sockjs_client import Stream, Wire, fresh, poll, send
from test_nginx import hear, knock, messages, replace, seat
from valkey_server import until

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]

SESSIONS = 32
SLOW = "60s"  # what no health check takes: a server on a busy machine is not down
SECRET = "s3cret"  # the id of a session, which the proxies must not log


def found(program: str) -> str:
    """Return the path of a program, from the system or this environment; skip if there is none."""
    path = shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if path is None:
        missing(f"{program} is not installed")
    assert path is not None
    return path


def documented(name: str, servers: list[Signaller]) -> str:
    """Return a configuration from docs/, adapted to these servers."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for port, server in zip((1111, 1112), servers, strict=True):
        text = replace(text, str(port), str(server.port))
    return text


def caddy(tmp: Path, port: int, servers: list[Signaller]) -> list[str]:
    """Write docs/Caddyfile, and return the command that runs it."""
    health = f"interval 100ms\n\t\t\thealth_timeout {SLOW}"
    text = replace(documented("Caddyfile", servers), "interval 5s", health)
    text = replace(text, "\n:80 {\n", f"\n:{port} {{\n\tbind 127.0.0.1\n")
    # All Caddys of this machine would share one admin socket.
    text = replace(text, "\n{\n", "\n{\n\tadmin off\n")
    (tmp / "Caddyfile").write_text(text, encoding="utf-8")
    return ["run", "--config", str(tmp / "Caddyfile"), "--adapter", "caddyfile"]


def envoy(tmp: Path, port: int, servers: list[Signaller]) -> list[str]:
    """Write docs/envoy.yaml, and return the command that runs it."""
    text = documented("envoy.yaml", servers)
    text = replace(
        text, "address: 0.0.0.0, port_value: 80", f"address: 127.0.0.1, port_value: {port}"
    )
    text = replace(text, "interval: 5s", "interval: 0.1s")
    text = replace(text, "timeout: 2s", f"timeout: {SLOW}")
    (tmp / "envoy.yaml").write_text(text, encoding="utf-8")
    return ["-c", str(tmp / "envoy.yaml"), "--disable-hot-restart", "--concurrency", "1"]


def traefik(tmp: Path, port: int, servers: list[Signaller]) -> list[str]:
    """Write docs/traefik.yml and docs/traefik-videre.yml, and return the command that runs them."""
    routes = documented("traefik-videre.yml", servers)
    routes = replace(routes, "interval: 5s, timeout: 2s", f"interval: 100ms, timeout: {SLOW}")
    (tmp / "traefik-videre.yml").write_text(routes, encoding="utf-8")
    text = (ROOT / "docs/traefik.yml").read_text(encoding="utf-8")
    text = replace(text, '":80"', f'"127.0.0.1:{port}"')
    text = replace(text, "/etc/traefik/traefik-videre.yml", str(tmp / "traefik-videre.yml"))
    (tmp / "traefik.yml").write_text(text, encoding="utf-8")
    return [f"--configFile={tmp / 'traefik.yml'}"]


Configure = Callable[[Path, int, list[Signaller]], list[str]]


class Proxy:
    """A proxy at `base`, and the servers behind it."""

    def __init__(self, base: str, servers: list[Signaller]) -> None:
        self.base = base
        self.servers = servers


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[caddy, envoy, traefik],
    ids=lambda each: each.__name__,
)
async def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Proxy]:
    """Run one in front of two servers that trust it, and allow an address two sessions."""
    configure: Configure = request.param
    binary, port = found(configure.__name__), free_port()
    tmp_path = tmp_path_factory.mktemp(configure.__name__)
    config = {"TrustedProxies": ["127.0.0.1"], "MaxConnectionsPerAddress": 2}
    async with AsyncExitStack() as stack:
        servers = []
        for number in range(2):
            (folder := tmp_path / str(number)).mkdir()
            servers.append(await stack.enter_async_context(signaller(tmp=folder, config=config)))
        process = await asyncio.create_subprocess_exec(
            *(binary, *configure(tmp_path, port, servers)),
            cwd=tmp_path,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)},
        )
        reading = asyncio.create_task(process.communicate())
        base = f"http://127.0.0.1:{port}"
        try:
            async with aiohttp.ClientSession() as http:

                async def serves() -> bool:
                    assert process.returncode is None, await reading
                    async with http.get(f"{base}/echo/info") as answer:
                        return answer.status == 200

                await until(serves)
            yield Proxy(base, servers)
        finally:
            if process.returncode is None:
                process.terminate()
            said = b"".join(await reading)
        assert SECRET.encode() not in said, said


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def hang_up() -> AsyncIterator[None]:
    """Close the connections that a test left open."""
    yield
    await Wire.hang_up()


def joins(proxy: Proxy) -> list[int]:
    """Return how many joins each server has logged."""
    return [sum(" join " in line for line in each.output) for each in proxy.servers]


async def test_polling_sessions_stay_on_their_server(proxy: Proxy) -> None:
    """Many sessions work all along, and both servers have some."""
    before = joins(proxy)

    async def live(number: int) -> None:
        session, source, room = fresh(), f"127.0.2.{number}", f"room {number}"
        assert await poll(proxy.base, session, source=source) == "o\n"
        for event, answer in [("connect", "true"), ("ping", '["peer1"]'), ("ping", '["peer1"]')]:
            sent = await send(proxy.base, session, packet(event, "peer1", room), source=source)
            assert sent.status == 204
            [text] = messages(await poll(proxy.base, session, source=source))
            assert json.loads(text)["Payload"] == answer

    await asyncio.gather(*(live(number) for number in range(1, SESSIONS + 1)))

    async def logged() -> bool:
        return sum(joins(proxy)) == sum(before) + SESSIONS

    await until(logged)
    assert all(now > then for now, then in zip(joins(proxy), before, strict=True))


async def test_websockets_and_addresses(proxy: Proxy) -> None:
    """A WebSocket counts for its client; a forged header gains nothing."""
    forged = {"X-Forwarded-For": "192.0.2.1", "X-Videre-Session": "x"}
    path = fresh()
    assert [await knock(proxy.base, path, "127.0.1.6") for _ in range(3)] == [101, 101, 503]
    assert await knock(proxy.base, path, "127.0.1.6", forged) == 503
    assert [await knock(proxy.base, path, "127.0.1.7") for _ in range(3)] == [101, 101, 503]
    members = [await seat(proxy.base, fresh(), f"u{n}", "forged", f"127.0.1.{n}") for n in (8, 9)]
    assert len(members) == 2


@pytest.mark.parametrize(
    ("transport", "method", "head", "end"),
    [("xhr_streaming", "POST", "", "\n"), ("eventsource", "GET", "data: ", "\r\n\r\n")],
)
async def test_streams_are_not_buffered(
    proxy: Proxy, transport: str, method: str, head: str, end: str
) -> None:
    """Each message arrives before the next one is requested, in one response."""
    session, source = fresh(), {"xhr_streaming": "127.0.1.3", "eventsource": "127.0.1.4"}[transport]
    stream = await Stream.open(proxy.base, method, f"{session}/{transport}", source=source)
    assert (await stream.until(f"o{end}")).endswith(f"{head}o{end}")
    for event, answer in [("connect", "true"), ("ping", '["peer1"]'), ("ping", '["peer1"]')]:
        sent = await send(proxy.base, session, packet(event, "peer1", transport), source=source)
        assert sent.status == 204
        [text] = messages((await stream.until(end)).removeprefix(head).rstrip())
        assert json.loads(text)["Payload"] == answer


@pytest.mark.parametrize("transport", ["websocket", "xhr_streaming"])
async def test_leaving_the_proxy_leaves_the_room(proxy: Proxy, transport: str) -> None:
    """A connection that ends before the proxy also ends behind it: the room hears it in time."""
    path, room = fresh(), f"left {transport}"
    source = {"websocket": "127.0.1.1", "xhr_streaming": "127.0.1.2"}[transport]
    witness = await seat(proxy.base, path, "witness", room, source)
    if transport == "websocket":
        wire = (await seat(proxy.base, path, "leaver", room, source)).wire
    else:
        stream = await Stream.open(proxy.base, "POST", f"{path}/{transport}", source=source)
        await stream.until("o\n")
        await send(proxy.base, path, packet("connect", "leaver", room), source=source)
        wire = stream.wire
    assert json.loads(await hear(witness))["Header"]["UserId"] == "leaver"
    wire.reset()
    async with asyncio.timeout(LEFT_SECONDS):
        left = json.loads(await hear(witness))["Header"]
    assert (left["Event"], left["UserId"]) == ("disconnect", "leaver")


async def test_a_stopped_server(proxy: Proxy) -> None:
    """Its health check fails, and the other one gets everything.

    This is the last test but one, because nothing starts the server again.
    """
    await proxy.servers[0].stop()
    async with aiohttp.ClientSession() as http:

        async def all_at_the_other() -> bool:
            found = []
            for _ in range(6):
                async with http.get(f"{proxy.base}/echo/info") as answer:
                    found.append(answer.status)
            return found == [200] * 6

        await until(all_at_the_other)


async def test_all_servers_stopped(proxy: Proxy) -> None:
    """The proxy reports an error; `proxy` checks that it does not log the URL."""
    await proxy.servers[1].stop()
    async with aiohttp.ClientSession() as http:
        for _ in range(2):
            async with http.post(
                f"{proxy.base}/echo/000/{SECRET}/xhr_send?token={SECRET}"
            ) as answer:
                assert answer.status in (502, 503)
