"""The ends of seats: why they ended, as all nodes hear it; and the burial of many rooms."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from engine_nodes import GRACE, LEASE, Node, Nodes
from patience import eventually
from skipping import skip

from videre.engines.redis.duties import AT_A_TIME
from videre.errors import EngineError
from videre.reasons import LeaveReason

pytestmark = pytest.mark.process


async def no_answer(*_: object) -> None:
    """Fail as a step does whose answer is lost."""
    raise EngineError("no answer")


async def test_a_leave_that_the_store_delayed(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its reason, and closes no session: the client may have joined another room."""
    one, two = [await nodes.add() for _ in range(2)]
    seats = {user: await one.join(user) for user in ("a", "b", "c")}
    await two.join("d")
    reasons = {"a": LeaveReason.DISCONNECT, "b": LeaveReason.GRACE_OVER}
    with monkeypatch.context() as patched:
        patched.setattr(one.engine._node.store, "step", no_answer)
        for user, reason in reasons.items():
            await one.engine.leave("room", user, seats[user], reason)
    await one.is_ready()

    def left(node: Node) -> dict[str, tuple[str, ...]]:
        return {event[2]: event[3:] for event in node.heard.events if event[0] == "left"}

    for node in (one, two):  # each hears it on a connection of its own
        await eventually(lambda node=node: len(left(node)) == len(reasons))  # type: ignore[misc]
        assert left(node) == {user: (seats[user], reason) for user, reason in reasons.items()}
    assert await one.engine.members("room") == ["c", "d"]


async def test_a_seat_that_its_node_does_not_know(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was granted, but the answer was lost: it ends with a reason of our vocabulary."""
    one, two = [await nodes.add() for _ in range(2)]
    await two.join("a")
    store = one.engine._node.store
    step = store.step

    async def loses_answers(room: Any, op: str, *arguments: str) -> Any:
        answer = await step(room, op, *arguments)
        if op == "join":
            raise EngineError("no answer")
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(store, "step", loses_answers)
        with pytest.raises(EngineError):
            await one.join("b")
    await one.is_ready()
    heard = await two.hears("joined", "joined", "left")
    assert heard[2][4:] == ("engine", "4001")


@pytest.mark.parametrize("words", ["node lost", "lost", "replaced"])
async def test_the_words_of_a_removal_mean_nothing(nodes: Nodes, words: str) -> None:
    """They reach the session as they are, whatever else the scripts write there."""
    one, two = [await nodes.add() for _ in range(2)]
    seat = await one.join("a")
    await one.join("b")
    sound_since = one.engine._node.sound_since
    assert await two.engine.remove("room", "a", words)
    heard = await one.hears("joined", "joined", "left")
    assert heard[2] == ("left", "room", "a", seat, words, "4504")
    assert one.engine._node.sound_since == sound_since  # it was not taken for a burial


async def test_a_long_burial_costs_no_lease(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead node had seats in many rooms: who gives them up goes on serving meanwhile."""
    one, two = [await nodes.add() for _ in range(2)]
    rooms = [f"room {number}" for number in range(3 * AT_A_TIME)]
    for room in rooms:
        await two.join("a", room=room)
    node, store = one.engine._node, one.engine._node.store
    step, reaps = store.step, itertools.count()

    async def takes_long(room: Any, op: str, *arguments: str) -> Any:
        if op == "reap":
            if next(reaps) % AT_A_TIME == 0:
                skip(0.4 * LEASE)  # so long it takes, as do those that run beside it
            node.require()
        return await step(room, op, *arguments)

    monkeypatch.setattr(store, "step", takes_long)
    await two.die()
    name = two.engine._node.name
    await nodes.elapse(2 * LEASE)
    assert next(reaps) == len(rooms) and not await store.noted(name)
    assert node.ready and not await one.engine.rooms(None, 1000)


@pytest.mark.parametrize("late", [False, True], ids=["executed", "executed-late"])
async def test_a_burial_whose_answer_is_lost(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """The node takes in the seats that it adopted: they can be resumed, and end with the grace."""
    one, two, three = [await nodes.add() for _ in range(3)]
    await one.join("z")
    await two.join("a", ticket="t")
    await two.join("b", ticket="u")
    store, taken = one.engine._node.store, []
    step = store.step

    async def loses_answers(room: Any, op: str, *arguments: str) -> Any:
        taken.append(op)
        if op == "reap" and taken.count("reap") == 1:
            if not late:
                await step(room, op, *arguments)
            raise EngineError("no answer")
        answer = await step(room, op, *arguments)
        if op == "restore" and taken.count("restore") == 1 and late:
            await step(room, "reap", two.engine._node.name, one.engine._node.name, "-inf", "100")
        return answer

    await three.freeze()  # it buries nobody
    monkeypatch.setattr(store, "step", loses_answers)
    await two.die()
    await nodes.until(lambda: taken.count("restore") > 1)  # the second look
    await one.is_ready()
    assert taken.count("reap") >= 1
    assert await one.engine.members("room") == ["z", "a", "b"]
    assert (await one.resume("a", "t", received=1))[1] == []
    await nodes.elapse(1.5 * GRACE)
    assert not one.engine._node.adopting
    assert await one.engine.members("room") == ["z", "a"]
