"""The store loses the data of rooms: what their nodes then believe, and restore."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from engine_nodes import LEASE, Node, Nodes, elapse, nodes_on, simulated, until
from patience import eventually
from simulated_server import Server
from simulated_store import Cluster
from skipping import skip
from valkey_server import Valkey, valkey

from videre.engines import Gap
from videre.engines.redis import RedisEngine
from videre.engines.redis.outage import REMINDER_SECONDS
from videre.errors import EngineError
from videre.ids import RoomId

pytestmark = pytest.mark.process


async def test_a_seat_that_was_replaced_elsewhere_is_not_kept() -> None:
    """A node missed that its user joined elsewhere, and then the store lost the room.

    It restores its own seat, then reads that the user joined on the other node and left. Its
    listener has closed the session by then, so the seat must not stay.
    """
    async with simulated("one") as (cluster, [one]):
        seat = await one.join("a")
        await one.hears("joined")
        server = cluster.server
        server.wipe(rooms_alone=True)
        server.step("room", "restore", "room", "two", f'[["a", "{seat}+", 2, ""]]', "")
        server.step("room", "leave", "a", f"{seat}+", "done", "")
        await until(lambda: not one.engine._node.own and not server.data["room"].seats, [one])
        await one.is_ready()
        assert not server.data["room"].seats


async def test_a_new_view_does_not_hear_what_a_dropped_one_missed() -> None:
    """A node left a room and joined it again before it fetched the messages it had missed."""
    async with simulated("one", node_timeout=60.0) as (_, [one]):
        seat = await one.join("a")
        dropped = one.engine._node.views[RoomId("room")]
        await one.engine.leave("room", "a", seat, "done")
        await one.join("b")
        await one.engine._following.fetch(dropped)
        await one.hears("joined", "left", "joined")


class Older:
    """Two nodes, on a store that can return to older data."""

    def __init__(self, cluster: Cluster, nodes: list[Node]) -> None:
        self._cluster = cluster
        self.stores = cluster.stores
        self.nodes = nodes

    def save(self) -> Callable[[], None]:
        """Return a function that restarts the store with the present data."""
        restore = self._cluster.server.snapshot()

        def restart() -> None:
            restore(False)
            self._cluster.server.process = "another"

        return restart

    async def returns_unseen(
        self, restart: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> asyncio.Event:
        """Restart the store; the first node is ready, and looks at no room before the event."""
        (store, _), node = self.stores, self.nodes[0].engine._node
        step, looks, looked = store.step, asyncio.Event(), asyncio.Event()

        async def late(room: str, op: str, *arguments: str) -> object:
            if op == "since":
                looks.set()
                await looked.wait()
            return await step(room, op, *arguments)

        monkeypatch.setattr(store, "step", late)
        restart()
        node.trouble.set()
        skip(LEASE)
        await looks.wait()
        assert node.ready
        return looked

    def save_rooms(self) -> Callable[[], None]:
        """Return a function that brings the present rooms back, without a restart."""
        restore = self._cluster.server.snapshot()
        return lambda: restore(True)

    @property
    def server(self) -> Server:
        """The store itself."""
        return self._cluster.server

    def lose_rooms(self) -> None:
        """Let the store lose all rooms, without a restart."""
        self._cluster.server.wipe(rooms_alone=True)

    def wipe(self) -> None:
        """Restart the store without data."""
        self._cluster.server.wipe()
        self._cluster.server.process = "another"


@pytest.fixture
async def older() -> AsyncIterator[Older]:
    """Give two nodes on a store that can return to older data."""
    async with simulated("one", "two") as (cluster, nodes):
        yield Older(cluster, nodes)


async def test_packets_that_the_store_has_lost_are_a_gap(older: Older) -> None:
    """A member that missed them does not resume as if there had been none.

    Its own node has died, which would otherwise have restored its seat.
    """
    one, two = older.nodes
    seat = await one.join("a", ticket="t")
    b = await two.join("b")
    one.engine.lose("room", "a", seat)
    restart = older.save()
    await two.engine.publish("room", b, "lost with the data")
    await one.freeze()
    restart()
    await until(lambda: two.engine._node.server == "another", older.nodes)
    await two.is_ready()
    assert (await two.resume("a", "t", received=1))[1] is Gap


async def test_a_ticket_that_the_store_has_lost_is_not_wrong(older: Older) -> None:
    """The client joins as new; it is not refused for good."""
    one, two = older.nodes
    await one.join("a", ticket="t")
    await two.join("b")
    restart = older.save()
    await one.engine.resume("room", "a", "later", "t", "u", 0)
    await one.freeze()
    restart()
    await until(lambda: two.engine._node.server == "another", older.nodes)
    await two.is_ready()
    assert (await two.resume("a", "u"))[1] is None


async def test_nobody_resumes_before_the_loss_is_known(
    older: Older, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that is ready again may not have looked at the room yet."""
    one, _ = older.nodes
    seat = await one.join("a", ticket="t")
    b = await one.join("b")
    one.engine.lose("room", "a", seat)
    restart = older.save()
    await one.engine.publish("room", b, "lost with the data")
    looked = await older.returns_unseen(restart, monkeypatch)
    with pytest.raises(EngineError, match="may have lost data"):
        await one.resume("a", "t", received=1)
    looked.set()
    await one.is_ready()
    assert (await one.resume("a", "t", received=1))[1] is Gap


async def test_a_newcomer_does_not_overtake_lost_members(older: Older) -> None:
    """It joins an empty store before their node restores them: they stay first."""
    one, two = older.nodes
    first = await one.join("a")
    await one.join("z")
    await one.engine.leave("room", "a", first, "done")
    await one.freeze()
    older.wipe()
    await until(lambda: two.engine._node.server == "another", older.nodes)
    await two.join("b")
    one.thaw()
    await until(lambda: one.engine._node.server == "another", older.nodes)
    await one.is_ready()
    assert await one.engine.members("room") == ["z", "b"]
    for node in (one, two):
        await node.sees(2)
        believed = node.engine._node.views[RoomId("room")].find_without(())
        assert [user for user, _ in believed.members] == ["z", "b"]


async def test_older_rooms_while_their_node_stands_still(older: Older) -> None:
    """A seat that had left is back; its node, given up meanwhile, no longer had noted the room."""
    one, two = older.nodes
    a = await one.join("a")
    return_rooms = older.save_rooms()
    await one.engine.leave("room", "a", a, "done")
    await eventually(lambda: not older.server.noted.get("one"))
    await one.freeze()
    return_rooms()
    await until(lambda: older.server.condemned.get("one", "open") != "open", [two])
    assert older.server.data["room"].seats == {"a": a}
    one.thaw()
    await until(lambda: not older.server.data["room"].seats, older.nodes)


async def test_a_join_does_not_hide_a_loss(server: Valkey, nodes: Nodes) -> None:
    """It is refused until a beat finds that the store knows neither the node nor its rooms."""
    one = await nodes.add()
    await one.join("a")
    await server.ask("FLUSHALL")
    with pytest.raises(EngineError, match="lost data"):
        await one.join("b", room="new")
    await one.is_ready()
    assert await one.engine.members("room") == ["a"]
    await one.join("b", room="new")
    assert await one.engine.rooms(None, 9) == ["new", "room"]


async def no_answer(*_: object) -> None:
    """Fail as a step does whose answer is lost."""
    raise EngineError("no answer")


async def test_a_removal_whose_answer_is_lost_is_no_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host gets an error and must try again, because no node owes the store a removal."""
    async with simulated("one") as (cluster, [one]):
        [store] = cluster.stores
        await one.join("a")
        with monkeypatch.context() as patched:
            patched.setattr(store, "step", no_answer)
            with pytest.raises(EngineError):
                await one.engine.remove("room", "a", "why")
        await one.is_ready()
        assert await one.engine.remove("room", "a", "why") is True
        assert await one.engine.remove("room", "a", "why") is False


#: What a host asks of a room, wherever its members are.
ASKED: dict[str, Callable[[RedisEngine], Awaitable[object]]] = {
    "publish": lambda engine: engine.publish("room", "", "lost"),
    "members": lambda engine: engine.members("room"),
    "remove": lambda engine: engine.remove("room", "a", "why"),
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
async def test_the_host_does_not_know_that_the_store_restarted(
    asked: Callable[[RedisEngine], Awaitable[object]],
) -> None:
    """The room is empty in the store but has members on another node: no answer is made up."""
    async with simulated("one", "two", node_timeout=60.0) as (cluster, [one, two]):
        await one.join("a")
        await two.engine.publish("room", "", "before")
        await two.engine.publish("empty", "", "to nobody")
        assert await two.engine.members("empty") == []
        assert not await two.engine.remove("empty", "a", "why")
        cluster.server.wipe()
        cluster.server.process = "another"
        with pytest.raises(EngineError, match="restarted, and not all"):
            await asked(two.engine)


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
async def test_the_host_knows_more_than_the_store(
    asked: Callable[[RedisEngine], Awaitable[object]], older: Older
) -> None:
    """The same process has lost the room: a node with a member there does not answer without it."""
    one, two = older.nodes
    await one.join("a")
    await two.join("b")
    await one.hears("joined", "joined")
    older.lose_rooms()
    with pytest.raises(EngineError, match="lost data"):
        await asked(one.engine)
    await one.is_ready()
    assert await one.engine.members("room") == ["a", "b"]


async def test_a_beat_finds_the_restart_while_the_host_speaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The packet reached nobody in the new store, which the node knows when the answer comes."""
    async with simulated("one", node_timeout=60.0) as (cluster, [one]):
        [store] = cluster.stores
        step = store.step

        async def overtaken(room: str, op: str, *arguments: str) -> object:
            cluster.server.wipe()
            cluster.server.process = "another"
            answer = await step(room, op, *arguments)
            await one.engine._duties.beat()
            return answer

        monkeypatch.setattr(store, "step", overtaken)
        with pytest.raises(EngineError, match="restarted"):
            await one.engine.publish("room", "", "lost")


async def test_the_host_waits_for_the_other_nodes(tmp_path: Path) -> None:
    """After a restart of the store they may still be absent: no accepted packet is lost."""
    async with valkey(tmp_path) as server, nodes_on(server.url) as nodes:
        one, two = await nodes.add(), await nodes.add()
        await one.join("a")
        await one.hears("joined")
        await one.freeze()
        await server.stop()
        await nodes.until(lambda: not two.engine._node.ready)
        await server.start()
        await two.is_ready()
        with pytest.raises(EngineError, match="Not all members"):
            await two.engine.publish("room", "", "too early")
        one.thaw()
        await one.is_ready()
        await two.keep_publishing("", "to all")
        assert (await one.hears("sent"))[0][3] == "to all"


async def test_a_renewal_does_not_hide_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store loses all data, without a restart, while a node restores many rooms.

    The node renews its lease meanwhile; it must not take it for one that was never lost.
    """
    async with simulated("one") as (cluster, [one]):
        [store] = cluster.stores
        step = store.step

        async def long(room: str, op: str, *arguments: str) -> object:
            answer = await step(room, op, *arguments)
            if op == "restore" and "one" in cluster.server.leases:
                monkeypatch.setattr(store, "step", step)
                cluster.server.wipe()
                skip(LEASE / 2)
            return answer

        await one.join("a")
        await one.join("b", room="other")
        monkeypatch.setattr(store, "step", long)
        one.engine._node.owe(RoomId("room"))
        await until(lambda: "one" in cluster.server.leases and store.step is step, [one])
        await until(lambda: {*cluster.server.data} == {"room", "other"}, [one])


@pytest.mark.parametrize("asked", ["members", "remove"])
async def test_the_host_waits_for_a_look_at_older_data(
    older: Older, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """The node is ready again, but the room may lack members that its view has."""
    one, _ = older.nodes
    await one.join("a")
    restart = older.save()
    await one.join("b")
    looked = await older.returns_unseen(restart, monkeypatch)
    ask: dict[str, Callable[[], Awaitable[object]]] = {
        "members": lambda: one.engine.members("room"),
        "remove": lambda: one.engine.remove("room", "b", "why"),
    }
    with pytest.raises(EngineError, match="may have lost data"):
        await ask[asked]()
    looked.set()
    await one.is_ready()
    assert await one.engine.members("room") == ["a", "b"]
    assert await one.engine.remove("room", "b", "why")


async def test_a_room_that_cannot_be_reached_causes_few_lines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A shard is lost, but not the one with the leases: beats succeed, and debts stay unpaid."""
    caplog.set_level(logging.INFO, "videre.engines")
    async with simulated("one") as (cluster, [one]):
        [store] = cluster.stores
        await one.join("a")
        caplog.clear()
        with monkeypatch.context() as patched:
            patched.setattr(store, "step", no_answer)
            with pytest.raises(EngineError):
                await one.join("b")
            await elapse(REMINDER_SECONDS / 2, [one])
        assert caplog.messages == ["the store cannot be used: no answer (simulated://)"]
        await one.is_ready()
        assert caplog.messages[1:] == ["connected to the store"]
