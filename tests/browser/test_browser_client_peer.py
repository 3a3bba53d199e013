"""The browser client's Peer alone, under node, with a fake connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from process import ROOT, node

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Run all scenarios."""
    client = ROOT / "videre" / "browser" / "videre.js"
    lines = asyncio.run(node("peer_alone.mjs", str(client)))
    return {line["scenario"]: line["found"] for line in lines}


def test_values_leave_no_listeners(found: dict[str, Any]) -> None:
    """A value listens to its `signal` while it waits and while it is sent, and no longer."""
    assert found["listenersOfASignal"] == [
        ["waits", "waits", "waits", 3],
        ["sent", "waits", "waits", 2],
        ["sent", "sent", "waits", 1],
        ["sent", "sent", "cancelled", 0],
    ]


@pytest.mark.parametrize("name", ["channel", "data"])
def test_values_fail_when_a_channel_is_closed(found: dict[str, Any], name: str) -> None:
    """Those that are on their way or wait, and those that are sent later: none waits for ever."""
    before, after = found["aChannelThatIsClosed"][name]
    assert before == ["waits", "waits"]
    assert after == ["gone"] * 5
