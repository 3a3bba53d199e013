"""A lease ends when its watcher, by its own clock, has not seen it change for its duration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videre.engines.nodes import About, Seen, this_process
from videre.engines.redis.leases import Leases, about, lease

ABOUT = About(age=7, members=3, process="web-1:42")


def test_a_lease_changes_each_time() -> None:
    """Both its count and its time differ."""
    assert lease(1, 10.0, ABOUT) == "1 7 3 web-1:42:10000" != lease(2, 10.0, ABOUT)


def test_a_lease_tells_about_its_node() -> None:
    """Unless an older version wrote it, or nobody that we know."""
    assert about(lease(1, 10.0, ABOUT)) == ABOUT
    for other in ("1:10000", "", "x", "1 2 3:10000", "1 2 -3 a:10000", "1 2 3 a b:10000"):
        assert about(other) is None


def test_a_process_is_one_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the host is called: the lease stays readable, and short."""
    for host in ("web-1.example", "", "my host", "a:b\n", "h\u00f6st", "x" * 1000):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        told = About(0, 0, this_process())
        assert about(lease(1, 10.0, told)) == told
        assert len(told.process.partition(":")[0]) <= 63  # as one label of a name may have in DNS


def test_living_nodes_are_seen() -> None:
    """By name, with how long they have been silent; not those whose leases have ended."""
    leases, told = Leases(longest=5.0), lease(1, 10.0, ABOUT)
    leases.look(0.0, {"old": "1:10000", "here": told, "dead": "1:2000", "gone": told})
    leases.look(3.0, {"old": "1:10000", "here": told + "0", "dead": "1:2000"})
    assert list(leases.seen("here")) == [
        Seen("here", True, 0.0, ABOUT),
        Seen("old", False, 3.0, None),
    ]


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
        leases.look(now, {"other": lease(count, 4.0, ABOUT)})
        assert leases.ended() == []
