"""A lease ends when its watcher, by its own clock, has not seen it change for its duration."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from videre.engines.redis.leases import Leases, lease


def test_a_lease_changes_each_time() -> None:
    """Both its count and its time differ."""
    assert lease(1, 10.0) == "1:10000" != lease(2, 10.0)


def test_an_unrenewed_lease_ends() -> None:
    """It ends after its own duration and not before, whatever other leases do."""
    leases = Leases(longest=5.0)
    for now in range(11):
        leases.look(1000.0 + now, {"dead": "7:10000", "living": f"{now}:10000"})
        assert leases.ended() == ([("dead", "7:10000")] if now == 10 else [])
        assert leases.next_end(2.5) == min(2.5, 10 - now or 2.5)


def test_a_lease_of_zero_ends_at_once() -> None:
    """A node that ends writes one, so that the others need not wait."""
    leases = Leases(longest=5.0)
    leases.look(0.0, {"gone": "8:0"})
    assert leases.ended() == [("gone", "8:0")]


def test_a_watcher_that_stood_still_waits_longer() -> None:
    """It could not see renewals, so only its longest pause between two looks counts."""
    leases = Leases(longest=5.0)
    leases.look(0.0, {"other": "1:10000"})
    leases.look(3600.0, {"other": "1:10000"})
    assert leases.ended() == []
    leases.look(3605.0, {"other": "1:10000"})
    assert leases.ended() == [("other", "1:10000")]


@given(st.lists(st.floats(0.0, 3.0), max_size=50))
def test_a_renewed_lease_never_ends(pauses: list[float]) -> None:
    """It lasts however irregularly the watcher looks."""
    leases, now = Leases(longest=5.0), 0.0
    for count, pause in enumerate(pauses):
        now += pause
        leases.look(now, {"other": lease(count, 4.0)})
        assert leases.ended() == []
