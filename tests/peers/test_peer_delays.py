"""Addresses that bring wrong tokens wait for their answers, and nobody else does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes import ENGINES, UNLIMITED, FakeClient, World, begin, packet, run_on
from tokens import NOW, SECRET, enter, show, token

from videre.auth import TokenAuth, secret_key
from videre.errors import CloseCode
from videre.settings import Limits

HERE, THERE = "192.0.2.1", "192.0.2.2"
FAILURES = 10


class Slow(World):
    """A namespace that requires tokens, and where a sleep takes a step: see `begin`."""

    def __init__(self, engine: Any = None, limits: Limits = UNLIMITED) -> None:
        super().__init__(engine, limits=limits, auth=TokenAuth([secret_key(SECRET)]))
        self.slept: list[float] = []
        self.context = replace(self.context, sleep=self.sleep)

    async def sleep(self, seconds: float, needless: Callable[[], bool]) -> None:
        """Note for how long, and wait until the test goes on."""
        self.slept.append(seconds)
        await asyncio.sleep(0)  # one step, needs no loop


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> Slow:
    """Give such a namespace, on each kind of engine."""
    return Slow(request.param)


def fail(world: World, times: int, address: str = HERE) -> None:
    """Bring so many wrong tokens, each by a session of its own."""
    for _ in range(times):
        client = world.client(address)
        show(client, "nonsense")
        assert client.error()["Code"] == "unauthorized"


def connecting(client: FakeClient, shown: str) -> Any:
    """Return a connect that waits."""
    return begin(client.peer.receive(packet("connect", "a", "room", {"Token": shown})))


def test_ten_failures_slow_the_next_tries(world: Slow) -> None:
    """By half a second, then twice as long each time, up to 25 s."""
    fail(world, FAILURES)
    assert world.slept == []
    fail(world, 9)
    assert world.slept == [0.5, 1, 2, 4, 8, 16, 25, 25, 25]


def test_after_a_minute_nothing_is_slow(world: Slow) -> None:
    """An address is as good as new."""
    fail(world, FAILURES + 3)
    world.slept.clear()
    world.clock.advance(61)
    fail(world, FAILURES)
    assert world.slept == []


@pytest.mark.parametrize(
    "shown",
    [token("b"), token(room="other"), token(exp=NOW - 1), "nonsense", "", 5],
    ids=["of another", "elsewhere", "expired", "nonsense", "empty", "a number"],
)
def test_what_is_a_failure(world: Slow, shown: Any) -> None:
    """Every token that is refused."""
    for _ in range(FAILURES + 1):
        show(world.client(), shown)
    assert world.slept == [0.5]


def test_what_is_no_failure(world: Slow) -> None:
    """No token at all is no guess; nor is a ping, a full room, or any other packet."""
    client = world.client()
    for _ in range(3 * FAILURES):
        show(client, None)
        client.connect("a", "room")
        client.say(packet("ping", "a", "room"))
    member = enter(world)
    for _ in range(3 * FAILURES):
        show(member, token())
    assert world.slept == []


def test_nobody_else_is_held_up(world: Slow) -> None:
    """While one address waits, another one enters at once, and members go on."""
    member = enter(world, "m")
    fail(world, FAILURES, THERE)
    late = world.client(THERE)
    steps = connecting(late, token())
    assert world.slept == [0.5] and late.texts() == []
    other = enter(world, "b")
    other.say(packet("broadcast", "b", "room", 1))
    assert [heard[0] for heard in member.heard()] == ["connect", "broadcast"]
    run_on(steps)
    assert late.heard() == [("connect", "a", "room", "false")]


def test_a_good_token_is_delayed_but_good(world: Slow) -> None:
    """Who shares an address with a guesser waits, and gets in."""
    fail(world, FAILURES + 2)
    a = world.client()
    show(a, token())
    assert a.heard() == [("connect", "a", "room", "true")]
    assert world.slept[-1] == 2


def test_members_of_the_address_are_not_held_up_in_what_they_say(world: Slow) -> None:
    """Only a connect waits: calls of the same address that stand go on."""
    a = enter(world)
    fail(world, 3 * FAILURES)
    world.slept.clear()
    for event in ("ping", "broadcast", "ping", "disconnect"):
        a.say(packet(event, "a", "room"))
    assert world.slept == []


def test_who_goes_away_while_it_waits_leaves_no_ghost(world: Slow) -> None:
    """It is never seated, nobody hears of it, and nothing is kept."""
    member = enter(world, "m")
    fail(world, FAILURES)
    a = world.client()
    steps = connecting(a, token())
    a.end()
    run_on(steps)
    assert member.texts() == [] and a.texts() == []
    member.say(packet("ping", "m", "room"))
    assert [heard[3] for heard in member.heard()] == ['["m"]']
    assert len(world.clock.waiting) == 1  # the member's own


def test_a_token_that_expires_while_it_waits(world: Slow) -> None:
    """What counts is when the answer is given."""
    fail(world, FAILURES)
    a = world.client()
    steps = connecting(a, token(exp=NOW + 0.4))
    world.clock.advance(0.5)
    run_on(steps)
    assert a.error()["Code"] == "token-expired"
    assert len(world.rooms) == 0


def test_a_connect_that_is_delayed_does_not_run_into_the_join_timeout() -> None:
    """A delay is our doing: with 25 s of it, 10 s for the join would refuse every good token."""
    world = Slow(limits=replace(UNLIMITED, join_timeout=10.0))
    fail(world, FAILURES + 6)
    a = world.client()
    steps = connecting(a, token())
    assert world.slept[-1] == 25
    world.clock.advance(25)
    assert a.code is None
    run_on(steps)
    assert a.heard() == [("connect", "a", "room", "true")]


def test_who_is_refused_after_a_delay_still_has_to_join_in_time() -> None:
    """The time begins when the delay is over: nobody stays for ever by a wrong token."""
    world = Slow(limits=replace(UNLIMITED, join_timeout=10.0))
    fail(world, FAILURES)
    a = world.client()
    steps = connecting(a, "nonsense")
    world.clock.advance(60)
    run_on(steps)
    assert a.error()["Code"] == "unauthorized"
    world.clock.advance(9.9)
    assert a.code is None
    world.clock.advance(0.2)
    assert a.code == CloseCode.NO_PACKET


def test_who_has_a_seat_is_not_sent_away_after_a_delay() -> None:
    """A member that shows a wrong token waits, is refused, and stays: it need not join."""
    world = Slow(limits=replace(UNLIMITED, join_timeout=10.0))
    member = enter(world)
    fail(world, FAILURES)
    run_on(connecting(member, "nonsense"))
    assert member.error()["Code"] == "unauthorized"
    world.clock.advance(60)
    assert member.code is None


def test_tries_that_wait_side_by_side_are_all_counted() -> None:
    """A hundred sessions at once guess no faster than one: each waits for those before it."""
    world = Slow()
    fail(world, FAILURES)
    clients = [world.client() for _ in range(100)]
    steps = [connecting(client, "nonsense") for client in clients]
    assert sum(delay < 25 for delay in world.slept) <= 6
    for each in steps:
        run_on(each)
