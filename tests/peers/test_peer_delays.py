"""Addresses that show wrong tokens wait for their answers; nobody else does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import ENGINES, UNLIMITED, FakeClient, FakePause, World, begin, packet, run_on
from tokens import NOW, SECRET, TTL, enter, show, token

from videre.auth import TokenAuth, secret_key
from videre.errors import CloseCode
from videre.settings import LEEWAY, Limits

HERE, THERE = "192.0.2.1", "192.0.2.2"
FAILURES = 10


class Slow(World):
    """A namespace that requires tokens, and whose delays the test steps through: see `begin`."""

    def __init__(self, engine: Any = None, limits: Limits = UNLIMITED) -> None:
        super().__init__(engine, limits=limits, auth=TokenAuth([secret_key(SECRET)]))
        self.slept: list[float] = []
        self.pauses: list[FakePause] = []
        self.context = replace(self.context, pause=self.pause)

    def pause(self, seconds: float) -> FakePause:
        """Record the delay, and wait until the test goes on."""
        self.slept.append(seconds)
        self.pauses.append(FakePause(1))
        return self.pauses[-1]


@pytest.fixture(params=ENGINES)
def world(request: pytest.FixtureRequest) -> Slow:
    """Give such a namespace, on each kind of engine."""
    return Slow(request.param)


def fail(world: World, times: int, address: str = HERE) -> None:
    """Show this many wrong tokens, each from its own session."""
    for _ in range(times):
        client = world.client(address)
        show(client, "nonsense")
        assert client.error()["Code"] == "unauthorized"


def connecting(client: FakeClient, shown: str) -> Any:
    """Return a connect that is being delayed."""
    return begin(client.peer.receive(packet("connect", "a", "room", {"Token": shown})))


def test_ten_failures_slow_the_next_tries(world: Slow) -> None:
    """The delay starts at half a second and doubles up to 25 s."""
    fail(world, FAILURES)
    assert world.slept == []
    fail(world, 9)
    assert world.slept == [0.5, 1, 2, 4, 8, 16, 25, 25, 25]


def test_after_a_minute_nothing_is_slow(world: Slow) -> None:
    """After a quiet minute, an address has no delay."""
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
def test_what_counts_as_a_failure(world: Slow, shown: Any) -> None:
    """Every refused token counts."""
    for _ in range(FAILURES + 1):
        show(world.client(), shown)
    assert world.slept == [0.5]


def test_what_does_not_count_as_a_failure(world: Slow) -> None:
    """A missing token, a ping, a full room or any other packet is no guess."""
    client = world.client()
    for _ in range(3 * FAILURES):
        show(client, None)
        client.connect("a", "room")
        client.say(packet("ping", "a", "room"))
    member = enter(world)
    for _ in range(3 * FAILURES):
        show(member, token())
    assert world.slept == []


def test_other_addresses_are_not_delayed(world: Slow) -> None:
    """While one address waits, another one joins at once and members go on."""
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
    """A client that shares its address with a guesser waits, then gets in."""
    fail(world, FAILURES + 2)
    a = world.client()
    show(a, token())
    assert a.heard() == [("connect", "a", "room", "true")]
    assert world.slept[-1] == 2


def test_a_success_slows_nobody(world: Slow) -> None:
    """Who shares an address with a guesser waits only for as long as failures are remembered."""
    fail(world, FAILURES + 2)
    for _ in range(5):
        world.slept.clear()
        show(world.client(), token())
        assert world.slept == [2]
        world.clock.advance(11)
    world.clock.advance(6)
    world.slept.clear()
    show(world.client(), token())
    assert world.slept == []


def test_parallel_successes_slow_nobody_later(world: Slow) -> None:
    """They wait longer while others wait, because any may be a guess; then they are forgotten."""
    fail(world, FAILURES)
    world.slept.clear()
    steps = [connecting(world.client(), token()) for _ in range(3)]
    assert world.slept == [0.5, 1, 2]
    for each in steps:
        run_on(each)
    run_on(connecting(world.client(), token()))
    assert world.slept == [0.5, 1, 2, 0.5]


def test_packets_of_members_are_not_delayed(world: Slow) -> None:
    """Only a connect waits: running calls from the same address go on."""
    a = enter(world)
    fail(world, 3 * FAILURES)
    world.slept.clear()
    for event in ("ping", "broadcast", "ping", "disconnect"):
        a.say(packet(event, "a", "room"))
    assert world.slept == []


def test_a_client_that_leaves_while_it_waits_is_never_seated(world: Slow) -> None:
    """No member hears of it, and nothing is kept."""
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


def test_a_close_ends_the_delays_before_it(world: Slow) -> None:
    """Others hear at once of a member that refreshes its token, then closes."""
    a, b = enter(world), enter(world, "b")
    fail(world, FAILURES + 1)
    a.texts()
    steps = connecting(a, token())
    a.peer.leaving()
    assert world.pauses[-1].ended
    run_on(steps)
    world.slept.clear()
    show(a, token())
    a.say(packet("broadcast", "a", "room", 1))
    assert world.slept == [] and a.texts() == []
    assert [heard[0] for heard in b.heard()] == ["broadcast"]


def test_a_token_that_expires_while_it_waits(world: Slow) -> None:
    """A token must be valid when the answer is given."""
    fail(world, FAILURES)
    a = world.client()
    steps = connecting(a, token(exp=NOW + 0.4))
    world.clock.advance(0.5)
    run_on(steps)
    assert a.error()["Code"] == "token-expired"
    assert len(world.rooms) == 0


def test_a_delay_does_not_count_towards_the_join_timeout() -> None:
    """The server causes the delay: 25 s of it with JoinTimeout 10 would refuse every good token."""
    world = Slow(limits=replace(UNLIMITED, join_timeout=10.0))
    fail(world, FAILURES + 6)
    a = world.client()
    steps = connecting(a, token())
    assert world.slept[-1] == 25
    world.clock.advance(25)
    assert a.code is None
    run_on(steps)
    assert a.heard() == [("connect", "a", "room", "true")]


def test_a_refused_client_still_has_to_join_in_time() -> None:
    """The join timeout starts when the delay ends, so a wrong token does not avoid it."""
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


def test_wrong_tokens_keep_no_session() -> None:
    """Only the first delay is added to the join timeout: further tries earn no more time."""
    world = Slow(limits=replace(UNLIMITED, join_timeout=10.0))
    fail(world, FAILURES)
    a = world.client()
    began = world.clock()
    while a.code is None:
        steps = connecting(a, "nonsense")
        world.clock.advance(4)
        run_on(steps)
        world.clock.advance(1)
        assert world.clock() - began < 4 + 10 + 5
    assert a.code == CloseCode.NO_PACKET


def test_a_member_is_not_closed_after_a_delay() -> None:
    """A member with a wrong token waits and is refused, but keeps its seat: it need not join."""
    world = Slow(limits=replace(UNLIMITED, join_timeout=10.0))
    member = enter(world)
    fail(world, FAILURES)
    run_on(connecting(member, "nonsense"))
    assert member.error()["Code"] == "unauthorized"
    world.clock.advance(60)
    assert member.code is None


@pytest.mark.parametrize("good", [True, False])
def test_a_delay_does_not_count_towards_the_leeway(good: bool) -> None:
    """A fresh token sent in time keeps the seat; a wrong one, for the longest delay at most."""
    world = Slow()
    member = enter(world)
    world.clock.advance(TTL + LEEWAY - 1)
    assert member.error()["Code"] == "token-expired"
    fail(world, FAILURES + 6)
    steps = connecting(member, token(exp=NOW + 10_000) if good else "nonsense")
    assert world.slept[-1] == 25
    world.clock.advance(24.9)
    assert member.code is None
    run_on(steps)
    world.clock.advance(1.2)
    assert member.code == (None if good else CloseCode.UNAUTHORIZED)


def test_concurrent_tries_are_all_counted() -> None:
    """Thousands of sessions at once guess no faster than one: each delay counts those before it."""
    world = Slow()
    fail(world, FAILURES)
    clients = [world.client() for _ in range(2000)]
    steps = [connecting(client, "nonsense") for client in clients]
    assert sum(delay < 25 for delay in world.slept) <= 6
    for each in steps:
        run_on(each)
