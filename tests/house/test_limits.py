"""Limits: what passes in a time, compared with models simple enough to trust."""

from __future__ import annotations

import itertools
import tracemalloc
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videre.limits import (
    FAILURE_SECONDS,
    FAILURES,
    FIRST_DELAY,
    LONGEST_DELAY,
    MAX_FAILING_ADDRESSES,
    PARTS,
    Penalties,
    Throttle,
    TokenBucket,
    Verdict,
    throttle,
)
from videre.settings import Limits, Options

PASS, WARN, DROP, CLOSE = Verdict.PASS, Verdict.WARN, Verdict.DROP, Verdict.CLOSE

# Quarters are exact in floats, so that model and bucket see the same moments.
STEPS = st.lists(st.integers(0, 20).map(lambda quarters: quarters / 4), max_size=60)
RATES = st.sampled_from([0.5, 1.0, 2.0, 4.0, 8.0])
BURSTS = st.integers(1, 10)


class Bucket:
    """The model: a bucket with tokens in it, counted exactly."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = Fraction(rate), burst
        self.tokens, self.then = Fraction(burst), Fraction(0)

    def fill(self, now: float) -> None:
        """Refill the bucket."""
        passed = Fraction(now) - self.then
        self.tokens = min(Fraction(self.burst), self.tokens + passed * self.rate)
        self.then = Fraction(now)

    def take(self, now: float) -> bool:
        """Take one, if available."""
        self.fill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def is_full(self, now: float) -> bool:
        """Tell whether the bucket is full."""
        self.fill(now)
        return self.tokens == self.burst


# A bucket.


@given(RATES, BURSTS, STEPS)
def test_a_bucket_is_like_its_model(rate: float, burst: int, steps: list[float]) -> None:
    """It allows what a bucket of tokens allows, and is full when that is."""
    bucket, model = TokenBucket(rate, burst), Bucket(rate, burst)
    for now in itertools.accumulate(steps, initial=1000.0):
        assert bucket.is_full(now) == model.is_full(now)
        assert bucket.take(now) == model.take(now)


@given(
    st.floats(0.001, 1e6),
    st.integers(1, 1000),
    st.lists(st.floats(0, 100, allow_subnormal=False), max_size=100),
)
def test_no_time_brings_more_than_it_may(rate: float, burst: int, steps: list[float]) -> None:
    """Over any period, at most the burst plus the period's share passes."""
    bucket = TokenBucket(rate, burst)
    taken = [now for now in itertools.accumulate(steps, initial=1e5) if bucket.take(now)]
    for first in range(0, len(taken), 7):
        for last in range(first, len(taken), 7):
            share = (taken[last] - taken[first]) * rate
            assert last - first + 1 <= burst + share * (1 + 1e-6) + 1e-5 * rate + 1e-6


@pytest.mark.parametrize("burst", [1, 2, 200])
def test_a_full_bucket_gives_its_burst_at_once(burst: int) -> None:
    """Exactly the burst; then as many as time refills."""
    bucket = TokenBucket(50.0, burst)
    assert [bucket.take(5.0) for _ in range(burst + 1)] == [True] * burst + [False]
    assert not bucket.take(5.019)
    assert bucket.take(5.02)
    assert not bucket.take(5.02)


def test_all_is_full_at_first() -> None:
    """Whatever the clock says: a monotonic one may have just begun."""
    bucket = TokenBucket(1.0, 1)
    assert bucket.is_full(0.0) and bucket.take(0.0) and not bucket.take(0.5)
    fresh = Throttle(1.0, 1, byte_rate=1.0, byte_burst=1)
    assert [fresh.judge(ping, 0.0, 1) for ping in (True, False)] == [PASS, WARN]
    fresh = Throttle(1.0, 1, byte_rate=1.0, byte_burst=100)
    assert [fresh.judge(ping, 0.0) for ping in (True, False, True)] == [PASS, PASS, WARN]


def test_a_refused_take_costs_nothing() -> None:
    """A thousand refused takes delay no later one."""
    bucket = TokenBucket(1.0, 1)
    assert bucket.take(10.0)
    assert not any(bucket.take(10.5) for _ in range(1000))
    assert bucket.take(11.0)


def test_a_steady_pace_passes_for_ever() -> None:
    """The rate itself is never exceeded, even with half an hour of rounding errors."""
    bucket = TokenBucket(50.0, 2)
    assert all(bucket.take(1e6 + number / 50.0) for number in range(100_000))


# A session's packets.


@given(RATES, BURSTS, st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=120))
def test_a_throttle_is_like_its_model(
    rate: float, burst: int, steps: list[tuple[bool, int]]
) -> None:
    """Two buckets: one error, then silence, then the close, until both are full."""
    throttle = Throttle(rate, burst)
    buckets = {is_ping: Bucket(rate, burst) for is_ping in (False, True)}
    now, dropped = 1000.0, 0
    for is_ping, quarters in steps:
        now += quarters / 4
        if buckets[False].is_full(now) and buckets[True].is_full(now):
            dropped = 0
        verdict = throttle.judge(is_ping, now)
        if buckets[is_ping].take(now):
            assert verdict is PASS
            continue
        dropped += 1
        expected = WARN if dropped == 1 else DROP if dropped <= burst else CLOSE
        assert verdict is expected


def test_a_burst_of_candidates_passes() -> None:
    """A mesh of six: to five peers an offer and 30 trickled candidates, within half a second."""
    limits = Limits()
    assert limits.packets_per_second is not None
    throttle = Throttle(limits.packets_per_second, limits.packet_burst)
    judged = [throttle.judge(False, 100.0 + number * 0.5 / 155) for number in range(155)]
    assert set(judged) == {PASS}


def test_a_mesh_of_eight_passes_at_once() -> None:
    """By default: an offer of 6 KB and 40 candidates of 300 bytes to each of seven peers."""
    judge = throttle(Limits())
    assert judge is not None
    sizes = [6000, *[300] * 40] * 7
    assert {judge.judge(False, 100.0, size) for size in sizes} == {PASS}


def test_a_burst_is_below_what_a_reader_may_have_waiting() -> None:
    """By default it is half of it, so one member's burst closes nobody."""
    at_once = Limits().at_once(64 * 1024)
    assert at_once is not None and 2 * at_once == Options().max_backlog_bytes


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(byte_burst=1000), 1000),
        (Limits(bytes_per_second=None, packet_burst=10), 640),
        (Limits(bytes_per_second=None, packets_per_second=None), None),
    ],
)
def test_what_may_be_sent_at_once(limits: Limits, expected: int | None) -> None:
    """The byte burst; without it, the packet burst times the largest packet."""
    assert limits.at_once(64) == expected


def test_without_a_limit_of_packets_any_number_of_bytes_may_be_sent_at_once() -> None:
    """If bytes are unlimited too."""
    assert Limits(bytes_per_second=None).at_once(None) is None


# A session's bytes.

SIZES = st.one_of(st.integers(0, 300), st.integers(0, 20_000))
BYTE_STEPS = st.lists(st.tuples(st.integers(0, 40), SIZES, SIZES), max_size=80)
BYTE_RATES = st.sampled_from([16.0, 64.0, 1024.0, 65536.0])
BYTE_BURSTS = st.integers(1, 20_000)


def passed_bytes(
    rate: float, burst: int, steps: list[tuple[int, int, int]]
) -> list[tuple[float, int]]:
    """Return when each packet passed, and its size with everything it caused."""
    judge = Throttle(None, 0, byte_rate=rate, byte_burst=burst)
    now, found = 1000.0, []
    for quarters, size, caused in steps:
        now += quarters / 4
        if judge.judge(False, now, size) is PASS:
            judge.charge(caused, now)
            found.append((now, size + caused))
    return found


@given(BYTE_RATES, BYTE_BURSTS, BYTE_STEPS)
def test_no_time_brings_more_bytes_than_it_may(
    rate: float, burst: int, steps: list[tuple[int, int, int]]
) -> None:
    """Over any period: at most the burst, the period's share, and one packet's answer."""
    passed = passed_bytes(rate, burst, steps)
    for first in range(len(passed)):
        total = 0
        for now, size in passed[first:]:
            share = (now - passed[first][0]) * rate
            assert total < burst + share + 1e-3
            total += size


@given(BYTE_RATES, BYTE_BURSTS, BYTE_STEPS)
def test_bytes_are_charged_no_more_than_they_are(
    rate: float, burst: int, steps: list[tuple[int, int, int]]
) -> None:
    """Whatever an exact bucket, smaller by one part, allows passes too."""
    judge = Throttle(None, 0, byte_rate=rate, byte_burst=burst)
    least = burst - burst // PARTS
    held, now = Fraction(least), 1000.0
    for quarters, size, caused in steps:
        now += quarters / 4
        held = min(Fraction(least), held + Fraction(quarters) / 4 * Fraction(rate))
        verdict = judge.judge(False, now, size)
        assert verdict is PASS or held < 1
        if verdict is PASS:
            judge.charge(caused, now)
            held -= size + caused


@given(BYTE_STEPS)
def test_what_is_owed_is_charged(steps: list[tuple[int, int, int]]) -> None:
    """Deferring charges until they are due keeps the same bound."""
    judge = Throttle(None, 0, byte_rate=64.0, byte_burst=5000)
    now, passed = 1000.0, []
    for quarters, size, caused in steps:
        now += quarters / 4
        if judge.judge(True, now, size) is PASS:
            judge.owed += caused
            if judge.owed > judge.due:
                judge.charge(0, now)
            assert judge.owed <= max(0, judge.due)
            passed.append((now, size + caused))
    for first in range(len(passed)):
        before = sum(size for _, size in passed[first:-1])
        if passed[first:]:
            assert before < 5000 + (passed[-1][0] - passed[first][0]) * 64.0 + 1e-3


def test_a_burst_of_bytes_is_used_up_exactly() -> None:
    """Its last byte passes; the next one has to wait."""
    throttle = Throttle(None, 0, byte_rate=1.0, byte_burst=100)
    assert [throttle.judge(False, 5.0, size) for size in (99, 1, 1)] == [PASS, PASS, WARN]


def test_a_debt_is_paid_before_anything_passes() -> None:
    """One answer passes however large; what follows waits until the debt is paid."""
    judge = Throttle(None, 0, byte_rate=100.0, byte_burst=1000)
    assert judge.judge(True, 10.0, 100) is PASS
    judge.charge(5900, 10.0)
    judged = [judge.judge(False, 10.0 + seconds, 1) for seconds in (0, 20, 49.9, 50.1)]
    assert judged == [WARN, DROP, DROP, PASS]
    assert judge.judge(False, 200.0, 999) is PASS
    assert judge.judge(False, 200.0, 1) is PASS
    assert judge.judge(False, 200.0, 1) is WARN


def test_as_many_bytes_again_close_the_session() -> None:
    """Once an episode has dropped the byte burst, however few packets that are."""
    judge = Throttle(50.0, 400, byte_rate=1.0, byte_burst=10_000)
    judged = [judge.judge(False, 10.0, 5000) for _ in range(6)]
    assert judged == [PASS, PASS, WARN, DROP, CLOSE, CLOSE]
    judged = [judge.judge(False, 10_100.0, 5000) for _ in range(4)]
    assert judged == [PASS, PASS, WARN, DROP]


def test_pings_and_packets_share_their_bytes() -> None:
    """Bytes used by pings are not available for packets."""
    judge = Throttle(50.0, 400, byte_rate=1.0, byte_burst=1000)
    judged = [judge.judge(is_ping, 1.0, 500) for is_ping in (True, False, True, False)]
    assert judged == [PASS, PASS, WARN, DROP]


def test_limits_without_rates_judge_nothing() -> None:
    """`null` switches each off; without both there is no throttle."""
    assert throttle(Limits(packets_per_second=None, bytes_per_second=None)) is None
    bytes_alone = throttle(Limits(packets_per_second=None, byte_burst=10))
    packets_alone = throttle(Limits(bytes_per_second=None, packet_burst=2))
    assert bytes_alone is not None and packets_alone is not None
    assert {bytes_alone.judge(False, 1.0, 0) for _ in range(1000)} == {PASS}
    assert [bytes_alone.judge(False, 1.0, 10) for _ in range(2)] == [PASS, WARN]
    judged = [packets_alone.judge(False, 1.0, 10**9) for _ in range(6)]
    assert judged == [PASS, PASS, WARN, DROP, CLOSE, CLOSE]


def test_an_old_clients_pings_pass() -> None:
    """One every two seconds, for a day."""
    throttle = Throttle(50.0, 200)
    assert all(throttle.judge(True, 2.0 * number) is PASS for number in range(43_200))


def test_an_episode() -> None:
    """One error; then as much as the burst is dropped silently; then the close."""
    throttle = Throttle(10.0, 5)
    judged = [throttle.judge(False, 1.0) for _ in range(12)]
    assert judged == [PASS] * 5 + [WARN] + [DROP] * 4 + [CLOSE] * 2


def test_an_episode_goes_on_while_packets_trickle() -> None:
    """A slightly too fast sender gets one error, not one for each dropped packet."""
    throttle = Throttle(10.0, 5)
    judged = [throttle.judge(False, 1.0 + number / 11) for number in range(90)]
    assert judged.count(WARN) == 1
    assert CLOSE not in judged and DROP in judged


def test_an_episode_ends_when_all_has_come_back() -> None:
    """Then the count is reset, and the next excess gets an error again."""
    throttle = Throttle(10.0, 5)
    for now in (1.0, 1.51, 2.02):  # the bucket is full after half a second
        judged = [throttle.judge(False, now) for _ in range(10)]
        assert judged == [PASS] * 5 + [WARN] + [DROP] * 4


def test_an_episode_does_not_end_early() -> None:
    """While a bucket is not quite full: no second error, and the count goes on."""
    throttle = Throttle(10.0, 5)
    assert [throttle.judge(False, 1.0) for _ in range(8)][5:] == [WARN, DROP, DROP]
    judged = [throttle.judge(False, 1.45) for _ in range(8)]
    assert judged == [PASS] * 4 + [DROP] * 2 + [CLOSE] * 2


def test_pings_count_apart() -> None:
    """Pings do not use the packets' allowance, nor packets the pings'."""
    throttle = Throttle(10.0, 3)
    assert [throttle.judge(True, 1.0) for _ in range(4)] == [PASS] * 3 + [WARN]
    assert [throttle.judge(False, 1.0) for _ in range(3)] == [PASS] * 3
    throttle = Throttle(10.0, 3)
    assert [throttle.judge(False, 1.0) for _ in range(4)] == [PASS] * 3 + [WARN]
    assert [throttle.judge(True, 1.0) for _ in range(3)] == [PASS] * 3


# Addresses that bring wrong tokens.


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 120).map(lambda q: q / 4)), max_size=120
    )
)
def test_penalties_are_like_their_model(steps: list[tuple[str, float]]) -> None:
    """Failures of the last minute: from the tenth on, the delay doubles up to 25 s."""
    penalties = Penalties()
    failures: dict[str, list[float]] = {"a": [], "b": []}
    now = 1000.0
    for address, passed in steps:
        now += passed / 4
        for each, times in failures.items():
            recent = sum(now - time <= 60 for time in times)
            delay = min(25.0, 0.5 * 2 ** (recent - 10)) if recent >= 10 else 0.0
            assert penalties.delay(each, now) == delay
        penalties.record(address, now)
        failures[address].append(now)


def test_ten_failures_slow_the_next_try() -> None:
    """Nine do not; each further one doubles the delay, up to 25 s."""
    penalties = Penalties()
    delays = []
    for _ in range(20):
        penalties.record("a", 100.0)
        delays.append(penalties.delay("a", 100.0))
    assert delays[:9] == [0.0] * 9
    assert delays[9:] == [0.5, 1, 2, 4, 8, 16, 25, 25, 25, 25, 25]
    assert (FAILURES, FIRST_DELAY, LONGEST_DELAY) == (10, 0.5, 25.0)
    assert (FAILURE_SECONDS, MAX_FAILING_ADDRESSES) == (60.0, 10_000)
    assert penalties.delay("b", 100.0) == penalties.delay("", 100.0) == 0.0


def test_failures_are_forgotten_after_a_minute() -> None:
    """Then nothing is remembered of the address."""
    penalties = Penalties()
    for _ in range(1000):
        penalties.record("a", 100.0)
    assert penalties.delay("a", 100.0 + FAILURE_SECONDS) == LONGEST_DELAY
    assert penalties.delay("a", 100.1 + FAILURE_SECONDS) == 0.0
    assert penalties._failures == {}


def test_nine_failures_a_minute_are_a_users_own_affair() -> None:
    """A slow stream of failures is never delayed."""
    penalties = Penalties()
    for number in range(1000):
        now = 100.0 + number * FAILURE_SECONDS / 8.5
        assert penalties.delay("a", now) == 0.0
        penalties.record("a", now)


def test_so_many_addresses_are_remembered() -> None:
    """Memory is bounded, in total and per address; the longest quiet are forgotten first."""
    penalties = Penalties()
    tracemalloc.start()
    try:
        for number in range(3 * MAX_FAILING_ADDRESSES):
            penalties.record(f"address {number}", 1.0)
            if not number % (MAX_FAILING_ADDRESSES // 2):
                for _ in range(12):
                    penalties.record("a regular", 1.0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(penalties._failures) == MAX_FAILING_ADDRESSES
    assert penalties.delay("a regular", 1.0) == LONGEST_DELAY
    assert max(map(len, penalties._failures.values())) <= 2 * FAILURES
    assert taken < 2048 * MAX_FAILING_ADDRESSES


def test_bytes_without_a_rate_hold_nobody_back() -> None:
    """What is charged to a session whose bytes are not limited does not lengthen an episode."""
    throttle = Throttle(1.0, 1)
    assert [throttle.judge(False, 100.0) for _ in range(2)] == [PASS, WARN]
    throttle.charge(1_000_000, 100.0)
    assert [throttle.judge(False, 102.0) for _ in range(2)] == [PASS, WARN]


def test_packets_without_a_rate_hold_nobody_back() -> None:
    """Their number does not lengthen an episode of a session whose bytes are limited."""
    throttle = Throttle(None, 0, byte_rate=100.0, byte_burst=100)
    for now in (100.0, 120.0):  # the bucket is full after a second
        judged = [throttle.judge(False, now, 1) for _ in range(102)]
        assert judged == [PASS] * 100 + [WARN, DROP]
        judged = [throttle.judge(True, now + 10.0, 1) for _ in range(102)]
        assert judged == [PASS] * 100 + [WARN, DROP]
