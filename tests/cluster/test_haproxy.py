"""A real HAProxy with docs/haproxy.cfg, in front of two servers."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from fakes import packet
from patience import WAIT_SECONDS
from ports import free_port
from process import ROOT, Signaller, require, signaller
from test_nginx import replace
from valkey_server import until

pytestmark = pytest.mark.process

CONF = (ROOT / "docs/haproxy.cfg").read_text(encoding="utf-8")
SESSIONS = 40
CHECK = f"    timeout check {round(WAIT_SECONDS)}s"


class Proxy:
    """HAProxy, and the servers behind it."""

    def __init__(self, url: str, servers: list[Signaller], port: int) -> None:
        self.url = url
        self.servers = servers
        self.port = port


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    """Run it in front of two servers that trust it, and allow an address one session."""
    binary, port = require("haproxy"), free_port()
    config = {"TrustedProxies": ["127.0.0.1"], "MaxConnectionsPerAddress": 1}
    async with AsyncExitStack() as stack:
        servers = []
        for number in range(2):
            (folder := tmp_path / str(number)).mkdir()
            servers.append(await stack.enter_async_context(signaller(tmp=folder, config=config)))
        text = replace(CONF, "bind :80", f"bind 127.0.0.1:{port}")
        # A check that is late is not a failed one: the tests' machine may be busy.
        text = replace(text, "timeout connect 5s", f"timeout connect 5s\n{CHECK}")
        for old, server in zip(("127.0.0.1:1111", "127.0.0.1:1112"), servers, strict=True):
            text = replace(text, f"{old} check", f"127.0.0.1:{server.port} check inter 100ms")
        (tmp_path / "haproxy.cfg").write_text(text, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *(binary, "-db", "-f", str(tmp_path / "haproxy.cfg")),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
        )
        try:
            async with aiohttp.ClientSession() as http:

                async def serves() -> bool:
                    async with http.get(f"http://127.0.0.1:{port}/echo/info") as answer:
                        return answer.status == 200

                await until(serves)
            yield Proxy(f"http://127.0.0.1:{port}/echo", servers, port)
        finally:
            process.terminate()
            await process.communicate()


async def test_polling_sessions_stay_on_their_server(proxy: Proxy) -> None:
    """Each of many sessions joins a room by several requests, and both servers are used."""
    async with aiohttp.ClientSession() as http:

        async def session(number: int) -> None:
            url = f"{proxy.url}/000/session{number}"
            headers = {"X-Forwarded-For": f"192.0.2.{number}"}  # as from another proxy
            for _ in range(2):
                async with http.post(f"{url}/xhr", headers=headers) as answer:
                    text = await answer.text()
                if text == "o\n":
                    body = json.dumps([packet("connect", f"u{number}", f"room{number}")])
                    async with http.post(f"{url}/xhr_send", data=body, headers=headers) as answer:
                        assert answer.status == 204, number
            assert "true" in text, (number, text)

        await asyncio.gather(*map(session, range(1, SESSIONS + 1)))

    def joins() -> list[int]:
        return [sum(" join " in line for line in each.output) for each in proxy.servers]

    async def logged() -> bool:
        return sum(joins()) == SESSIONS

    await until(logged)
    assert all(joins())


async def test_websockets_and_addresses(proxy: Proxy) -> None:
    """A WebSocket passes, and counts for the client's address, not the proxy's."""
    async with aiohttp.ClientSession() as http:
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            # For an address that the servers trust as a proxy, they look further than HAProxy's
            # client.
            headers = {"X-Forwarded-For": address}
            async with http.ws_connect(f"{proxy.url}/websocket", headers=headers) as socket:
                await socket.send_str(packet("connect", address, "room"))
                assert "Payload" in await socket.receive_json(timeout=WAIT_SECONDS)


async def test_a_stopped_server(proxy: Proxy) -> None:
    """The check sends `OPTIONS /`: a stopped server is left out, and the other gets everything."""
    await proxy.servers[0].stop()
    async with aiohttp.ClientSession() as http:

        async def all_at_the_other() -> bool:
            found = []
            for _ in range(6):
                async with http.get(f"{proxy.url}/info") as answer:
                    found.append(answer.status)
            return found == [200] * 6

        await until(all_at_the_other)
