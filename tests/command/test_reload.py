"""SIGHUP applies some settings, reports the others, and rejects an invalid file as a whole."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography import x509
from inprocess import serving
from patience import WAIT_SECONDS
from process import ROOT, Signaller, self_signed, signaller
from signalling import Closed, Framing, Packet, Signalling, connect
from tokens import OTHER_SECRET, SECRET
from yarl import URL

import videre
from videre import namespace as namespace_module
from videre.command import certificates
from videre.command.certificates import Certificates
from videre.command.reloading import Newest
from videre.config import Config, load
from videre.config.schema import RELOADED, SCHEMA
from videre.peers.peer import Peer
from videre.settings import Limits

pytestmark = pytest.mark.process

FOREVER = 10_000_000_000  # as Unix time


class Reloading:
    """A server whose configuration changes while it runs."""

    def __init__(self, tmp: Path, server: Signaller, stack: AsyncExitStack) -> None:
        self.tmp = tmp
        self.server = server
        self._stack = stack
        self._read = 0

    async def enter(self, user: str, payload: object = "{}", **options: Any) -> Signalling:
        """Return a client that has sent its connect; see `connect` for the options."""
        framing: Framing = options.pop("framing", "raw")
        opened = connect(self.server.url, framing, user=user, room="room", **options)
        client = await self._stack.enter_async_context(opened)
        await client.send(client.packet("connect", payload))
        return client

    async def seated(self, user: str, payload: object = "{}", **options: Any) -> Signalling:
        """Return a client that has a seat."""
        client = await self.enter(user, payload, **options)
        assert (await client.receive())["Header"]["Event"] == "connect"
        return client

    async def change(self, config: Mapping[str, Any] | str, *events: str) -> dict[str, Any]:
        """Write another configuration, send SIGHUP, and return the event in the log.

        `events` are those to wait for, by default both.
        """
        text = config if isinstance(config, str) else json.dumps({"LogFile": "log", **config})
        (self.tmp / "new.json").write_text(text)
        (self.tmp / "new.json").replace(self.tmp / "conf.json")  # never half of it
        self.server.process.send_signal(signal.SIGHUP)
        return await self.logged(*(events or ("reload", "reload-refused")))

    async def logged(self, *events: str) -> dict[str, Any]:
        """Return the next log line with one of these events."""
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                lines = (self.tmp / "log").read_text().splitlines(keepends=True)
                for line in lines[self._read :]:
                    if not line.endswith("\n"):
                        break
                    self._read += 1
                    found: dict[str, Any] = json.loads(line)
                    if found["event"] in events:
                        return found
                await asyncio.sleep(0.01)


@asynccontextmanager
async def reloading(tmp: Path, **config: Any) -> AsyncIterator[Reloading]:
    """Run a signaller with a configuration."""
    async with (
        signaller(tmp=tmp, config={"LogFile": "log", **config}) as server,
        AsyncExitStack() as stack,
    ):
        yield Reloading(tmp, server, stack)


def code(packet: Packet) -> str:
    """Return the code of an error packet."""
    assert packet["Header"]["Event"] == "error", packet
    return str(json.loads(packet["Payload"])["Code"])


async def test_limits_of_rooms_and_packets(tmp_path: Path) -> None:
    """Connected clients get new limits, too; a limit removed from the file is switched off."""
    async with reloading(tmp_path) as run:
        a = await run.seated("a")
        told = await run.change({"RoomCapacity": 1, "PacketsPerSecond": 0.01, "PacketBurst": 1})
        assert told["changed"] == ["PacketBurst", "PacketsPerSecond", "RoomCapacity"]
        assert told["restart"] == []
        assert code(await (await run.enter("b")).receive()) == "room-full"
        for _ in range(2):
            await a.send(a.packet("broadcast"))
        assert code(await a.receive()) == "rate-limited"
        await run.change({"MaxPacketBytes": 300, "PacketsPerSecond": None})
        for _ in range(300):
            await a.send(a.packet("broadcast"))
        await a.send(a.packet("broadcast", "x" * 300))
        assert code(await a.receive()) == "packet-too-large"
        b = await run.seated("b")
        await run.change({"MaxRooms": 1, "Duplicate": "reject"})
        assert code(await (await run.enter("b")).receive()) == "user-taken"
        other = await run.enter("c")
        await other.receive()
        other.room = "another"
        assert code(await other.ask("connect")) == "room-full"
        assert b.user == "b"


async def test_many_sessions_change_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones change at once, and the rest in the following turns of the event loop."""
    monkeypatch.setattr(namespace_module, "REFRESHED_AT_ONCE", 2)
    app = web.Application()
    namespace = videre.setup(app)
    async with serving(app) as server:
        clients = await server.members("a", "b", "c", "d", "e")
        refreshed: list[Peer] = []
        all_are = asyncio.Event()
        refresh = Peer.refresh

        def noted(peer: Peer) -> None:
            refreshed.append(peer)
            refresh(peer)
            if len(refreshed) == len(clients):
                all_are.set()

        monkeypatch.setattr(Peer, "refresh", noted)
        namespace.reload(Config(limits=Limits(packets_per_second=0.001, packet_burst=1)))
        assert len(refreshed) == 2
        await asyncio.wait_for(all_are.wait(), WAIT_SECONDS)
        for user, client in zip("abcde", clients, strict=True):
            for _ in range(2):
                await client.send("broadcast", user, "room", "x")
            async with asyncio.timeout(WAIT_SECONDS):
                while (await client.heard())[0] != "error":
                    pass
        assert len(refreshed) == len(set(refreshed)) == len(clients)


async def test_limits_of_bytes(tmp_path: Path) -> None:
    """Connected clients get the new ones; odd values are applied, and logged as such."""
    async with reloading(tmp_path) as run:
        a = await run.seated("a")
        told = await run.change({"BytesPerSecond": 0.01, "ByteBurst": 1000})
        assert told["changed"] == ["ByteBurst", "BytesPerSecond"]
        for _ in range(3):
            await a.send(a.packet("broadcast", "x" * 500))
        assert code(await a.receive()) == "rate-limited"
        await run.change({"BytesPerSecond": None})
        complaint = await run.logged("config-complaint")
        assert complaint["level"] == "warning" and "BytesPerSecond" in complaint["complaints"][0]
        for _ in range(3):
            await a.send(a.packet("broadcast", "x" * 60_000))
        assert (await a.ask("ping"))["Header"]["Event"] == "ping"


async def test_limits_of_lost_seats(tmp_path: Path) -> None:
    """A connection lost from now on counts under the new limit."""
    async with reloading(tmp_path) as run:
        a = await run.seated("a")
        await run.change({"MaxLostSeatsPerAddress": 1})
        for user in ("b", "c"):
            client = await run.seated(user, {"Welcome": True})
            assert (await client.receive())["Header"]["Event"] == "welcome"
            await client.close(4000)  # as after an error: its seat stays
            assert (await a.receive())["Header"]["UserId"] == user
        await run.logged("too-many-lost-seats")
        left = (await a.receive())["Header"]
        assert (left["Event"], left["UserId"]) == ("disconnect", "b")


async def test_limits_of_connections(tmp_path: Path) -> None:
    """These are the limits in all, per address and per second, the backlog, the join timeout."""
    async with reloading(tmp_path) as run:
        await run.seated("a")
        for limit in ("MaxConnections", "MaxConnectionsPerAddress"):
            assert (await run.change({limit: 1}))["changed"]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await run.enter("b")
            assert refused.value.status == 503
        await run.change({"ConnectsPerSecondPerAddress": 0.001, "MaxBacklogBytes": 4096})
        await run.seated("c")
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await run.enter("d")
        await run.change({"JoinTimeout": 0.1})
        framed = connect(run.server.url, "raw", user="idle", room="room")
        async with framed as idle:
            with pytest.raises(Closed) as closed:
                await idle.receive()
        assert closed.value.code == 4004


async def test_origins_and_proxies(tmp_path: Path) -> None:
    """Other origins are refused, and the proxy is trusted."""
    async with reloading(tmp_path, MaxConnectionsPerAddress=1) as run:
        info = f"{run.server.url}/info"
        async with aiohttp.ClientSession(headers={"Origin": "https://other.example"}) as http:
            async with http.get(info) as answer:
                assert answer.status == 200
            await run.change(
                {
                    "Origins": ["https://mine.example"],
                    "TrustedProxies": ["127.0.0.1"],
                    "MaxConnectionsPerAddress": 1,
                }
            )
            async with http.get(info) as answer:
                assert answer.status == 403
        async with aiohttp.ClientSession() as http:
            for client in ("192.0.2.1", "192.0.2.2"):  # one connection for each of two addresses
                headers = {"X-Forwarded-For": client}
                socket = await http.ws_connect(f"{run.server.url}/websocket", headers=headers)
                assert not socket.closed
            proxied = {"TrustedProxies": ["127.0.0.1"], "MaxConnectionsPerAddress": 1}
            await run.change({**proxied, "ClientAddressHeader": "X-Real-IP"})
            headers = {"X-Real-IP": "192.0.2.3", "X-Forwarded-For": "192.0.2.1"}
            socket = await http.ws_connect(f"{run.server.url}/websocket", headers=headers)
            assert not socket.closed


async def test_limits_of_sockets(tmp_path: Path) -> None:
    """They limit an address and the total, for sessions and other connections alike."""
    async with reloading(tmp_path) as run:
        await run.seated("a")
        assert (await run.change({"MaxSocketsPerAddress": 1}))["changed"]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await run.enter("b")
        assert refused.value.status == 503
        await run.change({})
        for number in range(14):
            await run.seated(f"user{number}")
        # Only now: with more than half of its sockets in use, the server looks once a second for
        # idle ones to close, and would take a client for one whose request comes late.
        assert (await run.change({"MaxSockets": 16}))["changed"]
        await run.seated("the last one")
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await run.enter("one too many")


async def test_limits_of_sockets_of_the_admin_port(tmp_path: Path) -> None:
    """They may change there, too: a limit that shuts operators out can be raised."""
    narrow = {"AdminPort": 0, "MaxSocketsPerAddress": 1}
    async with reloading(tmp_path, **narrow) as run, aiohttp.ClientSession() as http:
        url = (await run.logged("listen"))["admin"]
        first, writer = await asyncio.open_connection("127.0.0.1", URL(url).port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await first.readuntil(b"healthy")
        async with http.get(url) as answer:
            assert answer.status == 503
        await run.change({"AdminPort": 0})
        async with http.get(url) as answer:
            assert answer.status == 200
        writer.close()


async def test_secrets(tmp_path: Path) -> None:
    """Tokens signed with the new secret are valid, those with the old one are not; members stay."""

    def bearer(secret: str, user: str) -> dict[str, str]:
        claims = {"sub": user, "room": "room", "exp": FOREVER}
        return {"Token": jwt.encode(claims, secret, "HS256")}

    async with reloading(tmp_path, Auth={"Secrets": [SECRET]}) as run:
        a = await run.seated("a", bearer(SECRET, "a"))
        told = await run.change({"Auth": {"Secrets": [OTHER_SECRET]}})
        assert told["changed"] == ["Auth"] and SECRET not in (tmp_path / "log").read_text()
        stranger = await run.enter("b", bearer(SECRET, "b"))
        assert code(await stranger.receive()) == "unauthorized"
        await run.seated("b", bearer(OTHER_SECRET, "b"))
        assert (await a.receive())["Header"]["UserId"] == "b"


async def test_new_ice_servers(tmp_path: Path) -> None:
    """Members that ask from now on get the new ones."""
    old, new = [{"urls": "stun:old.example"}], [{"urls": "stun:new.example"}]
    async with reloading(tmp_path, IceServers=old) as run:
        a = await run.seated("a")
        assert "stun:old.example" in (await a.ask("ice"))["Payload"]
        assert (await run.change({"IceServers": new}))["changed"] == ["IceServers"]
        payload = (await a.ask("ice"))["Payload"]
        assert "stun:new.example" in payload and "old" not in payload
        b = await run.enter("b", {"Welcome": True})
        await b.receive()
        assert "stun:new.example" in (await b.receive())["Payload"]


async def test_the_log_level(tmp_path: Path) -> None:
    """Debug logs packets, of connected clients too, until the level rises again."""
    async with reloading(tmp_path) as run:
        a = await run.seated("a")
        await run.change({"LogLevel": "debug"})
        await a.ask("ping")
        assert (await run.logged("packet"))["packet"] == "ping"
        await run.change({"LogLevel": "warning"})
        await a.ask("ping")
        await a.send(a.packet("nonsense"))
        assert code(await a.receive()) == "invalid-packet"
        await run.logged("error")
        lines = (tmp_path / "log").read_text().splitlines()
        assert [json.loads(line)["event"] for line in lines[-2:]] == ["reload", "error"]


async def test_the_drain_time(tmp_path: Path) -> None:
    """A planned restart may become urgent."""
    async with reloading(tmp_path, DrainSeconds=600) as run:
        a = await run.seated("a")
        await run.change({"DrainSeconds": 0})
        run.server.process.send_signal(signal.SIGTERM)
        with pytest.raises(Closed) as closed:
            await a.receive()
        assert closed.value.code == 1001
        assert await run.server.process.wait() == 0


@pytest.mark.parametrize("others", [False, True])
async def test_the_token_of_the_admin_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: bool
) -> None:
    """It may change wherever it is stored, and be removed only if the port is not public."""
    tokens = {key: f"the-admin-token-by-{key}" for key in ("one", "file", "variable")}
    monkeypatch.setenv("TOKEN_OF_THIS_TEST", tokens["variable"])
    (tmp_path / "token").write_text(tokens["file"])
    first = {"AdminPort": 0, "AdminToken": tokens["one"], "DrainSeconds": 0}
    host = {"AdminHost": "0.0.0.0"} if others else {}
    async with reloading(tmp_path, **first, **host) as run, aiohttp.ClientSession() as http:
        url = (await run.logged("listen"))["admin"] + ".json"

        async def good() -> list[str]:
            found = []
            for token in (*tokens.values(), ""):
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                async with http.get(url, headers=headers) as answer:
                    found += [token] if answer.status == 200 else []
            return found

        assert await good() == [tokens["one"]]
        kept = {"AdminPort": 0, **host}
        told = await run.change({**kept, "AdminTokenFile": "token"})
        assert {"AdminToken", "AdminTokenFile"} <= set(told["changed"])
        assert await good() == [tokens["file"]]
        await run.change({**kept, "AdminTokenVariable": "TOKEN_OF_THIS_TEST"})
        assert await good() == [tokens["variable"]]
        told = await run.change({"AdminPort": 0})
        assert told["restart"] == (["AdminHost"] if others else [])
        assert await good() == ([tokens["variable"]] if others else [*tokens.values(), ""])


async def test_packets_of_the_admin_port(tmp_path: Path) -> None:
    """They may be as long as a member's, before and after a change."""
    async with reloading(tmp_path, AdminPort=0) as run, aiohttp.ClientSession() as http:
        a = await run.seated("a")
        url = (await run.logged("listen"))["admin"].replace("/status", "/api/v1/packets?room=room")

        async def sent(size: int) -> int:
            async with http.post(url, json={"Payload": "x" * size}) as answer:
                return answer.status

        assert (await sent(1000), await sent(200_000)) == (200, 413)
        await run.change({"MaxPacketBytes": 300_000, "AdminPort": 0})
        assert (await sent(200_000), await sent(400_000)) == (200, 413)
        await run.change({"MaxPacketBytes": 300, "AdminPort": 0})
        assert (await sent(100), await sent(1000)) == (200, 413)
        sizes = [len((await a.receive())["Payload"]) for _ in range(3)]
        assert sizes == [1000, 200_000, 100]


async def test_compression(tmp_path: Path) -> None:
    """New connections may negotiate permessage-deflate."""
    async with reloading(tmp_path) as run, aiohttp.ClientSession() as http:
        url = f"{run.server.url}/websocket"
        async with http.ws_connect(url, compress=15) as socket:
            assert not socket.compress
        await run.change({"Compression": True})
        async with http.ws_connect(url, compress=15) as socket:
            assert socket.compress


async def test_changes_that_need_a_restart(tmp_path: Path) -> None:
    """Each reload reports them until the restart; the file's other changes apply."""
    async with reloading(tmp_path) as run:
        change = {"Port": 1, "Prefix": "/other", "Grace": 5, "RoomCapacity": 1}
        told = await run.change(change)
        assert (told["changed"], told["restart"]) == (
            ["RoomCapacity"],
            ["Grace", "Prefix"],  # the port comes from an option
        )
        told = await run.change(change)
        assert (told["changed"], told["restart"]) == ([], ["Grace", "Prefix"])
        told = await run.change({})
        assert (told["changed"], told["restart"]) == (["RoomCapacity"], [])


async def test_what_waits_for_a_restart_is_not_in_force(tmp_path: Path) -> None:
    """The proxy goes on without the PROXY protocol, as the log line says."""
    proxies = {"TrustedProxies": ["127.0.0.1"]}
    async with reloading(tmp_path, **proxies) as run:
        told = await run.change({**proxies, "ProxyProtocol": True, "KeepAlive": 1})
        assert (told["changed"], told["restart"]) == ([], ["KeepAlive", "ProxyProtocol"])
        await run.seated("a")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            '{"RoomCapacity": 0, "Grace": "long", "RoomCapacity2": 1}',
            ["RoomCapacity: 0: min value is 1", "Grace", "RoomCapacity2"],
        ),
        ("{", ["is not JSON"]),
        ('{"TLS": true}', ["Cert", "Key"]),
        ('{"Auth": {"Secrets": ["short"]}}', ["Auth"]),
    ],
)
async def test_an_invalid_configuration(text: str, faults: list[str], tmp_path: Path) -> None:
    """The log has all faults and the file's name; the old configuration stays complete."""
    async with reloading(tmp_path, RoomCapacity=1) as run:
        a = await run.seated("a")
        told = await run.change(text)
        assert told["event"] == "reload-refused" and told["level"] == "warning"
        assert all(any(fault in each for each in told["faults"]) for fault in faults), told
        assert all("conf.json" in each for each in told["faults"])
        assert code(await (await run.enter("b")).receive()) == "room-full"
        assert (await a.ask("ping"))["Payload"] == '["a"]'


async def test_reloads_in_a_row_under_load(tmp_path: Path) -> None:
    """However many there are, the last one counts, and no packet is lost."""
    async with reloading(tmp_path, PacketsPerSecond=None) as run:
        a, b = await run.seated("a"), await run.seated("b")
        await a.receive()
        for number in range(50):
            run.server.process.send_signal(signal.SIGHUP)
            await a.send(a.packet("broadcast", number))
        for number in range(50):
            assert (await b.receive())["Payload"] == number
        told = await run.change({"RoomCapacity": 2})
        while "RoomCapacity" not in told["changed"]:
            told = await run.logged("reload")
        assert code(await (await run.enter("c")).receive()) == "room-full"


# Certificates.


async def serial(port: int) -> int:
    """Return the serial number of the certificate that a new connection sees."""
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(der).serial_number


def serial_in(path: Path) -> int:
    """Return the serial number of the certificate in a file."""
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


async def test_a_new_certificate(tmp_path: Path) -> None:
    """New handshakes use it, on SIGHUP with or without other changes; connections stay."""
    certificate, key = self_signed(tmp_path)
    files = {"TLS": True, "Cert": certificate.name, "Key": key.name}
    async with reloading(tmp_path, **files) as run:
        trust = ssl.create_default_context(cafile=certificate)
        a = await run.seated("a", ssl=trust)
        first = serial_in(certificate)
        assert await serial(run.server.port) == first
        self_signed(tmp_path)
        assert serial_in(certificate) != first
        # The server looks at the files by itself, too, and refuses a pair that is half written.
        await run.change(files, "reload")
        assert await serial(run.server.port) == serial_in(certificate)
        assert (await a.ask("ping"))["Payload"] == '["a"]'
        (elsewhere := tmp_path / "elsewhere").mkdir()
        moved, moved_key = self_signed(elsewhere)
        told = await run.change({**files, "Cert": str(moved), "Key": str(moved_key)})
        assert told["changed"] == ["Cert", "Key"]
        assert await serial(run.server.port) == serial_in(moved)
        told = await run.change({"TLS": False})
        assert told["restart"] == ["TLS"]
        assert await serial(run.server.port) == serial_in(moved), "until the restart it has TLS"
        key.write_text("no key")
        told = await run.change(files)
        assert told["event"] == "reload-refused"
        assert await serial(run.server.port) == serial_in(moved)
        assert (await a.ask("ping"))["Payload"] == '["a"]'


@pytest.mark.parametrize("name", ["nul\0", "surrogate\ud800"])
@pytest.mark.parametrize("key", ["Cert", "Key"])
def test_names_that_no_file_can_have(key: str, name: str, tmp_path: Path) -> None:
    """Without TLS, at the start and at a reload, they are like names of missing files."""
    conf = tmp_path / "conf.json"
    conf.write_text(json.dumps({key: name}))
    config = load(conf)
    unused = Certificates(config)
    unused.renew(config)
    assert unused.context is None


async def test_what_a_restarted_worker_inherits(tmp_path: Path) -> None:
    """The newest valid configuration and its certificate, even if the files have broken since."""
    certificate, key = self_signed(tmp_path)
    settings = {"TLS": True, "Cert": certificate.name, "Key": key.name}
    (conf := tmp_path / "conf.json").write_text(json.dumps(settings))
    inherited = Certificates(load(conf))
    newest = Newest(lambda: load(conf), inherited)
    assert newest.config is None
    self_signed(tmp_path)
    conf.write_text(json.dumps({**settings, "Origins": ["https://new.example"]}))
    newest.reload()
    second = serial_in(certificate)
    key.write_text("no key")
    conf.write_text(json.dumps(settings))
    newest.reload()
    conf.write_text("{")
    newest.reload()
    assert newest.config is not None
    assert newest.config.document["Origins"] == ["https://new.example"]
    server = await asyncio.start_server(
        lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=inherited.context
    )
    async with server:
        assert await serial(server.sockets[0].getsockname()[1]) == second


class Watched(NamedTuple):
    """A pair of files that is watched, and what was reported of it."""

    pair: Certificates
    files: list[Path]
    news: asyncio.Queue[object]


@contextmanager
def watching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Write a configuration with a certificate, which is watched from the next turn on."""
    monkeypatch.setattr(certificates, "WATCH", 0.01)
    certificate, key = self_signed(tmp_path)
    (conf := tmp_path / "conf.json").write_text(
        json.dumps({"TLS": True, "Cert": certificate.name, "Key": key.name})
    )
    watched = Watched(Certificates(load(conf)), [certificate, key], asyncio.Queue())
    put = watched.news.put_nowait
    task = asyncio.create_task(watched.pair.watch(lambda: put("new"), put))
    try:
        yield watched
    finally:
        task.cancel()


async def test_a_changed_certificate_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No signal is needed; a mismatched pair is ignored and logged once, a complete one is used."""
    with watching(tmp_path, monkeypatch) as (watched, (certificate, key), news):
        server = await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=watched.context
        )
        port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                first = serial_in(certificate)
                assert await serial(port) == first
                (elsewhere := tmp_path / "elsewhere").mkdir()
                new, new_key = self_signed(elsewhere)
                new.replace(certificate)
                (fault,) = await news.get()  # type: ignore[misc]
                assert "does not match the certificate" in fault and "conf.json" in fault  # type: ignore[has-type]
                assert await serial(port) == first
                new_key.replace(key)
                assert await news.get() == "new"
                assert await serial(port) == serial_in(certificate) != first
                key.unlink()
                (fault,) = await news.get()  # type: ignore[misc]
                assert "No such file" in fault  # type: ignore[has-type]
                assert await serial(port) == serial_in(certificate)
                assert news.empty()
        finally:
            server.close()


async def test_an_earlier_certificate_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a SIGHUP for a new pair, the files of the first one are moved back."""
    with watching(tmp_path, monkeypatch) as (watched, files, news):
        await asyncio.sleep(0)  # it has begun to watch the first pair
        kept = [each.rename(each.with_suffix(".kept")) for each in files]
        self_signed(tmp_path)
        watched.renew(load(tmp_path / "conf.json"))
        for each, path in zip(kept, files, strict=True):
            each.replace(path)
        async with asyncio.timeout(WAIT_SECONDS):
            assert await news.get() == "new"


def test_each_reloadable_key_is_tested() -> None:
    """This module names every key of RELOADED, and each of these is a key."""
    text = Path(__file__).read_text()
    assert {key for key in RELOADED if f'"{key}"' not in text and f"{key}=" not in text} == set()
    assert set(SCHEMA) >= RELOADED


def test_the_docs_list_the_reloadable_keys() -> None:
    """A list of docs/operations.md names exactly the keys of RELOADED."""
    text = (ROOT / "docs" / "operations.md").read_text()
    lists = re.findall(r"^(?:- |  ).*(?:\n(?:- |  ).*)*", text, re.MULTILINE)
    told = [set(re.findall(r"`([A-Z][a-z]\w+)`", each)) for each in lists]
    assert RELOADED in told
