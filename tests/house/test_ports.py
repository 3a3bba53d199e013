"""Ports for the tests' servers: no two get the same one before they listen."""

from __future__ import annotations

import pytest
from ports import PORTS, _share, free_port


def test_none_is_given_twice() -> None:
    """Several are chosen before the first server listens."""
    single = [free_port() for _ in range(80)]
    pairs = [free_port(2) for _ in range(20)]
    given = [*single, *pairs, *(port + 1 for port in pairs)]
    assert len(set(given)) == len(given) and {*given} <= {*PORTS}


@pytest.mark.parametrize("workers", [1, 3, 4])
def test_each_worker_has_its_own(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that replaces a crashed worker has a higher number."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(workers))
    shares = []
    for number in range(workers + 1):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", f"gw{number}")
        shares.append({*_share()})
    assert shares[-1] == shares[0]
    assert sum(map(len, shares[:-1])) == len(set().union(*shares)) > len(PORTS) - workers
