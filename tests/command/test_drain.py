"""A drain: clients are asked to leave and still served, then closed with 4005 at its end."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fakes import packet
from heard_log import HeardLog
from inprocess import Client, Server, serving
from patience import WAIT_SECONDS
from process import signaller
from signalling import Closed, connect
from skipping import skip
from sockjs_client import Wire, ask
from visitors import TRANSPORTS, Visitor

from videre.app import NAMESPACES, create_app
from videre.config import Config
from videre.namespace import EARLIEST, LATEST, Namespace
from videre.settings import Limits
from videre.transport.shared import GOODBYE

pytestmark = pytest.mark.process

LONG = 60.0  # seconds: a drain that ends because all have gone
SHORT = 0.5  # one that closes those that stay


class Draining:
    """A server whose only namespace drains on demand."""

    def __init__(self, server: Server, namespace: Namespace, log: HeardLog) -> None:
        self.server = server
        self.namespace = namespace
        self.log = log
        self._drain: asyncio.Task[None] | None = None

    def begin(self, seconds: float) -> None:
        """Start to drain."""
        self._drain = asyncio.create_task(self.namespace.drain(seconds))

    async def ended(self) -> None:
        """Return when the drain is over."""
        assert self._drain is not None
        await self._drain


@asynccontextmanager
async def draining(**limits: Any) -> AsyncIterator[Draining]:
    """Run a signaller."""
    log = HeardLog()
    app: web.Application = create_app(Config(limits=Limits(**limits)), logger=log.logger)
    async with serving(app) as server:
        try:
            yield Draining(server, app[NAMESPACES][0], log)
        finally:
            await Wire.hang_up()


def goaway(text: str) -> tuple[str, str, int]:
    """Return the user, the room and RetryAfter, in ms, of a goaway."""
    said = json.loads(text)
    header = said["Header"]
    assert header.pop("Event") == "goaway" and set(header) == {"UserId", "RoomId"}
    payload = json.loads(said["Payload"])
    assert set(payload) == {"RetryAfter"} and type(payload["RetryAfter"]) is int
    return header["UserId"], header["RoomId"], payload["RetryAfter"]


async def status(url: str) -> tuple[int, str | None]:
    """Return the status and the Retry-After of a GET."""
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return response.status, response.headers.get("Retry-After")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_clients_of_each_transport(transport: str) -> None:
    """Each gets a goaway, can still send and receive, and is closed with 4005."""
    async with draining() as run:
        visitor = await Visitor.enter(run.server.url, transport)
        await visitor.say(packet("connect", "v", "room"))
        await visitor.hear()
        (member,) = await run.server.members("m", room="other")
        run.begin(LONG)
        (text,) = await visitor.hear()
        assert goaway(text)[:2] == ("v", "room")
        assert goaway(await member.text())[:2] == ("m", "other")
        await visitor.say(packet("ping", "v", "room"))
        (answer,) = await visitor.hear()
        assert json.loads(answer)["Payload"] == '["v"]'
        skip(LONG)
        await run.ended()
        assert (await visitor.goodbye())[0] == 4005
        assert await member.closed() == 4005


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_new_sessions_are_refused(transport: str) -> None:
    """They get a 503 with Retry-After; `/info` announces it."""
    paths = {"raw": "/echo/websocket", "websocket": "/echo/1/new/websocket"}
    path = paths.get(transport, f"/echo/1/new/{transport}")
    method = "POST" if transport.startswith("xhr") else "GET"
    async with draining() as run:
        (member,) = await run.server.members("m")
        run.begin(LONG)
        goaway(await member.text())
        for where, how in ((path, method), ("/echo/info", "GET")):
            answer = await ask(run.server.url, how, where)
            assert answer.status == 503, answer
            assert 1 <= int(answer.headers["Retry-After"]) <= LONG
        await member.close()
        await run.ended()


async def test_it_ends_with_the_last_session() -> None:
    """It does not wait for the rest of its time."""
    async with draining() as run:
        members = await run.server.members("a", "b")
        run.begin(LONG)
        for each in members:
            goaway(await each.text())
        await members[0].close()
        assert (await members[1].heard())[0] == "disconnect"
        assert (await members[1].heard())[0] == "connect"  # now the initiator
        await members[1].quiet()
        await members[1].close()
        await run.ended()


async def test_two_drains_at_a_time() -> None:
    """Both end with the last session: a site's `drain` may be called again."""
    async with draining() as run:
        (member,) = await run.server.members("a")
        drains = [asyncio.create_task(run.namespace.drain(10 * LONG)) for _ in range(2)]
        for _ in drains:
            goaway(await member.text())
        await member.close()
        async with asyncio.timeout(WAIT_SECONDS):
            await asyncio.gather(*drains)


async def test_a_drain_without_sessions() -> None:
    """It is over at once."""
    async with draining() as run:
        run.begin(LONG)
        await run.ended()


async def test_each_client_gets_another_retry_after() -> None:
    """The values are spread over the drain, and none is after its end."""
    async with draining(join_timeout=None) as run:
        clients = [await run.server.client() for _ in range(30)]
        run.begin(LONG)
        told = [goaway(await each.text()) for each in clients]
        assert {(user, room) for user, room, _ in told} == {("", "")}
        times = [retry for _, _, retry in told]
        assert all(EARLIEST * LONG * 1000 <= each <= LATEST * LONG * 1000 for each in times)
        assert len(set(times)) > 20
        for each in clients:
            await each.close()
        await run.ended()


async def test_ready_says_so() -> None:
    """`/ready` is 503 from the start of the drain, while `/health` stays 200."""
    async with draining() as run:
        (member,) = await run.server.members("m")
        assert (await status(f"{run.server.url}/ready"))[0] == 200
        run.begin(LONG)
        goaway(await member.text())
        assert (await status(f"{run.server.url}/ready"))[0] == 503
        assert (await status(f"{run.server.url}/health"))[0] == 200
        await member.close()
        await run.ended()


async def test_seats_keep_their_grace() -> None:
    """A client with a welcome only loses its connection; one without has left."""
    async with draining() as run:
        a, b = [await run.server.client() for _ in range(2)]
        await a.send("connect", "a", "room", {"Welcome": True})
        assert [(await a.heard())[0] for _ in range(2)] == ["connect", "welcome"]
        await b.join("b", "other")
        run.begin(SHORT)
        for each in (a, b):
            goaway(await each.text())
            assert await each.closed() == 4005
        await run.log.until("lost", user="a")
        await run.log.until("leave", user="b")
        await run.ended()
        assert await run.namespace.rooms.members("room") == ["a"]


ROUNDS = 20  # before the one in which, after some turns of the loop, the drain ends


@pytest.mark.parametrize("turns", range(6))
async def test_acknowledged_packets_arrive_before_the_close(turns: int) -> None:
    """The answer to a ping proves that earlier packets were carried out: all of them arrive."""
    async with draining(packets_per_second=None) as run:
        sender, hearer = await run.server.members("a", "b")
        run.begin(LONG)
        goaway(await sender.text())
        acknowledged = -1
        for number in itertools.count():
            if not await spoken(sender, number, turns if number == ROUNDS else None):
                break
            acknowledged = number
        goaway(await hearer.text())
        for number in range(acknowledged + 1):
            assert (await hearer.heard())[3] == number
        skip(GOODBYE)  # for the answer to its close, which the hearer has not read
        await run.ended()
        assert acknowledged >= ROUNDS - 1


async def spoken(client: Client, number: int, turns: int | None) -> bool:
    """Broadcast a number and ping; return whether the answer came before the close."""
    try:
        await client.send("broadcast", "a", "room", number)
        await client.send("ping", "a", "room")
        if turns is not None:
            for _ in range(turns):
                await asyncio.sleep(0)
            skip(LONG)
        message = await client.socket.receive(timeout=WAIT_SECONDS)
    except ConnectionError:
        return False
    return (
        message.type is aiohttp.WSMsgType.TEXT
        and json.loads(message.data)["Header"]["Event"] == "ping"
    )


# The process.


async def test_sigterm_drains(tmp_path: Path) -> None:
    """Clients get a goaway, and the close after DrainSeconds; the exit code is 0. It is logged."""
    config = {"DrainSeconds": 1, "LogFile": "log"}
    async with (
        signaller(tmp=tmp_path, config=config) as server,
        connect(server.url, "raw", user="a", room="room") as a,
        connect(server.url, "sockjs", user="b", room="room") as b,
    ):
        for each in (a, b):
            await each.ask("connect")
        server.process.send_signal(signal.SIGTERM)
        for each in (a, b):
            with pytest.raises(Closed) as closed:
                heard = []
                while True:
                    heard.append((await each.receive())["Header"]["Event"])
            assert heard[-1] == "goaway" and closed.value.code == 4005
        assert await server.process.wait() == 0
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    (drain,) = [line for line in events if line["event"] == "drain"]
    assert (drain["seconds"], drain["sessions"]) == (1, 2)
    assert events[-1]["event"] == "stop"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_at_once(second: signal.Signals, tmp_path: Path) -> None:
    """It does not wait for the end of the drain."""
    async with (
        signaller(tmp=tmp_path, config={"DrainSeconds": 600}) as server,
        connect(server.url, "raw", user="a", room="room") as a,
    ):
        await a.ask("connect")
        server.process.send_signal(signal.SIGTERM)
        assert (await a.receive())["Header"]["Event"] == "goaway"
        assert await server.stop(second) == 0


@pytest.mark.parametrize(
    ("sign", "seconds"), [(signal.SIGINT, 600), (signal.SIGTERM, 0)], ids=["SIGINT", "0 s"]
)
async def test_without_a_drain(sign: signal.Signals, seconds: int, tmp_path: Path) -> None:
    """Ctrl-C, or SIGTERM with DrainSeconds 0, closes with 1001 and ends the process."""
    async with (
        signaller(tmp=tmp_path, config={"DrainSeconds": seconds}) as server,
        connect(server.url, "raw", user="a", room="room") as a,
    ):
        await a.ask("connect")
        server.process.send_signal(sign)
        with pytest.raises(Closed) as closed:
            await a.receive()
        assert closed.value.code == 1001
        assert await server.process.wait() == 0
