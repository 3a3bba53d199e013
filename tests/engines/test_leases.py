"""A lease ends when whoever watches it has not seen it change for its time, by its own clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from videre.engines.redis.leases import Leases, lease


def test_a_lease_is_another_one_each_time() -> None:
    """Its count and its time both tell."""
    assert lease(1, 10.0) == "1:10000" != lease(2, 10.0)


def test_a_lease_that_is_not_renewed_ends() -> None:
    """After its own time, whoever else renews, and not before."""
    leases = Leases(longest=5.0)
    for now in range(11):
        leases.look(1000.0 + now, {"dead": "7:10000", "living": f"{now}:10000"})
        assert leases.ended() == ([("dead", "7:10000")] if now == 10 else [])
        assert leases.next_end(2.5) == min(2.5, 10 - now or 2.5)


def test_a_lease_without_time_ends_at_once() -> None:
    """A node that ends writes one, so that the others need not wait."""
    leases = Leases(longest=5.0)
    leases.look(0.0, {"gone": "8:0"})
    assert leases.ended() == [("gone", "8:0")]


def test_who_stood_still_gives_the_others_time() -> None:
    """It could not see them renew: of that time only the longest pause counts."""
    leases = Leases(longest=5.0)
    leases.look(0.0, {"other": "1:10000"})
    leases.look(3600.0, {"other": "1:10000"})
    assert leases.ended() == []
    leases.look(3605.0, {"other": "1:10000"})
    assert leases.ended() == [("other", "1:10000")]


@given(st.lists(st.floats(0.0, 3.0), max_size=50))
def test_a_node_that_renews_never_ends(pauses: list[float]) -> None:
    """However the watcher's own looks are spread."""
    leases, now = Leases(longest=5.0), 0.0
    for count, pause in enumerate(pauses):
        now += pause
        leases.look(now, {"other": lease(count, 4.0)})
        assert leases.ended() == []
