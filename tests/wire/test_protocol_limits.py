"""Limits end to end, over real sockets: what is refused, with which code, and at what cost."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fakes import brief, packet
from heard_log import HeardLog
from inprocess import Framing, Server, serving
from sockjs_client import Wire, array, ask, fresh, poll, send
from visitors import TRANSPORTS, Visitor
from websocket_client import FIN, MASKED, TEXT, Socket, handshake

import videre
from videre.app import NAMESPACES
from videre.config import Config, load
from videre.transport.clients import owner

ELSEWHERE = "127.0.0.2"
RAW = "/echo/websocket"
SLOWLY = 0.001  # a second: no allowance returns while a test runs

both = pytest.mark.parametrize("framing", ["raw", "sockjs"])


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """Give the path of a configuration file that is not written yet."""
    return tmp_path / "conf.json"


@asynccontextmanager
async def signaller(
    conf: Path, log: HeardLog | None = None, **values: Any
) -> AsyncIterator[Server]:
    """Run a server with this configuration file, logging to `log` if given."""
    logger = None if log is None else log.logger
    async with serving(videre.create_app(read(conf, values), logger=logger)) as running:
        try:
            yield running
        finally:  # or the tests after a failure would fail for its connections
            await Wire.hang_up()


def read(conf: Path, values: dict[str, Any]) -> Config:
    """Return the configuration from a file with these values."""
    conf.write_text(json.dumps(values))
    return load(conf)


async def knock(
    server: Server, path: str, source: str | None = None, headers: dict[str, str] | None = None
) -> int:
    """Ask for a session; return the status: 200, 101, or that of a refusal."""
    if path.endswith("websocket"):
        socket = await Socket.open(server.url, path, headers, source=source)
        return socket.head.status
    return (await ask(server.url, "POST", path, b"", headers, source=source)).status


# Connections.


async def test_the_rate_of_new_sessions(conf: Path) -> None:
    """Above it an address gets a 503 on any transport; another one does not."""
    async with signaller(conf, ConnectsPerSecondPerAddress=SLOWLY) as server:
        assert await knock(server, RAW) == 101
        for path in (RAW, f"{fresh()}/websocket", f"{fresh()}/xhr", f"{fresh()}/xhr_streaming"):
            assert await knock(server, path) == 503
        assert await knock(server, f"{fresh()}/xhr", ELSEWHERE) == 200
        assert await knock(server, f"{fresh()}/xhr", ELSEWHERE) == 503
        assert (await ask(server.url, "GET", "/echo/info")).status == 200


async def test_polls_of_a_session_are_not_limited(conf: Path) -> None:
    """An open session may poll and send as often as it needs."""
    async with signaller(conf, ConnectsPerSecondPerAddress=SLOWLY) as server:
        session = fresh()
        assert await poll(server.url, session) == "o\n"
        for _ in range(5):
            assert (await send(server.url, session, packet("ping", "a", "room"))).status == 204
            assert (await poll(server.url, session)).startswith("a[")


async def test_sessions_in_all_and_of_an_address(conf: Path) -> None:
    """Above either limit the answer is a 503; a session that ends frees its place."""
    async with signaller(conf, MaxConnections=3, MaxConnectionsPerAddress=2) as server:
        (a,) = await server.members("a")
        assert await knock(server, RAW) == 101
        assert await knock(server, RAW) == 503
        assert await knock(server, RAW, ELSEWHERE) == 101
        assert await knock(server, RAW, ELSEWHERE) == 503  # of three in all
        await a.close()
        assert await knock(server, RAW, ELSEWHERE) == 101


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2:0:0:0:5", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("", ""),
        ("a name", "a name"),
        ("192.0.2.1:80", "192.0.2.1:80"),
    ],
)
def test_what_counts_as_one_address(address: str, counted: str) -> None:
    """An IPv4 address in any spelling; of IPv6 the /64 that one client has."""
    assert owner(address) == counted


async def test_ipv6_is_counted_by_its_64(conf: Path) -> None:
    """A client with a whole network of addresses counts once."""
    limits: dict[str, Any] = {"MaxConnectionsPerAddress": 1, "TrustedProxies": ["127.0.0.1"]}
    async with signaller(conf, **limits) as server:

        async def status(address: str) -> int:
            return await knock(server, RAW, headers={"X-Forwarded-For": address})

        assert await status("2001:db8::1") == 101
        assert await status("2001:db8::2") == 503
        assert await status("2001:db8::ffff:0:0:1") == 503
        assert await status("2001:db8:0:1::1") == 101


async def test_a_forged_header_gains_nothing(conf: Path) -> None:
    """An X-Forwarded-For that no trusted proxy wrote changes no address."""
    async with signaller(conf, MaxConnectionsPerAddress=1) as server:
        assert await knock(server, RAW) == 101
        for number in range(3):
            headers = {"X-Forwarded-For": f"192.0.2.{number}", "Forwarded": "for=192.0.2.9"}
            assert await knock(server, RAW, headers=headers) == 503


# Rooms.


@both
async def test_a_classic_call(conf: Path, framing: Framing) -> None:
    """With `RoomCapacity` 2 the third gets `room-full`, until one of the two leaves."""
    async with signaller(conf, RoomCapacity=2) as server:
        a, b = await server.members("a", "b")
        c = await server.client(framing)
        await c.send("connect", "c", "room")
        await c.hears(("error", "c", "room", "room-full"))
        await a.quiet()
        await b.close()
        await a.hears(("disconnect", "b", "room", ""))
        assert await c.join("c") == "false"


async def test_the_number_of_rooms(conf: Path) -> None:
    """`MaxRooms` counts for each namespace."""
    async with signaller(conf, MaxRooms=1, Prefix=["/echo", "/other"]) as server:
        await server.members("a")
        b, c = await server.client(), await server.client(prefix="/other")
        await b.send("connect", "b", "another")
        await b.hears(("error", "b", "another", "room-full"))
        assert await c.join("c", "another") == "true"
        assert await b.join("b", "room") == "false"


# Lost seats.


async def leaves_a_seat(
    server: Server, log: HeardLog, user: str, room: str, source: str | None = None
) -> str:
    """Take a seat, break the connection, and return the secret once the server has noticed."""
    socket = await Socket.open(server.url, RAW, source=source)
    socket.send(packet("connect", user, room, {"Welcome": True}))
    while brief(text := await socket.text())[0] != "welcome":
        pass
    socket.wire.writer.transport.abort()
    await log.until("lost", user=user)
    return str(json.loads(brief(text)[3])["Resume"])


async def ids(server: Server, room: str) -> list[str]:
    """Return who is in a room, as the application sees it."""
    return await server.runner.app[NAMESPACES][0].rooms.members(room)


@pytest.mark.parametrize("key", ["MaxConnectionsPerAddress", "MaxLostSeatsPerAddress"])
async def test_lost_seats_of_an_address(conf: Path, key: str) -> None:
    """Above the limit its oldest lost seat is left and announced; other addresses keep theirs."""
    log = HeardLog()
    async with signaller(conf, log, **{key: 3}) as server:
        other = await leaves_a_seat(server, log, "other", "room", ELSEWHERE)
        member = await server.client()
        await member.join("m")
        for number in range(5):
            await leaves_a_seat(server, log, f"ghost{number}", "room")
        assert await ids(server, "room") == ["other", "m", "ghost2", "ghost3", "ghost4"]
        heard = [(await member.heard())[:2] for _ in range(7)]
        assert heard == [
            ("connect", "ghost0"),
            ("connect", "ghost1"),
            ("connect", "ghost2"),
            ("connect", "ghost3"),
            ("disconnect", "ghost0"),
            ("connect", "ghost4"),
            ("disconnect", "ghost1"),
        ]
        back = await Socket.open(server.url, RAW, source=ELSEWHERE)
        back.send(packet("connect", "other", "room", {"Resume": other, "Received": 0}))
        while brief(text := await back.text())[0] != "welcome":
            pass
        assert json.loads(brief(text)[3])["Resumed"] is True


async def test_an_office_loses_its_network_and_resumes(conf: Path) -> None:
    """As many as may connect from one address lose their connections at once, and all resume."""
    log = HeardLog()
    async with signaller(conf, log, MaxConnectionsPerAddress=4) as server:
        secrets = [await leaves_a_seat(server, log, f"u{number}", "office") for number in range(4)]
        assert await ids(server, "office") == ["u0", "u1", "u2", "u3"]
        for number, secret in enumerate(secrets):
            client = await server.client()
            payload = {"Resume": secret, "Received": 3 - number}
            await client.send("connect", f"u{number}", "office", payload)
            assert (await client.heard())[:2] == ("connect", f"u{number}")
            assert json.loads((await client.heard())[3])["Resumed"] is True
        assert len(server.runner.app[NAMESPACES][0].rooms.lost) == 0


async def test_the_address_with_most_lost_seats_pays(conf: Path) -> None:
    """Lost seats are limited by the number of sessions in all; the log says it once."""
    log = HeardLog()
    async with signaller(conf, log, MaxConnections=4) as server:
        await leaves_a_seat(server, log, "modest", "room", ELSEWHERE)
        for number in range(4):
            await leaves_a_seat(server, log, f"ghost{number}", "room")
        await leaves_a_seat(server, log, "newcomer", "room", "127.0.0.3")
        assert await ids(server, "room") == ["modest", "ghost2", "ghost3", "newcomer"]


# Packets.


@both
async def test_too_many_packets(conf: Path, framing: Framing) -> None:
    """The first gets an error, later ones are dropped, then 4003; others hear those that passed."""
    async with signaller(conf, PacketsPerSecond=SLOWLY, PacketBurst=5) as server:
        a, b = await server.client(framing), await server.client()
        await a.join("a")
        await b.join("b")
        await a.heard()
        for number in range(9):
            await a.send("broadcast", "a", "room", number)
        await b.hears(*(("broadcast", "a", "room", number) for number in range(4)))
        await a.hears(("error", "a", "room", "rate-limited"))
        await a.quiet()
        await a.send("broadcast", "a", "room", 9)
        assert await a.closed() == 4003
        await b.hears(("disconnect", "a", "room", ""), ("connect", "b", "room", "true"))


async def test_the_start_of_a_call_fits_the_defaults(conf: Path) -> None:
    """An offer and thirty candidates to each of five peers, as fast as a browser sends them."""
    async with signaller(conf) as server:
        a, b = await server.members("a", "b")
        for number in range(5 * 31):
            await a.send("broadcast", "a", "room", number)
        await b.hears(*(("broadcast", "a", "room", number) for number in range(5 * 31)))
        await a.quiet()


async def test_the_start_of_a_mesh_of_eight_fits_the_defaults(conf: Path) -> None:
    """An offer of 6 KB and forty candidates to each of seven peers, as fast as a browser sends."""
    async with signaller(conf) as server:
        a, b = await server.members("a", "b")
        for number in range(7 * 41):
            await a.send(
                "broadcast", "a", "room", [number, "x" * (5800 if number % 41 == 0 else 200)]
            )
        for number in range(7 * 41):
            assert (await b.heard())[3][0] == number
        await a.quiet()


@both
async def test_a_burst_closes_no_receiver(conf: Path, framing: Framing) -> None:
    """A client that has not read a byte of the largest allowed burst stays, and gets it all."""
    # The default allows 64 KiB more for each second that sending takes here.
    async with signaller(conf, BytesPerSecond=1000) as server:
        path = RAW if framing == "raw" else f"{fresh()}/websocket"
        victim = await Socket.open(server.url, path, receive_buffer=4096)
        text = packet("connect", "victim", "room", {"Welcome": True})
        victim.send(text if framing == "raw" else json.dumps([text]))
        while "welcome" not in await victim.text():
            pass
        bad = await server.client()
        await bad.join("bad")

        async def floods() -> None:
            with suppress(ConnectionError, aiohttp.ClientError):  # once it is closed
                for number in range(150):  # 9.3 MiB
                    await bad.send("broadcast", "bad", "room", [number, "x" * 60_000])

        # It reads meanwhile: the server breaks off a client that goes on after the close.
        flooding = asyncio.create_task(floods())
        await bad.hears(("error", "bad", "room", "rate-limited"))
        assert await bad.closed() == 4003
        await flooding
        heard = []
        while True:
            frame = await victim.text()
            header, payload = brief(frame if framing == "raw" else json.loads(frame[1:])[0])[::3]
            if header == "disconnect":
                break
            if header == "broadcast":
                heard.append(payload[0])
        assert heard == list(range(9))  # 512 KiB, and the packet that exceeded them
        again = packet("ping", "victim", "room")
        victim.send(again if framing == "raw" else json.dumps([again]))
        while "ping" not in await victim.text():
            pass


@pytest.mark.parametrize("unit", ["x", '"', "\\", "\xe9", "\u200d", "\U0001f600"])
async def test_a_burst_closes_nobody_between_two_polls(conf: Path, unit: str) -> None:
    """Even if SockJS's quoting makes three bytes of one."""
    async with signaller(conf, BytesPerSecond=1000) as server:
        session = fresh()
        assert await poll(server.url, session) == "o\n"
        await send(server.url, session, packet("connect", "victim", "room"))
        assert "connect" in await poll(server.url, session)
        bad = await server.client()
        await bad.join("bad")
        assert "connect" in await poll(server.url, session)
        size = len(json.dumps(unit, ensure_ascii=False).encode()) - 2
        for number in range(12):
            body = json.loads(packet("broadcast", "bad", "room", [number, unit * (60_000 // size)]))
            await bad.say(json.dumps(body, ensure_ascii=False))
        await bad.hears(("error", "bad", "room", "rate-limited"))
        frame = await poll(server.url, session)
        heard = [brief(text) for text in json.loads(frame[1:])]
        assert [payload[0] for *_, payload in heard] == list(range(9))
        await send(server.url, session, packet("ping", "victim", "room"))
        assert "ping" in await poll(server.url, session)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_crowded_room_can_be_joined(conf: Path, transport: str) -> None:
    """On every transport, although the welcome exceeds the backlog; a ping is answered, too."""
    limits: dict[str, Any] = {"MaxBacklogBytes": 4096, "ByteBurst": 4096, "BytesPerSecond": 1000}
    async with signaller(conf, **limits) as server:
        names = [f"{number:02d}" + "\U0001f600" * 120 for number in range(20)]
        members = [await server.client() for _ in names]
        for client, name in zip(members, names, strict=True):
            await client.join(name)
        visitor = await Visitor.enter(server.url, transport)
        await visitor.say(packet("connect", "new", "room", {"Welcome": True}))
        heard: list[str] = []
        while len(heard) < 2:
            heard += await visitor.hear()
        assert brief(heard[0]) == ("connect", "new", "room", "false")
        assert json.loads(brief(heard[1])[3])["Users"] == [*names, "new"]
        asker = await Visitor.enter(server.url, transport)
        await asker.say(packet("ping", "asker", "room"))
        (answer,) = await asker.hear()
        assert json.loads(brief(answer)[3]) == [*names, "new"]
        # Each has used more than its allowance: later packets wait.
        for each in (visitor, asker):
            await each.say(packet("ping", "asker", "room"))
            (error,) = await each.hear()
            assert brief(error)[3] == "rate-limited"


async def test_a_reload_changes_the_byte_limits_of_all(conf: Path) -> None:
    """It applies to open sessions, too, and the next welcome has the new limit."""
    async with signaller(conf) as server:
        a, b = await server.members("a", "b")
        namespace = server.runner.app[NAMESPACES][0]
        namespace.reload(read(conf, {"BytesPerSecond": SLOWLY, "ByteBurst": 1000}))
        for number in range(3):
            await a.send("broadcast", "a", "room", [number, "x" * 600])
        await a.hears(("error", "a", "room", "rate-limited"))
        assert [(await b.heard())[3][0] for _ in range(2)] == [0, 1]
        await b.send("connect", "b", "room", {"Welcome": True})
        assert (await b.heard())[0] == "connect"
        limits = json.loads((await b.heard())[3])["Limits"]
        assert (limits["BytesPerSecond"], limits["ByteBurst"]) == (SLOWLY, 1000)
        namespace.reload(read(conf, {"BytesPerSecond": None, "PacketsPerSecond": None}))
        for number in range(20):
            await a.send("broadcast", "a", "room", [number, "x" * 60_000])
        assert [(await b.heard())[3][0] for _ in range(20)] == list(range(20))
        await b.send("connect", "b", "room", {"Welcome": True})
        assert (await b.heard())[0] == "connect"
        assert json.loads((await b.heard())[3])["Limits"] == {}


@pytest.mark.parametrize("framing", ["raw", "sockjs", "polling"])
async def test_a_client_joins_no_room_in_time(conf: Path, framing: str) -> None:
    """It is closed with 4004; a member is not."""
    async with signaller(conf, JoinTimeout=1) as server:
        (member,) = await server.members("m")
        if framing == "polling":
            session = fresh()
            assert await poll(server.url, session) == "o\n"
            frame = await poll(server.url, session)
            assert json.loads(frame[1:]) == [4004, "No room entered in time"]
        else:
            client = await server.client("raw" if framing == "raw" else "sockjs")
            await client.send("ping", "x", "room")
            await client.hears(("ping", "x", "room", '["m"]'))
            assert await client.closed() == 4004
        assert await member.users() == ["m"]


@pytest.mark.parametrize("size", [4 * 64 * 1024 + 1, 2**40])
@both
async def test_a_frame_is_refused_by_its_length(conf: Path, framing: Framing, size: int) -> None:
    """The frame's header is enough: the error and 4501 come before any of its payload."""
    async with signaller(conf) as server:
        (witness,) = await server.members("w")
        path = RAW if framing == "raw" else f"{fresh()}/websocket"
        socket = await Socket.open(server.url, path)
        text = packet("connect", "a", "room")
        socket.send(text if framing == "raw" else json.dumps([text]))
        await witness.hears(("connect", "a", "room", "false"))
        socket.wire.writer.write(struct.pack("!BBQ", FIN | TEXT, MASKED | 127, size))
        heard = [await socket.text()]
        while '"Event":"error"' not in heard[-1].replace("\\", ""):
            heard.append(await socket.text())
        text = heard[-1] if framing == "raw" else json.loads(heard[-1][1:])[0]
        assert brief(text) == ("error", "a", "room", "packet-too-large")
        assert (await socket.goodbye())[0] == 4501
        await witness.hears(("disconnect", "a", "room", ""))


# Bodies.


async def begin_body(server: Server, session: str, size: int, body: bytes) -> Wire:
    """Send the head of an xhr_send with a body of this size, and the body's first bytes."""
    wire = await Wire.open(server.url)
    wire.say("POST", f"{session}/xhr_send", None, {"Content-Length": str(size)})
    wire.writer.write(body)
    return wire


async def test_a_slow_body(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a 408 after its time; the session goes on without the partial body."""
    monkeypatch.setattr("videre.transport.bodies.BODY_SECONDS", 0.3)
    async with signaller(conf) as server:
        session = fresh()
        assert await poll(server.url, session) == "o\n"
        whole = array(packet("connect", "a", "room"))
        wire = await begin_body(server, session, len(whole), whole[:-1])
        assert (await wire.answer()).status == 408
        monkeypatch.undo()
        assert (await send(server.url, session, packet("ping", "a", "room"))).status == 204
        (text,) = json.loads((await poll(server.url, session))[1:])
        assert brief(text) == ("ping", "a", "room", "[]")


async def test_a_body_without_a_session_is_not_read(conf: Path) -> None:
    """The answer is a 404 at once, however much is still to come."""
    async with signaller(conf) as server:
        wire = await begin_body(server, fresh(), 1 << 40, b"[")
        assert (await wire.answer()).status == 404


@pytest.mark.parametrize("transport", ["xhr", "xhr_streaming", "eventsource"])
@pytest.mark.parametrize(("size", "status"), [(1024, 200), (1025, 413), (1 << 40, 413)])
async def test_a_body_that_nobody_needs(conf: Path, transport: str, size: int, status: int) -> None:
    """A request that receives would keep it in memory for as long as it waits."""
    async with signaller(conf) as server:
        wire = await Wire.open(server.url)
        method = "GET" if transport == "eventsource" else "POST"
        wire.say(method, f"{fresh()}/{transport}", None, {"Content-Length": str(size)})
        wire.writer.write(b"x" * min(size, 1025))
        assert (await wire.head()).status == status


async def test_a_body_that_is_too_large(conf: Path) -> None:
    """It gets a 413 when more has come than one body of waiting packets; the session goes on."""
    async with signaller(conf, MaxPacketBytes=1024) as server:
        session = fresh()
        assert await poll(server.url, session) == "o\n"
        wire = await begin_body(server, session, 1 << 40, b"x" * (16 * 1024 + 1))
        assert (await wire.answer()).status == 413
        await asyncio.gather(*(send(server.url, session, "nonsense") for _ in range(2)))
        frame = await poll(server.url, session)
        assert {brief(text)[3] for text in json.loads(frame[1:])} == {"malformed-packet"}


@pytest.mark.parametrize("page", ["http://rebound.example", "http://localhost", "null", ""])
async def test_the_servers_own_name_is_no_allowed_origin(conf: Path, page: str) -> None:
    """A page whose name resolves to this server (DNS rebinding) has our Host, but is not listed."""
    async with signaller(conf, Origins=["https://example.com"]) as server:
        assert await knock(server, RAW, headers={"Origin": "https://example.com"}) == 101
        port = server.url.rpartition(":")[2]
        for origin in {page, f"{page}:{port}", server.url}:
            for path in (RAW, f"{fresh()}/websocket", f"{fresh()}/xhr", "/echo/info"):
                method = "POST" if path.endswith("xhr") else "GET"
                host = origin.partition("//")[2]
                headers = handshake({"Host": host, "Origin": origin, "Content-Length": "0"})
                lines = [f"{method} {path} HTTP/1.1", *map(": ".join, headers.items())]
                wire = await Wire.open(server.url)
                wire.writer.write("\r\n".join([*lines, "", ""]).encode())
                assert (await wire.head()).status == 403, (origin, path)
