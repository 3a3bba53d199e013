"""The simulated store acts like the real one: it passes the contract, and answers like the Lua."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from engine_contract import EngineContract
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from patience import WAIT_SECONDS, examples
from simulated_server import Server
from simulated_store import Cluster, Soon
from valkey_server import Valkey, valkey

from videre.engines.redis import RedisEngine
from videre.engines.redis.following import STATE_AT
from videre.engines.redis.store import KEYS, RedisStore, parse
from videre.settings import Retention

pytestmark = pytest.mark.process


class TestSimulatedStore(EngineContract):
    """The contract."""

    @pytest.fixture
    def made(self, retention: Retention) -> RedisEngine:
        """Give the only node of its own cluster."""
        cluster = Cluster(Soon(), time.time, random.Random(0), keep_bytes=retention.max_bytes)
        return RedisEngine(
            cast(RedisStore, cluster.store("node")), retention=retention, node="node"
        )


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Give a loop that outlives a single example."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def server(
    loop: asyncio.AbstractEventLoop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Valkey]:
    """Run one server for all examples; each has a namespace of its own."""
    with contextlib.ExitStack() as stack:
        manager = valkey(tmp_path_factory.mktemp("valkey"))
        running = loop.run_until_complete(manager.__aenter__())
        stack.callback(lambda: loop.run_until_complete(manager.__aexit__(None, None, None)))
        yield running


USERS = st.sampled_from(["a", "b", "c/\x7f\u00e9"])
NODES = st.sampled_from(["n", "m"])
#: Seats, tickets and numbers are named relative to what exists.
SEATS = st.sampled_from(["held", "held", "held", "1", ""])
TICKETS = st.sampled_from(["", "t", "u"])
LASTS = st.sampled_from(["", "null", "7"])
TEXTS = st.sampled_from(["x", "\u00e9" * 20, '{"a": "\\u00e9/"}\n', "y" * 150])
BACK = st.integers(-1, 6)
KNOWN = st.booleans()
REPLACE = st.sampled_from(["0", "1"])
TO = st.sampled_from([None, [], ["a"], ["b", "c/\x7f\u00e9"], ["a", "nobody"]])
STARTS = st.sampled_from(["-inf", "-inf", "0", "1", "(1", "2", "(2"])
COUNTS = st.sampled_from(["0", "1", "3"])

STEPS = st.one_of(
    st.tuples(
        *(
            st.just("join"),
            USERS,
            NODES,
            REPLACE,
            st.sampled_from(["", "", "1", "2", "0"]),
            TICKETS,
        ),
        *(KNOWN, TEXTS),
    ),
    st.tuples(st.just("leave"), USERS, SEATS, st.sampled_from(["", "4504"])),
    st.tuples(st.just("kick"), USERS, st.sampled_from(["", "ours", "1"])),
    st.tuples(
        st.just("publish"), USERS, SEATS, TO, TEXTS, LASTS, st.sampled_from(["", "ours", "1"])
    ),
    st.tuples(st.just("renew"), USERS, SEATS, NODES, st.sampled_from(["t", "u"]), KNOWN),
    st.tuples(
        st.just("resume"), USERS, NODES, st.sampled_from(["held", "held", "v"]), COUNTS, KNOWN
    ),
    st.tuples(st.just("reap"), NODES, NODES, STARTS, st.sampled_from(["1", "2", "100"])),
    st.tuples(
        st.just("restore"),
        NODES,
        st.lists(
            st.tuples(USERS, st.sampled_from(["held", "9", "8"]), st.integers(0, 9), TICKETS),
            max_size=3,
        ),
        KNOWN,
        *[st.sampled_from(["", "0", "1"])] * 2,
    ),
    st.tuples(st.just("since"), BACK, st.booleans()),
    st.tuples(st.just("members"), st.sampled_from(["", "ours", "1"])),
    st.tuples(st.just("lose data")),
    st.tuples(st.just("lose key"), st.sampled_from([*KEYS, "all"])),
)


class Side:
    """One of the two stores: it takes steps, and records what it publishes."""

    def __init__(self) -> None:
        self.numbers: list[str] = []  # in the order in which they first appeared
        self.heard: list[Any] = []

    async def step(self, *arguments: str) -> Any:
        raise NotImplementedError

    async def number(self, name: str) -> int:
        raise NotImplementedError

    async def wipe(self) -> None:
        raise NotImplementedError

    async def lose_key(self, key: str) -> None:
        raise NotImplementedError

    async def take(self, step: Any, seat: str, held: dict[str, str], shown: str) -> Any:
        """Take a step; return its answer, with numbers relative to the room's first."""
        op, *rest = step
        born = await self.number("born")
        if op == "lose key":
            await self.lose_key(rest[0])
            return None
        if op == "lose data":
            await self.wipe()
            return None
        if op == "join":
            user, node, replace, capacity, ticket, want, text = rest
            known = self.known(want, born)
            arguments = ["room", user, seat, node, replace, capacity, ticket, known, text]
        elif op in ("kick", "members"):
            known = self.known(True, born) if rest[-1] == "ours" else rest[-1]
            arguments = [known] if op == "members" else [rest[0], "", "why", "4504", known]
            op = "members" if op == "members" else "leave"
        elif op in ("leave", "renew", "publish"):
            user, which, *more = rest
            which = held.get(user, "0") if which == "held" else which
            if op == "leave":
                arguments = [user, which, "why", *more]
            elif op == "publish":
                to = "" if more[0] is None else orjson.dumps(more[0]).decode()
                known = self.known(True, born) if more[3] == "ours" else more[3]
                arguments = [user, which, to, more[2], more[1], known]
            else:
                arguments = [user, which, seat, *more[:2], self.known(more[2], born)]
        elif op == "resume":
            user, node, secret, count, want = rest
            secret = shown if secret == "held" else secret
            arguments = [user, seat, node, secret, "v", count, self.known(want, born)]
        elif op == "restore":
            node, own, want, *flags = rest
            seats = [
                [user, held.get(user, "0") if which == "held" else which, float(place), ticket]
                for user, which, place, ticket in own
            ]
            known = self.known(want, born)
            arguments = ["room", node, orjson.dumps(seats).decode(), known, "{}", *flags]
        elif op == "since":
            numbers = ["1"] + [line[0] for line, _ in self.heard if line[1] != "state"]
            seen = numbers[max(0, len(numbers) - 1 - rest[0])] if rest[0] >= 0 else str(10**16)
            arguments = [seen, str(born if rest[1] else 1)]
        else:
            arguments = rest
        answer = await self.step(op, *arguments)
        for state in answer[STATE_AT[op] :] if op in STATE_AT else ():
            seats = state[2]  # in no particular order
            state[2] = sorted(
                [user, kept] for user, kept in zip(seats[::2], seats[1::2], strict=True)
            )
        return self.plain(answer)

    def known(self, known: bool, born: int) -> str:
        """Return what a node claims to know."""
        return str(born or "") if known else ""

    def plain(self, value: Any) -> Any:
        """Return a value without the parts that differ between two servers."""
        if isinstance(value, list):
            return [self.plain(each) for each in value]
        if isinstance(value, str) and "\n" in value and value.startswith("["):
            return [self.plain(parse(value)[0]), value.partition("\n")[2]]
        if isinstance(value, str) and value.count("\n") == 2:  # a stored seat
            return [self.plain(part) for part in value.split("\n")]
        if isinstance(value, int) and value > 10**9:  # a place
            return self.plain(str(value))
        if isinstance(value, str) and value.isdigit() and int(value) > 10**9:
            if value not in self.numbers:
                self.numbers.append(value)
            return f"number {self.numbers.index(value)}"
        return value


class Model(Side):
    """The simulated server."""

    def __init__(self, keep_bytes: int | None) -> None:
        super().__init__()
        self._time = 1.8e9
        self.server = Server(self._now, self._publish, keep_bytes=keep_bytes)

    def _now(self) -> float:
        self._time += 1
        return self._time

    def _publish(self, room: str, line: list[Any], body: str) -> None:
        self.heard.append([orjson.loads(orjson.dumps(line)), body])

    async def step(self, *arguments: str) -> Any:
        """Take a step."""
        return self.server.step("room", *arguments)

    async def number(self, name: str) -> int:
        """Return one of the room's numbers."""
        room = self.server.data.get("room")
        return 0 if room is None else int(getattr(room, name) or 0)

    async def wipe(self) -> None:
        """Lose all data."""
        self.server.wipe()

    async def lose_key(self, key: str) -> None:
        """Lose one key."""
        self.server.delete("room", key)


class Real(Side):
    """room.lua on a real server."""

    def __init__(self, store: RedisStore) -> None:
        super().__init__()
        self._store = store
        self.news = asyncio.Event()

    def listen(self, room: str, message: Any) -> None:
        """Receive a message."""
        self.heard.append([message[0], message[1]])
        self.news.set()

    async def step(self, *arguments: str) -> Any:
        """Take a step."""
        return await self._store.step("room", *arguments)

    async def number(self, name: str) -> int:
        """Return one of the room's numbers."""
        key = f"{self._store._tag('room')}:room"
        return int(await self._store._client.hget(key, name) or 0)

    async def wipe(self) -> None:
        """Lose all data."""
        await self._store._client.flushdb()
        await self._tick()

    async def lose_key(self, key: str) -> None:
        """Lose one key."""
        tag = self._store._tag("room")
        await self._store._client.delete(*(f"{tag}:{k}" for k in KEYS if key in (k, "all")))
        await self._tick()

    async def _tick(self) -> None:
        """Wait until the store's time in ms has changed, as the model's does with each step.

        A room that begins again in the same ms would repeat a place of its last member.
        """

        async def now() -> int:
            seconds, microseconds = await self._store._client.time()
            return int(seconds) * 1000 + int(microseconds) // 1000

        began = await now()
        while await now() == began:
            pass


JOIN = ("join", "a", "n", "0", "", "", True, "x")
SAY = ("publish", "a", "held", None, "x", "", "")
#: A room that has lost all keys but its log.
ONLY_A_LOG = [JOIN, SAY, ("lose key", "order"), ("lose key", "room")]
#: A member that may resume, in a room whose latest data is lost.
LOSS = [("join", "a", "n", "0", "", "t", True, "x"), ("since", -1, True)]


@settings(max_examples=examples(75), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=4, max_size=20), keep=st.sampled_from([None, 300, 1000]))
@example([*ONLY_A_LOG, ("reap", "m", "n", "-inf", "1"), JOIN, SAY, ("since", 0, False)], None)
@example([*ONLY_A_LOG, JOIN, SAY, SAY, SAY, SAY, ("since", 0, False)], 300)
@example([*LOSS, *(("resume", "a", "m", shown, "1", True) for shown in ("v", "held"))], None)
def test_the_model_agrees_with_the_lua(
    loop: asyncio.AbstractEventLoop, server: Valkey, steps: list[Any], keep: int | None
) -> None:
    """After any steps, both have given the same answers and published the same messages."""

    async def compare() -> None:
        store = RedisStore(server.url, uuid.uuid4().hex, keep_ms=60_000, keep_bytes=keep)
        real, model = Real(store), Model(keep)
        broken: list[None] = []
        await store.open(real.listen, lambda: broken.append(None))
        await store.subscribe("room")
        try:
            for number, step in enumerate(steps):
                room = model.server.data.get("room")
                held = dict(room.seats) if room else {}
                meta = room.meta.get(str(step[1]), {}) if room and len(step) > 1 else {}
                shown = meta.get("t", "t")
                seat = f"s{number}"
                answers = [await side.take(step, seat, held, shown) for side in (real, model)]
                assert answers[0] == answers[1], step
                async with asyncio.timeout(WAIT_SECONDS):
                    while len(real.heard) < len(model.heard):
                        await real.news.wait()
                        real.news.clear()
            assert real.plain(real.heard) == model.plain(model.heard)
        finally:
            await store.close()

    loop.run_until_complete(compare())


def test_the_model_has_all_operations() -> None:
    """Every operation of room.lua is in the model."""
    text = (Path(__file__).parents[2] / "videre/engines/redis/room.lua").read_text()
    ops = {
        line.split("(")[0].removeprefix("function ops.")
        for line in text.splitlines()
        if line.startswith("function ops.")
    }
    from simulated_server import _Step

    assert ops == {name.removeprefix("_op_") for name in dir(_Step) if name.startswith("_op_")}
