"""The admin port of the command, in its own process, and of workers that share rooms."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from patience import WAIT_SECONDS
from process import LISTENING, Signaller, self_signed, signaller
from signalling import Closed, connect
from test_cli_faults import refused
from valkey_server import Valkey, valkey

from videre.command.server import Server
from videre.command.workers import configs
from videre.config import Config

pytestmark = pytest.mark.process

TOKEN = "a-token-of-the-admin-port"
ADMIN = re.compile(r"Admin port on (https?://\S+)/status$")


async def ports(server: Signaller, pattern: re.Pattern[str], count: int) -> list[str]:
    """Return the first groups of a pattern in the output, once there are enough."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            found = [match for line in server.output if (match := pattern.search(line))]
            if len(found) >= count:
                return [match[0] if pattern is LISTENING else match[1] for match in found]
            await asyncio.sleep(0.01)


async def ask(
    method: str,
    url: str,
    *,
    token: str | None = None,
    body: Any = None,
    tls: Any = True,
    **query: Any,
) -> tuple[int, Any]:
    """Return the status and the JSON of an answer."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, headers=headers, json=body, params=query, ssl=tls) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if text else None


async def sees_two_nodes(url: str) -> None:
    """Wait until a node knows of two, on two processes of this host, with a seat each."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            status, listed = await ask("GET", f"{url}/api/v1/nodes")
            assert status == 200
            nodes = listed["Nodes"]
            assert [node["Here"] for node in nodes].count(True) == 1
            if [node["Members"] for node in nodes] == [1, 1]:
                break
            await asyncio.sleep(0.1)
    assert {node["Process"].partition(":")[0] for node in nodes} == {socket.gethostname()}
    assert len({node["Process"] for node in nodes}) == 2
    assert {node["Prefix"] for node in nodes} == {"/echo"}


async def test_it_is_off_until_it_is_asked_for(tmp_path: Path) -> None:
    """And none of it is on the public port."""
    async with signaller(tmp=tmp_path) as server:
        base = server.url.removesuffix("/echo")
        assert not any(ADMIN.search(line) for line in server.output)
        async with aiohttp.ClientSession() as http:
            for path in ("/status", "/status.json", "/metrics", "/openapi.json", "/api/v1/rooms"):
                async with http.get(base + path) as answer:
                    assert answer.status == 404


async def test_it_tells_of_the_clients_of_the_public_port(tmp_path: Path) -> None:
    """Without TLS on loopback, because the certificate is for the public name."""
    certificate, key = self_signed(tmp_path)
    options = ("--cert", str(certificate), "--key", str(key), "--admin-port", "0")
    async with signaller(*options, tmp=tmp_path) as server:
        (url,) = await ports(server, ADMIN, 1)
        assert url.startswith("http://127.0.0.1:") and server.url.startswith("https:")
        trust = ssl.create_default_context(cafile=certificate)
        async with connect(server.url, "raw", user="a", room="room", ssl=trust) as client:
            await client.ask("connect")
            found = await ask("GET", f"{url}/api/v1/members", room="room")
            assert found[1]["Members"] == ["a"]
        assert (await ask("GET", f"{url}/ready"))[0] == 200


async def test_it_shows_the_errors_of_aiohttp_and_asyncio() -> None:
    """Those of every logger that the command writes, among them the most serious ones."""
    unused = cast("Any", None)
    command = Server(Config(), unused, unused, unused, unused)
    listening = socket.create_server(("127.0.0.1", 0))
    host, port = listening.getsockname()
    runner = await command._set_up_admin()
    try:
        await command._serve_admin(runner, [listening])
        for name in ("videre.x", "aiohttp.server", "asyncio"):
            logging.getLogger(name).error("a fault of %s", name)
        status = (await ask("GET", f"http://{host}:{port}/status.json"))[1]
        assert [each["Count"] for each in status["RecentErrors"]] == [3]
    finally:
        await runner.cleanup()


async def test_where_others_reach_it_it_has_tls(tmp_path: Path) -> None:
    """If the public port has TLS, so that nobody can overhear the token."""
    certificate, key = self_signed(tmp_path)
    config = {
        "TLS": True,
        "Cert": str(certificate),
        "Key": str(key),
        "AdminHost": "0.0.0.0",
        "AdminPort": 0,
        "AdminToken": TOKEN,
    }
    async with signaller(tmp=tmp_path, config=config) as server:
        (url,) = await ports(server, ADMIN, 1)
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert url.startswith("https:")
        trust = ssl.create_default_context(cafile=certificate)
        assert (await ask("GET", f"{url}/status.json", tls=trust))[0] == 401
        assert (await ask("GET", f"{url}/status.json", tls=trust, token=TOKEN))[0] == 200


async def test_drain_ends_the_server(tmp_path: Path) -> None:
    """Like SIGTERM: clients get a goaway; the admin port serves until they have gone."""
    config = {"AdminPort": 0, "DrainSeconds": 600}
    async with signaller(tmp=tmp_path, config=config) as server:
        (url,) = await ports(server, ADMIN, 1)
        async with connect(server.url, "raw", user="a", room="room") as client:
            await client.ask("connect")
            for _ in range(2):
                assert (await ask("POST", f"{url}/api/v1/drain"))[0] == 202
            assert (await client.receive())["Header"]["Event"] == "goaway"
            assert (await ask("GET", f"{url}/ready"))[0] == 503
            assert (await ask("GET", f"{url}/health"))[0] == 200
            status = (await ask("GET", f"{url}/status.json"))[1]
            assert (status["Ready"], status["Sessions"]) == (False, 1)
        async with asyncio.timeout(WAIT_SECONDS):
            assert await server.process.wait() == 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_after_a_drain(sign: signal.Signals, tmp_path: Path) -> None:
    """It is the first signal, no second one: SIGTERM changes nothing, SIGINT closes with 1001."""
    config = {"AdminPort": 0, "DrainSeconds": 600}
    async with signaller(tmp=tmp_path, config=config) as server:
        (url,) = await ports(server, ADMIN, 1)
        async with connect(server.url, "raw", user="a", room="room") as client:
            await client.ask("connect")
            assert (await ask("POST", f"{url}/api/v1/drain"))[0] == 202
            assert (await client.receive())["Header"]["Event"] == "goaway"
            server.process.send_signal(sign)
            if sign == signal.SIGINT:
                with pytest.raises(Closed) as closed:
                    await client.receive()
                assert closed.value.code == 1001
            else:
                for _ in range(5):
                    assert (await client.ask("ping"))["Payload"] == '["a"]'
        async with asyncio.timeout(WAIT_SECONDS):
            assert await server.process.wait() == 0


async def test_a_drained_worker_frees_its_port(store: Valkey, tmp_path: Path) -> None:
    """Otherwise clients would connect to it and wait; the other worker goes on."""
    settings = {"Engine": store.url, "Workers": 2, "AdminPort": 0}
    async with signaller(tmp=tmp_path, config=settings) as server:
        (url, _) = await ports(server, ADMIN, 2)
        publics = [LISTENING.search(line) for line in await ports(server, LISTENING, 2)]
        numbers = [int(found[3]) for found in publics if found]
        assert (await ask("POST", f"{url}/api/v1/drain"))[0] == 202
        free: set[int] = set()
        async with asyncio.timeout(WAIT_SECONDS):
            while not free:
                free = {number for number in numbers if not await listens(number)}
                await asyncio.sleep(0.01)
        (other,) = set(numbers) - free
        assert (await ask("GET", f"http://127.0.0.1:{other}/ready"))[0] == 200


async def listens(port: int) -> bool:
    """Return whether a port of this machine takes a connection."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:  # refused, or reset by the end of the listener
        return False
    writer.close()
    return True


def test_a_port_that_cannot_be_had(tmp_path: Path) -> None:
    """The fault names it, and nothing has been opened, not even the log."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        log = tmp_path / "log"
        options = ("--port", "0", "--log-file", str(log), "--admin-port", str(port))
        said = refused(*options)
    assert said.startswith(
        f"videre-server: --admin-port: AdminPort: {port}: Address already in use"
    )
    assert not log.exists()


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("0.0.0.0", "others can reach it, so it needs one of AdminToken"),
        ("10.255.255.1", "others can reach it, so it needs one of AdminToken"),
        ("127.0.0.300", "others can reach it"),
    ],
)
def test_a_host_that_cannot_be_had(host: str, words: str) -> None:
    """A host that others can reach needs a token."""
    said = refused("--port", "0", "--admin-port", "0", "--admin-host", host)
    assert said.startswith(f'videre-server: --admin-host: AdminHost: "{host}": {words}')


def test_a_host_that_is_not_ours(tmp_path: Path) -> None:
    """The fault appears before anything is served."""
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps({"AdminHost": "192.0.2.1", "AdminPort": 0, "AdminToken": TOKEN}))
    said = refused("--port", "0", "--config", str(conf))
    assert said.startswith(f'videre-server: {conf}: AdminHost: "192.0.2.1": Cannot assign')


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Run a Valkey."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    async with valkey(folder) as running:
        yield running


def test_each_worker_has_an_admin_port() -> None:
    """Consecutive ports; or any free ones, or none."""
    shared = Config(workers=3, admin_port=9000, worker_ports="shared")
    assert [each.admin_port for each in configs(shared)] == [9000, 9001, 9002]
    assert [each.admin_port for each in configs(Config(workers=2, admin_port=0))] == [0, 0]
    assert [each.admin_port for each in configs(Config(workers=2))] == [None, None]


async def test_the_rooms_of_other_nodes(store: Valkey, tmp_path: Path) -> None:
    """Any node lists them, sends and removes; the status is its own."""
    settings = {"Engine": store.url, "Workers": 2, "AdminPort": 0}
    async with signaller(tmp=tmp_path, config=settings) as server:
        admins = await ports(server, ADMIN, 2)
        found = [LISTENING.search(line) for line in await ports(server, LISTENING, 2)]
        publics = [f"{m[1]}://{m[2]}:{m[3]}{m[4]}" for m in found if m]
        async with (
            connect(publics[0], "raw", user="a", room="room") as a,
            connect(publics[1], "raw", user="b", room="room") as b,
        ):
            for client in (a, b):
                await client.ask("connect")
            assert (await a.receive())["Header"]["UserId"] == "b"
            for url in admins:
                rooms = (await ask("GET", f"{url}/api/v1/rooms"))[1]
                assert rooms == {"Rooms": [{"RoomId": "room", "Members": 2}], "Next": None}
                members = (await ask("GET", f"{url}/api/v1/members", room="room"))[1]
                assert members["Members"] == ["a", "b"]
                assert (await ask("GET", f"{url}/status.json"))[1]["Sessions"] == 1
                await sees_two_nodes(url)
                body = {"Payload": "hello", "To": ["a", "b"]}
                sent = await ask("POST", f"{url}/api/v1/packets", room="room", body=body)
                assert sent == (200, {"Absent": []})
                for client in (a, b):
                    assert (await client.receive())["Payload"] == "hello"
            gone = {"room": "room", "user": "b", "reason": "Be nice"}
            assert (await ask("DELETE", f"{admins[0]}/api/v1/members", **gone))[0] == 204
            with pytest.raises(Closed) as closed:
                await b.receive()
            assert closed.value.code == 4504
            assert (await a.receive())["Header"] == {
                "Event": "disconnect",
                "UserId": "b",
                "RoomId": "room",
            }
            await store.stop()
            for method, path, query in (
                ("GET", "rooms", {}),
                ("GET", "members", {"room": "elsewhere"}),
                ("GET", "nodes", {}),
            ):
                status, problem = await ask(method, f"{admins[1]}/api/v1/{path}", **query)
                assert (status, problem["code"]) == (503, "unavailable")
            assert (await ask("GET", f"{admins[1]}/status.json"))[1]["Engine"] == store.url
