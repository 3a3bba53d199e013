"""The browser client's Peer alone, under node, with a fake connection."""

from __future__ import annotations

from typing import Any

import pytest
from process import ROOT, scenarios

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Run all scenarios."""
    client = ROOT / "videre" / "browser" / "videre.js"
    return scenarios("peer_alone.mjs", str(client))


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


def test_a_signal_that_is_aborted(found: dict[str, Any]) -> None:
    """A value fails at once, before the channels open, and even if it is sent afterwards."""
    ends, plain, transfers = found["aSignalThatIsAborted"]
    assert ends == ["cancelled", "waits", "cancelled", "cancelled"]
    assert (plain, transfers) == (["other"], [])


def test_a_name_that_is_cut(found: dict[str, Any]) -> None:
    """No character is divided: half of one is not well-formed."""
    assert found["aNameThatIsCut"] == [[[254, False], [255, False], [4, False]], None]


def test_an_answer_that_is_lost(found: dict[str, Any]) -> None:
    """It is sent again before the next offer, for which the other end needs it."""
    offer = ["Ice Offer", 1]
    assert found["anAnswerThatIsLost"]["call"] == [["Ice Answer", 7], offer]
    assert found["anAnswerThatIsLost"]["old"] == [offer]  # old clients make no second offer


def test_an_offer_that_fails(found: dict[str, Any]) -> None:
    """The other end gets its turn back, and can make offers again."""
    begin = ["Ice Ask", "Ice Turn 1", "no encoder"]
    given, lost = found["anOfferThatFails"].values()
    assert given == [[*begin, "Ice Turn 1"], ["Ice Offer"]]
    assert lost == [[*begin, "Ice Turn 1", "Ice Turn 1"], ["Ice Offer"]]
