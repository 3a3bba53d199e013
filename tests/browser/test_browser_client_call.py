"""The browser client's Videre alone, under node, with fake devices, connections and server."""

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
    lines = asyncio.run(node("videre_alone.mjs", str(client)))
    return {line["scenario"]: line["found"] for line in lines}


def test_hanging_up_when_a_device_ends(found: dict[str, Any]) -> None:
    """A listener that hangs up then gets no other device."""
    assert found["whoHangsUpWhenADeviceEnds"] == [["audio", "video"], [], None]


@pytest.mark.parametrize("how", ["useDevice", "shareScreen"])
def test_what_is_allowed_after_a_disconnect(found: dict[str, Any], how: str) -> None:
    """It is stopped at once, even if there was no call."""
    assert found["whatIsAllowedAfterItHangsUp"][how] == ["left", 1, []]


@pytest.mark.parametrize("state", ["new", "failed", "disconnected"])
def test_who_did_not_come_back(found: dict[str, Any], state: str) -> None:
    """After a restart of the server, a call that cannot recover ends; one that may has its time."""
    kept = ["you"] if state == "disconnected" else []
    assert found["whoDidNotComeBack"][state] == [*kept, "gone"]
