"""Nodes that share a store: all see the same events in the same order."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from engine_contract import HALVES
from engine_nodes import GRACE, LEASE, Nodes, nodes_on
from patience import WAIT_SECONDS, eventually
from redis.asyncio import Redis
from skipping import skip
from valkey_server import Valkey, redis_tls, until, valkey, valkey_sentinel

from videre.engines.redis.duties import AT_A_TIME
from videre.errors import EngineError, Unauthorized, UserTaken
from videre.ids import RoomId

pytestmark = pytest.mark.process


@pytest.fixture
async def client(server: Valkey) -> AsyncIterator[Redis]:
    """Give a client of the server that inspects and disturbs it."""
    client = Redis.from_url(server.url, decode_responses=True)
    yield client
    await client.aclose()


async def meet(nodes: Nodes) -> None:
    """Let members of two nodes meet, lose and resume a seat, and leave; then let a node die."""
    one, two = await nodes.add(), await nodes.add()
    a, b = await one.join("a"), await two.join("b", ticket="t")
    await one.engine.publish("room", a, "hello")
    await two.engine.publish("room", b, "for a", ["a"])
    heard = await one.hears("joined", "joined", "sent", "sent")
    assert heard[2:] == [("sent", "room", a, "hello"), ("sent", "room", b, "for a", "a")]
    await two.hears("joined", "sent", "sent")
    two.engine.lose("room", "b", b)
    b, missed = await one.resume("b", "t")
    assert missed == [("sent", "a", "hello")]
    await one.engine.leave("room", "a", a, "done")
    await one.hears("moved", "left")
    c = await two.join("c")
    assert await one.engine.rooms(None, 1000) == ["room"]
    await two.die()
    await nodes.elapse(2 * LEASE)
    heard = await one.hears("joined", "left")
    assert heard[1] == ("left", "room", "c", c, "engine", "4001")
    assert await one.engine.members("room") == ["b"]


async def test_nodes_meet_on_valkey(nodes: Nodes) -> None:
    """Two nodes share a room on one server."""
    await meet(nodes)


async def test_nodes_meet_on_a_cluster(cluster_url: str) -> None:
    """Two nodes share a room on a cluster of servers."""
    async with nodes_on(cluster_url) as nodes:
        await meet(nodes)


async def test_nodes_meet_behind_a_sentinel(tmp_path: Path) -> None:
    """Two nodes share a room on the server that a sentinel names."""
    async with valkey_sentinel(tmp_path) as url, nodes_on(url) as nodes:
        await meet(nodes)


async def test_nodes_meet_over_tls(tmp_path: Path) -> None:
    """Two nodes share a room on a Redis with TLS, a certificate and a password."""
    async with redis_tls(tmp_path) as server, nodes_on(server.url) as nodes:
        await meet(nodes)


async def test_nodes_see_each_other(nodes: Nodes, client: Redis) -> None:
    """Each with its seats; one of an older version by name; none that is dead or has left."""
    one, two, three = [await nodes.add() for _ in range(3)]
    await two.join("a")
    await two.join("b", room="other")

    def seen() -> dict[str, int | None]:
        found = one.engine.nodes()
        assert [node.name for node in found] == sorted(node.name for node in found)
        assert [node.name for node in found if node.here] == [one.engine._node.name]
        return {node.name: node.about.members if node.about else None for node in found}

    names = [node.engine._node.name for node in (one, two, three)]
    await nodes.until(lambda: seen() == dict(zip(names, (0, 2, 0), strict=True)))
    await three.engine.close()
    await nodes.until(lambda: names[2] not in seen())
    await two.die()
    await nodes.until(lambda: any(node.silent > 0 for node in one.engine.nodes() if not node.here))
    await nodes.until(lambda: seen() == {names[0]: 0})
    await client.hset(f"{one.engine._node.store._nodes}:nodes", "old", "1:60000")
    await nodes.until(lambda: seen() == {names[0]: 0, "old": None})


async def test_all_nodes_hear_the_same_order(nodes: Nodes) -> None:
    """Members of three nodes join, talk and leave at once; all hear it in the same order."""
    three = [await nodes.add() for _ in range(3)]
    for number, node in enumerate(three):
        await node.join(f"stays{number}")
    for node in three:
        await node.sees(3)
        node.heard.take()

    async def live(number: int) -> None:
        node, user = three[number % 3], f"u{number}"
        seat = await node.join(user)
        for line in range(5):
            await node.engine.publish("room", seat, f"{user} {line}")
        await node.engine.leave("room", user, seat, "done")

    await asyncio.gather(*(live(number) for number in range(30)))
    for node in three:
        await node.heard.wait(30 * 7)
    first, second, third = (node.heard.take() for node in three)
    assert first == second == third and len(first) == 30 * 7
    assert await three[0].engine.members("room") == ["stays0", "stays1", "stays2"]


async def test_the_joining_order_is_shared_by_all_nodes(nodes: Nodes) -> None:
    """When the first member leaves, the next to have joined is first, whatever its node."""
    one, two = await nodes.add(), await nodes.add()
    a = await one.join("a")
    await two.join("b")
    await one.join("c")
    await one.engine.leave("room", "a", a, "done")
    await two.hears("joined", "joined", "left")
    for node in (one, two):
        assert await node.engine.members("room") == ["b", "c"]
        assert [*node.engine._node.views[RoomId("room")].believed.members] == ["b", "c"]


async def test_a_duplicate_on_another_node(nodes: Nodes) -> None:
    """The new join replaces the old one, whose node hears of it, or it is refused."""
    one, two = await nodes.add(), await nodes.add()
    await one.join("stays")
    first = await one.join("a")
    with pytest.raises(UserTaken):
        await two.join("a", replace=False)
    second = await two.join("a")
    assert (await one.hears("joined", "joined", "left", "joined"))[1:] == [
        ("joined", "room", "a", first),
        ("left", "room", "a", first, "replaced", "4503"),
        ("joined", "room", "a", second),
    ]
    await one.engine.leave("room", "a", first, "late")
    with pytest.raises(EngineError):
        await one.engine.publish("room", first, "late")
    assert await two.engine.members("room") == ["stays", "a"]


async def test_a_seat_is_resumed_on_another_node(nodes: Nodes) -> None:
    """It keeps its place; both nodes hear it move, and the first no longer owns it."""
    one, two = await nodes.add(), await nodes.add()
    old = await one.join("a", ticket="t")
    b = await two.join("b", ticket="u")
    one.engine.lose("room", "a", old)
    await two.engine.publish("room", b, "while away")
    new, missed = await two.resume("a", "t")
    assert missed == [("joined", "b", *HALVES), ("sent", "b", "while away")]
    assert (await one.hears("joined", "joined", "sent", "moved"))[3] == (
        ("moved", "room", "a", old, new, "4503")
    )
    with pytest.raises(Unauthorized):
        await one.resume("a", "wrong")
    await two.hears("joined", "sent", "moved")
    two.engine.lose("room", "b", b)
    await nodes.elapse(GRACE)  # a's would have ended before b's, if a had not resumed
    assert (await two.hears("left"))[0][2:] == ("b", b, "grace-over")
    assert await two.engine.members("room") == ["a"]


async def test_a_live_seat_is_resumed_on_another_node(nodes: Nodes) -> None:
    """The client states what it received, and gets the rest from either node."""
    one, two = await nodes.add(), await nodes.add()
    await one.join("a", ticket="t")
    b = await two.join("b")
    await two.engine.publish("room", b, "text")
    assert (await one.resume("a", "t", received=1))[1] == [("sent", "b", "text")]
    assert (await two.resume("a", "t"))[1] == [("sent", "b", "text")]
    assert (await two.resume("a", "t", received=1))[1] == []


async def test_the_seats_of_a_dead_node_are_removed(nodes: Nodes) -> None:
    """One node removes them, once; those with a ticket keep their grace on that node."""
    living = [await nodes.add() for _ in range(2)]
    dead = await nodes.add()
    await dead.join("a", ticket="t")
    b = await dead.join("b")
    await dead.join("c", ticket="u")
    for number, node in enumerate(living):
        await node.join(f"d{number}")
    for node in living:
        await node.sees(5)
        node.heard.take()
    await dead.die()
    await living[0].engine.publish("room", "", "while away")
    await nodes.elapse(2 * LEASE)  # graces begin in the second one
    # a was there first, and still is: b's leave promotes nobody.
    for node in living:
        heard = await node.hears("sent", "moved", "left", "moved")
        assert ("left", "room", "b", b, "engine", "4001") in heard
    _, missed = await living[1].resume("a", "t", received=4)
    assert missed == [("sent", "", "while away"), ("left", "b")]
    await nodes.elapse(GRACE)
    for node in living:
        heard = await node.hears("moved", "left")
        assert heard[1][2:3] + heard[1][4:] == ("c", "grace-over")
    assert await living[0].engine.members("room") == ["a", "d0", "d1"]


async def test_a_node_that_was_given_up_is_fenced(nodes: Nodes) -> None:
    """It loses its seats, publishes nothing for them, and goes on under another name."""
    one, two = await nodes.add(), await nodes.add()
    a = await one.join("a")
    await two.join("b")
    await two.hears("joined")
    name = one.engine._node.name
    await one.freeze()
    await nodes.elapse(2 * LEASE)
    await two.hears("left")
    with pytest.raises(EngineError):
        await one.engine.publish("room", a, "late")
    one.heard.take()
    one.thaw()
    await nodes.until(lambda: one.engine._node.name != name and one.engine._node.ready)
    await one.is_ready()
    await one.join("c")
    await two.hears("joined")
    assert await two.engine.members("room") == ["b", "c"]
    assert await one.engine.members("room") == ["b", "c"]


async def test_messages_missed_by_a_lost_subscription(nodes: Nodes, client: Redis) -> None:
    """The node hears them afterwards, in order and once."""
    one, two = await nodes.add(), await nodes.add()
    a = await one.join("a")
    await two.join("b")
    await one.hears("joined", "joined")
    await two.hears("joined")
    for number in range(3):
        breaks = [node.engine._node.breaks for node in (one, two)]
        # All at once: the first packets come before the nodes notice the loss.
        killed, *_ = await asyncio.gather(
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub"),  # type: ignore[no-untyped-call]
            *(one.engine.publish("room", a, f"{number} {line}") for line in range(5)),
        )
        assert killed >= 2
        for node, before in zip((one, two), breaks, strict=True):
            await eventually(lambda node=node, b=before: node.engine._node.breaks > b)  # type: ignore[misc]
            await node.is_ready()
            heard = await node.hears(*["sent"] * 5)
            assert {event[3] for event in heard} == {f"{number} {line}" for line in range(5)}


async def test_the_server_may_forget_the_scripts(nodes: Nodes, client: Redis) -> None:
    """The node sends them again."""
    one = await nodes.add()
    await one.join("a")
    await client.execute_command("SCRIPT", "FLUSH")  # type: ignore[no-untyped-call]
    await one.join("b")
    await one.hears("joined", "joined")


@pytest.mark.parametrize("name", ["{a}", "{", "}{", "{}", "a{b}c", "\u00e9\U0001f600", "*", "a:b"])
async def test_special_characters_in_names(nodes: Nodes, name: str) -> None:
    """Braces and other characters with a meaning in a cluster's keys are ordinary in names."""
    one, two = await nodes.add(), await nodes.add()
    seat = await one.join(name, room=name)
    await two.join("b", room=name)
    await two.engine.publish(name, "", name, [name])
    await one.hears("joined", "joined", "sent", room=name)
    assert await two.engine.rooms(None, 1000) == [name]
    await one.engine.leave(name, name, seat, name)
    assert (await two.hears("joined", "sent", "left", room=name))[2][2] == name


async def test_a_dropped_room_leaves_nothing(nodes: Nodes, client: Redis) -> None:
    """No persistent key and no subscription remains, on the server or in the nodes."""
    await client.flushall()
    one, two = await nodes.add(), await nodes.add()
    for number in range(5):
        room = f"room {number}"
        a, b = await one.join("a", room=room, ticket="t"), await two.join("b", room=room)
        await one.engine.publish(room, a, "text")
        one.engine.lose(room, "a", a)
        await one.engine.leave(room, "a", a, "done")
        await two.engine.leave(room, "b", b, "done")

    async def gone() -> bool:
        keys = [key for key in await client.keys("*") if not key.endswith(":nodes")]  # type: ignore[arg-type]
        lasting = [key for key in keys if await client.ttl(key) == -1]
        return not lasting and not await client.execute_command("PUBSUB", "SHARDCHANNELS")  # type: ignore[no-untyped-call]

    await until(gone)
    for node in (one, two):
        assert not node.engine._node.views and not node.engine._node.own
    assert not any(node.engine._node.store._rooms for node in (one, two))


async def test_namespaces_share_nothing(nodes: Nodes) -> None:
    """A room of the same name is another room."""
    one, other = await nodes.add(), await nodes.add(namespace="other")
    a = await one.join("a")
    await other.join("a", replace=False)
    await one.engine.publish("room", a, "text")
    await one.hears("joined", "sent")
    await other.hears("joined")
    assert await other.engine.rooms(None, 1000) == ["room"]


async def test_a_closed_node_gives_up_its_seats_at_once(nodes: Nodes) -> None:
    """The other nodes take them over without waiting for the timeout."""
    one, two = await nodes.add(node_timeout=60), await nodes.add()
    await one.join("a", ticket="t")
    await one.join("b")
    await two.join("c")
    await two.hears("joined")
    await nodes.elapse(LEASE)  # a node that has just started gives the others time to renew
    await one.engine.close()
    await nodes.elapse(LEASE / 2)
    await two.hears("moved", "left")
    assert (await two.resume("a", "t", received=9))[1] == []


async def test_an_empty_store_is_restored(tmp_path: Path) -> None:
    """Both nodes restore their members in the old order; nobody hears a leave."""
    async with valkey(tmp_path) as server, nodes_on(server.url) as nodes:
        one, two = await nodes.add(), await nodes.add()
        a = await one.join("a", ticket="t")
        b = await two.join("b")
        await one.join("c")
        for node in (one, two):
            await node.sees(3)
            node.heard.take()
        await server.stop()
        await eventually(lambda: not one.engine._node.ready and not two.engine._node.ready)
        for node in (one, two):
            with pytest.raises(EngineError):
                await node.join("d")
        await server.start()
        for node in (one, two):
            await node.is_ready()
        await one.keep_publishing(a, "from a")  # the room may not be complete yet
        await two.keep_publishing(b, "from b")
        for node in (one, two):
            assert [event[3] for event in await node.hears("sent", "sent")] == ["from a", "from b"]
        await nodes.elapse(2 * LEASE)  # long enough for a wrong doubt about a seat to end
        for node in (one, two):
            assert await node.engine.members("room") == ["a", "b", "c"]
            assert [*node.engine._node.views[RoomId("room")].believed.members] == ["a", "b", "c"]
            assert not [event for event in node.heard.take() if event[0] != "found"]


async def test_a_crowd_is_restored_in_one_pass(tmp_path: Path) -> None:
    """One message has all seats of a node in a room, and is processed once."""
    crowd = [f"u{number}" for number in range(200)]
    async with valkey(tmp_path) as server, nodes_on(server.url) as nodes:
        one, two = await nodes.add(), await nodes.add()
        await two.join("z")
        await asyncio.gather(*map(one.join, crowd))
        for node in (one, two):
            await node.sees(201)
            node.heard.take()
        await server.stop()
        await server.start()
        await eventually(lambda: not one.engine._node.ready or not two.engine._node.ready)
        for node in (one, two):
            await node.is_ready()
        await eventually(
            lambda: not any(node.engine._node.views[RoomId("room")].doubted for node in (one, two))
        )
        for node in (one, two):
            found = node.heard.take()
            assert 0 < len(found) <= 4, len(found)  # a state, and one message from each node
            assert all(event[0] == "found" and len(event) == 2 + 201 for event in found)
        assert sorted(await one.engine.members("room")) == sorted([*crowd, "z"])


async def test_a_packet_during_a_restore_is_refused(tmp_path: Path) -> None:
    """It passed its check before the loss was noticed, and the other node is not back yet."""
    async with valkey(tmp_path) as server, nodes_on(server.url) as nodes:
        one, two = await nodes.add(), await nodes.add()
        seat = await one.join("a")
        await two.join("b")
        await one.sees(2)
        await two.freeze()
        step, restored = one.engine._node.store.step, asyncio.Event()
        said: list[asyncio.Future[None]] = []

        async def overtaken(room: RoomId, op: str, *arguments: str) -> Any:
            if op == "since" and not said:
                said.append(asyncio.ensure_future(one.engine.publish("room", seat, "too early")))
                await asyncio.sleep(0)  # now it has passed its check
            elif op == "publish":
                await restored.wait()
            answer = await step(room, op, *arguments)
            if op == "restore":
                restored.set()
                await asyncio.wait(said)
            return answer

        one.engine._node.store.step = overtaken  # type: ignore[method-assign]
        await server.stop()
        await server.start()
        await nodes.until(restored.is_set)
        with pytest.raises(EngineError):
            await said[0]
        one.engine._node.store.step = step  # type: ignore[method-assign]
        two.heard.take()
        two.thaw()
        await one.keep_publishing(seat, "to all")
        assert (await two.hears("sent"))[0][3] == "to all"


@pytest.mark.parametrize("limit", ["MAX_STEPS", "MAX_STEP_CHARACTERS"])
async def test_steps_waiting_for_the_store_are_limited(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Excess steps are refused, and a refused leave is carried out later."""
    one, two = await nodes.add(), await nodes.add()
    a = await one.join("a")
    await two.join("b")
    await one.hears("joined", "joined")
    with monkeypatch.context() as patch:
        patch.setattr(f"videre.engines.redis.node.{limit}", 0)
        with pytest.raises(EngineError, match="Too many"):
            await one.engine.publish("room", a, "text")
        await one.engine.leave("room", "a", a, "done")
    await one.is_ready()
    await two.hears("joined", "left")
    assert await two.engine.members("room") == ["b"]


async def test_a_lost_cancellation_does_not_keep_a_node_from_closing(nodes: Nodes) -> None:
    """On Python 3.11 redis-py may swallow a cancellation while a command is sent (wait_for)."""
    one = await nodes.add()
    store, asked = one.engine._node.store, asyncio.Event()
    ask = store.node

    async def deaf(op: str, *arguments: str) -> Any:
        asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        return await ask(op, *arguments)

    store.node = deaf  # type: ignore[assignment, method-assign]
    skip(one.pause)
    await asked.wait()
    store.node, closing = ask, one.engine.close()  # type: ignore[method-assign]
    async with asyncio.timeout(WAIT_SECONDS):
        await closing


async def test_restoring_many_rooms_keeps_the_node(tmp_path: Path) -> None:
    """It takes longer than a lease, which is renewed meanwhile, so nobody doubts the node."""
    async with valkey(tmp_path) as server, nodes_on(server.url) as nodes:
        one, two = await nodes.add(), await nodes.add()
        for number in range(100):
            await one.join("a", room=f"room {number}")
        await two.join("b", room="room 99")  # the last one to be restored
        two.heard.take()
        step, restores = one.engine._node.store.step, itertools.count()

        async def slow(room: RoomId, op: str, *arguments: str) -> Any:
            if op == "restore" and next(restores) % AT_A_TIME == 0:
                beats = two.beats
                skip(two.pause)  # the step takes so long, as do those that run beside it
                await eventually(lambda: two.beats > beats)
            return await step(room, op, *arguments)

        one.engine._node.store.step = slow  # type: ignore[method-assign]
        name = one.engine._node.name
        await server.stop()
        await server.start()
        await one.is_ready()
        await two.is_ready()
        await eventually(lambda: not two.engine._node.views[RoomId("room 99")].doubted)
        assert len(await two.engine.rooms(None, 1000)) == 100
        found = two.heard.take()
        assert found and all(event[2:] == ("a", "b") for event in found), found
        assert one.engine._node.name == name
        assert next(restores) >= 100
