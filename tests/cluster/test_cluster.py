"""Servers on one Valkey: no failure loses anything silently.

A server that is killed, frozen or stopped is a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aioice.ice
import pytest
from callers import CALL_SECONDS, caller, negotiate
from cluster import (
    TOLD_SECONDS,
    Cluster,
    Stopwatch,
    cluster,
    proxy,
)
from engine_nodes import LEASE
from patience import WAIT_SECONDS, eventually
from process import node, node_modules, require
from signalling import Packet, Signalling
from skipping import skip
from sockjs_client import Wire, fresh, poll, send
from test_nginx import addresses, nginx
from valkey_server import Valkey, valkey

from videre.engines.redis.connecting import COMMAND_SECONDS

pytestmark = pytest.mark.process

DURABLE = ["--appendonly", "yes", "--appendfsync", "always"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Run a Valkey without persistence."""
    (tmp_path / "valkey").mkdir()
    async with valkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
async def nodes(tmp_path: Path, store: Valkey) -> AsyncIterator[Cluster]:
    """Give a cluster on it."""
    async with cluster(tmp_path, store.url) as nodes:
        yield nodes


async def test_a_killed_node(nodes: Cluster) -> None:
    """Its members leave within NodeTimeout + 2 s, once; a resumable seat moves to another node."""
    [first], [second, third] = await nodes.add(1), await nodes.local(2)
    a = await nodes.seated(first, "a")
    w, secret = await nodes.welcomed(first, "w", a)
    b = await nodes.seated(second, "b", a, w)
    c = await nodes.seated(third, "c", a, w, b)
    await first.kill()
    since = Stopwatch()
    await b.says("while w is away")
    await c.hears(("broadcast", "b", "while w is away"))
    await nodes.elapse(TOLD_SECONDS)
    for each in (b, c):
        await each.hears(("disconnect", "a", ""))
    since.within(TOLD_SECONDS)
    back = await nodes.client(third, "w", {"Resume": secret, "Received": 2})
    await back.hears(("connect", "w", "true"))  # it was promoted during its absence
    event, _, welcome = await back.hear()
    assert (event, welcome["Resumed"]) == ("welcome", True)
    await back.hears(
        ("broadcast", "b", "while w is away"), ("disconnect", "a", ""), ("connect", "w", "true")
    )
    for each in (b, c, back):
        await each.send("ping")
        assert await each.hear() == ("ping", each.user, ["w", "b", "c"])
    await back.send("disconnect")
    for each in (b, c):
        await each.hears(("disconnect", "w", ""))
    await b.hears(("connect", "b", "true"))
    await c.hears_nothing()


async def test_a_frozen_node(nodes: Cluster) -> None:
    """When it continues, its seats are gone: it closes them with 4001 and publishes nothing."""
    [first], [second] = await nodes.add(1), await nodes.local(1)
    a = await nodes.seated(first, "a")
    b = await nodes.seated(second, "b", a)
    first.process.send_signal(signal.SIGSTOP)
    since = Stopwatch()
    await a.send("broadcast", "late")
    await nodes.elapse(TOLD_SECONDS)
    await b.hears(("disconnect", "a", ""), ("connect", "b", "true"))
    since.within(TOLD_SECONDS)
    c = await nodes.seated(second, "c", b)
    first.process.send_signal(signal.SIGCONT)
    assert await a.close_code() == 4001
    again = await nodes.seated(first, "a", b, c)
    for each in (again, b, c):
        await each.send("ping")
        assert await each.hear() == ("ping", each.user, ["b", "c", "a"])


@pytest.mark.parametrize("kept", [False, True], ids=["empty", "with its data"])
async def test_the_store_restarts(tmp_path: Path, kept: bool) -> None:
    """Requests meanwhile get an error; connections and roles stay, nobody hears a false leave."""
    (tmp_path / "valkey").mkdir()
    async with (
        valkey(tmp_path / "valkey", *(DURABLE if kept else [])) as store,
        cluster(tmp_path, store.url) as nodes,
    ):
        first, second = await nodes.local(2)
        a, secret = await nodes.welcomed(first, "a")
        b = await nodes.seated(second, "b", a)
        d = await nodes.seated(first, "d", a, b)
        await store.stop()
        for each in (a, b):
            await each.send("broadcast", "lost, and told so")
            await each.hears(("error", each.user, "unavailable"))
            await each.hears_nothing()
        newcomer = await nodes.client(first, "c")
        await newcomer.hears(("error", "c", "unavailable"))
        await d.signalling.close()  # it must not be forgotten
        await store.start()
        await nodes.elapse(1.5 * LEASE)  # for one lease an empty store leaves a doubt about d
        await a.says("to all")
        await b.says("to all")
        heard = [await a.hear(), await a.hear(), await b.hear(), await b.hear()]
        left = ("disconnect", "d", "")
        assert sorted(heard[:2]) == [("broadcast", "b", "to all"), left]
        assert sorted(heard[2:]) == [("broadcast", "a", "to all"), left]
        await newcomer.keep_sending("connect")
        for each in (a, b, newcomer):
            await each.hears(("connect", "c", "false"))
        await nodes.elapse(2 * LEASE)  # time in which a false packet might arrive
        for each in (a, b, newcomer):
            await each.send("ping")
            assert await each.hear() == ("ping", each.user, ["a", "b", "c"])
        await a.send("disconnect")
        for each in (b, newcomer):
            await each.hears(("disconnect", "a", ""))
        await b.hears(("connect", "b", "true"))
        await newcomer.hears_nothing()
        assert secret


async def test_the_store_of_two_processes_restarts(tmp_path: Path) -> None:
    """It comes back empty; both restore it at the same time, and nobody hears a false leave."""
    (tmp_path / "valkey").mkdir()
    async with (
        valkey(tmp_path / "valkey") as store,
        cluster(tmp_path, store.url) as nodes,
    ):
        first, second = await nodes.add(2)
        a = await nodes.seated(first, "a")
        b = await nodes.seated(second, "b", a)
        c = await nodes.seated(first, "c", a, b)
        await store.stop()
        await store.start()
        for speaker, text in ((a, "one"), (b, "two"), (c, "three")):
            await speaker.says(text)
            for each in {a, b, c} - {speaker}:
                await each.hears(("broadcast", speaker.user, text))
        for each in (a, b, c):
            await each.send("ping")
            assert await each.hear() == ("ping", each.user, ["a", "b", "c"])


async def test_a_node_is_cut_off_for_long(nodes: Cluster, store: Valkey) -> None:
    """Its clients get errors, others hear that they left; later its clients are asked to return."""
    async with proxy(store.port) as way:
        [first], [second] = await nodes.local(1, engine=way.url), await nodes.local(1)
        a = await nodes.seated(first, "a")
        b = await nodes.seated(second, "b", a)
        way.cut()
        await a.send("broadcast", "lost, and told so")
        await nodes.elapse(2 * LEASE, second)
        await b.hears(("disconnect", "a", ""), ("connect", "b", "true"))
        await a.hears(("error", "a", "unavailable"))
        name = first.node.engine._node.name
        way.mend()
        await nodes.until(lambda: first.node.engine._node.name != name)  # it was given up
        assert await a.close_code() == 4001
        await nodes.seated(first, "a", b)
        await b.hears_nothing()


async def test_a_node_is_cut_off_for_a_short_while(nodes: Cluster, store: Valkey) -> None:
    """Nobody leaves: packets sent meanwhile arrive late, and once."""
    timeout: dict[str, Any] = {"NodeTimeout": 20}
    async with proxy(store.port) as way:
        [first] = await nodes.local(1, engine=way.url, **timeout)
        [second] = await nodes.local(1, **timeout)
        a = await nodes.seated(first, "a")
        b = await nodes.seated(second, "b", a)
        way.cut()
        await b.says("meanwhile")
        await a.send("broadcast", "lost, and told so")
        await eventually(lambda: first.node.is_busy)
        skip(COMMAND_SECONDS)
        await a.hears(("error", "a", "unavailable"))
        way.mend()
        await nodes.ready()
        assert (await a.hear()) == ("broadcast", "b", "meanwhile")
        await a.says("back again")
        heard = await b.hear()
        if heard[2] == "lost, and told so":  # it was not lost: nobody could know
            heard = await b.hear()
        assert heard == ("broadcast", "a", "back again")
        for each in (a, b):
            await each.hears_nothing()


async def test_a_store_that_does_not_answer(nodes: Cluster, store: Valkey) -> None:
    """Every request gets an error within seconds, however many there are; later all goes on."""
    first, second = await nodes.local(2, PacketsPerSecond=None)
    a = await nodes.seated(first, "a")
    b = await nodes.seated(second, "b", a)
    store.signal(signal.SIGSTOP)
    for number in range(500):
        await a.send("broadcast", number)
    await eventually(lambda: first.node.is_busy)
    skip(COMMAND_SECONDS)
    for _ in range(500):
        await a.hears(("error", "a", "unavailable"))
    store.signal(signal.SIGCONT)
    await nodes.ready()
    await b.says("again")
    await a.hears(("broadcast", "b", "again"))
    await a.says("again")
    while (heard := await b.hear()) != ("broadcast", "a", "again"):
        assert heard[0] == "broadcast"  # replies to requests whose outcome is unknown
    for each in (a, b):
        await each.hears_nothing()


async def test_a_leave_while_the_store_hangs(nodes: Cluster, store: Valkey) -> None:
    """Who leaves by a packet stays connected, hears nothing more, and may join again."""
    first, second = await nodes.local(2)
    a = await nodes.seated(first, "a")
    b = await nodes.seated(second, "b", a)
    store.signal(signal.SIGSTOP)
    await b.send("disconnect")
    await b.send("disconnect")
    await eventually(lambda: second.node.is_busy)
    skip(COMMAND_SECONDS)
    await b.hears(("error", "b", "not-in-room"))
    store.signal(signal.SIGCONT)
    await nodes.ready()
    await a.hears(("disconnect", "b", ""))
    await a.says("not for b")
    await b.send("connect")
    await b.hears(("connect", "b", "false"))
    await a.hears(("connect", "b", "false"))


async def test_a_full_store(nodes: Cluster, store: Valkey) -> None:
    """A newcomer gets an error, members stay, and a leave is not forgotten."""
    first, second = await nodes.local(2)
    a = await nodes.seated(first, "a")
    b = await nodes.seated(second, "b", a)
    d = await nodes.seated(second, "d", a, b)
    await store.ask("CONFIG", "SET", "maxmemory", 1)
    c = await nodes.client(first, "c")
    await c.hears(("error", "c", "unavailable"))
    await d.signalling.close()
    await store.ask("CONFIG", "SET", "maxmemory", 0)
    await nodes.ready()
    for each in (a, b):
        await each.hears(("disconnect", "d", ""))
    await a.says("on we go")
    await b.hears(("broadcast", "a", "on we go"))


async def test_a_node_is_stopped(nodes: Cluster) -> None:
    """A rolling restart: clients are closed with 1001, resume elsewhere, and miss nothing."""
    [first], [second] = await nodes.add(1), await nodes.local(1)
    b = await nodes.seated(second, "b")
    a, secret = await nodes.welcomed(first, "a", b)
    stopping = asyncio.create_task(first.stop())
    assert await a.close_code() == 1001
    await b.says("while away")
    back = await nodes.client(second, "a", {"Resume": secret, "Received": 0})
    await back.hears(("connect", "a", "false"))
    event, _, welcome = await back.hear()
    assert (event, welcome["Resumed"]) == ("welcome", True)
    await back.hears(("broadcast", "b", "while away"))
    assert await stopping == 0
    await b.hears_nothing()
    [third] = await nodes.local(1)
    c = await nodes.client(third, "c")
    for each in (b, back, c):
        await each.hears(("connect", "c", "false"))


class Bystanding:
    """A caller's signalling, which also hears a third member of the room."""

    def __init__(self, signalling: Signalling, third: str) -> None:
        self._signalling = signalling
        self._third = third
        self.overheard: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signalling, name)

    async def receive(self) -> Packet:
        """Return the next packet that is not about the third member."""
        while (packet := await self._signalling.receive())["Header"]["UserId"] == self._third:
            self.overheard.append(packet["Header"]["Event"])
        return packet


async def test_a_call_is_set_up_while_a_node_is_killed(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two aiortc peers on two nodes get their data channel while a third member's node dies."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    [third], [first, second] = await nodes.add(1), await nodes.local(2)
    async with (
        asyncio.timeout(CALL_SECONDS),
        caller(first, "raw", user="peer1", room="room") as peer1,
        caller(second, "sockjs", user="peer2", room="room") as peer2,
    ):
        for peer, heard in ((peer1, "true"), (peer2, "false")):
            await peer.signalling.send(peer.signalling.packet("connect"))
            await peer.hears("connect", heard, user=peer.signalling.user)
        await peer1.hears("connect", "false", user="peer2")
        overhearing = [Bystanding(peer.signalling, "third") for peer in (peer1, peer2)]
        peer1.signalling, peer2.signalling = overhearing  # type: ignore[assignment]
        await (await nodes.client(third, "third")).hears(("connect", "third", "false"))

        await peer1.offers()
        killing = asyncio.create_task(third.kill())
        await negotiate(peer1, peer2)
        (await peer1.channel).send("Do you see me?")
        assert await peer2.messages.get() == "Do you see me?"
        (await peer2.channel).send("I do")
        assert await peer1.messages.get() == "I do"
        await killing
        await nodes.elapse(TOLD_SECONDS)

        while any(each.overheard != ["connect", "disconnect"] for each in overhearing):
            for each in overhearing:
                await each.send(each.packet("ping"))
                assert (await each.receive())["Header"]["Event"] == "ping"
            await asyncio.sleep(0.05)
        await peer1.signalling.close()
        await peer2.hears("disconnect", "", user="peer1")
        await peer2.hears("connect", "true", user="peer2")


async def test_polling_clients_behind_nginx_meet(nodes: Cluster, tmp_path: Path) -> None:
    """docs/nginx.conf, two servers: each session's polls reach one, and both share the room."""
    require("nginx")
    signallers = await nodes.add(2, TrustedProxies=["127.0.0.1"])
    (own := tmp_path / "nginx").mkdir()
    async with nginx(own, addresses(signallers)) as proxy:
        sessions = [fresh() for _ in range(24)]  # nginx sends all to one server once in 2**23 times

        async def polled(session: str) -> list[dict[str, Any]]:
            frame = await poll(proxy.base, session)
            assert frame[0] in "ah", frame
            return [json.loads(text) for text in json.loads(frame[1:] or "[]")]

        async def sends(number: int, event: str, payload: str = "{}") -> None:
            header = {"Event": event, "UserId": f"u{number}", "RoomId": "room"}
            text = json.dumps({"Header": header, "Payload": payload})
            assert (await send(proxy.base, sessions[number], text)).status == 204

        for number, session in enumerate(sessions):
            assert await poll(proxy.base, session) == "o\n"
            await sends(number, "connect")
            heard = await polled(session)
            role = json.dumps(number == 0)
            assert (heard[0]["Header"]["UserId"], heard[0]["Payload"]) == (f"u{number}", role)
        await sends(len(sessions) - 1, "broadcast", "to all")
        async with asyncio.timeout(WAIT_SECONDS):
            for session in sessions[:-1]:
                heard = []
                while not heard or heard[-1]["Header"]["Event"] != "broadcast":
                    heard += await polled(session)
                assert heard[-1]["Payload"] == "to all"
        used = {line.split()[-1] for line in proxy.log.read_text(encoding="utf-8").splitlines()}
        assert used == {f"127.0.0.1:{each.port}" for each in signallers}
        await Wire.hang_up()


async def test_the_real_sockjs_client_polls_behind_nginx(nodes: Cluster, tmp_path: Path) -> None:
    """It sets up a call through docs/nginx.conf and two servers, whichever it reaches."""
    require("nginx")
    node_modules()
    (own := tmp_path / "nginx").mkdir()
    signallers = await nodes.add(2, TrustedProxies=["127.0.0.1"])
    async with nginx(own, addresses(signallers)) as proxy, asyncio.timeout(WAIT_SECONDS):
        lines = await node(
            "seven_steps.mjs", f"{proxy.base}/echo", "room", "xhr-polling", "xhr-polling"
        )
    said = {
        (peer, event): [
            each["text"]
            for each in lines
            if (each["peer"], each["event"]) == (peer, event) and "broadcast" in each["text"]
        ]
        for peer in ("peer1", "peer2")
        for event in ("sent", "heard")
    }
    assert len(said["peer1", "sent"]) == 11
    assert said["peer2", "heard"] == said["peer1", "sent"]
    assert said["peer1", "heard"] == said["peer2", "sent"]
