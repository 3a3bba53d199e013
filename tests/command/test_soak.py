"""The soak of docs/operations.md, for a few seconds: what remains after all clients are gone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from process import signaller
from soak import CONFIG, Sample, admin_of, faults, leaks, soak

NEEDED = ("came by raw", "came by xhr", "left by reset", "heard broadcast", "heard ping")


@pytest.mark.process
async def test_nothing_remains_of_clients(tmp_path: Path) -> None:
    """They use every transport and way to end.

    tests/support/soak.py checks memory, in ten minutes.
    """
    told: list[object] = []
    async with signaller(tmp=tmp_path, config=CONFIG) as server:
        wrong = await soak(server, await admin_of(server), 6, 40, told.append, needed=NEEDED)
    assert not [each for each in wrong if not each.startswith("memory")], told
    assert isinstance(told[-1], dict)
    for did in NEEDED:
        assert told[-1][did], told


IDLE = Sample(0, 0, 0, 50 << 20, 10, 3, 0)


@pytest.mark.parametrize("name", ["sessions", "rooms", "descriptors", "tasks", "backlog"])
def test_remains_are_reported(name: str) -> None:
    """A single one of any kind is enough."""
    after = dataclasses.replace(IDLE, **{name: getattr(IDLE, name) + 1})
    assert len(leaks(IDLE, after)) == 1 and name in leaks(IDLE, after)[0]
    assert leaks(IDLE, IDLE) == []


def test_growing_memory_is_reported() -> None:
    """From the second quarter to the last, it grows more than the allocator varies."""
    flat = [dataclasses.replace(IDLE, seconds=number) for number in range(16)]
    growing = [
        dataclasses.replace(each, memory=(50 + number * 4) << 20)
        for number, each in enumerate(flat)
    ]
    assert faults(IDLE, flat, IDLE) == []
    assert [each.partition(":")[0] for each in faults(IDLE, growing, IDLE)] == ["memory"]
