"""Our own part of the demo alone, under node, with a fake page and a fake call."""

from __future__ import annotations

from typing import Any

import pytest
from process import ROOT, scenarios

pytestmark = pytest.mark.process

KEPT = "The camera you chose cannot be used. The previous one is still in use."


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Run all scenarios."""
    own = ROOT / "videre" / "demo" / "demo_own.js"
    return scenarios("demo_alone.mjs", str(own))


def test_a_choice_that_fails(found: dict[str, Any]) -> None:
    """A camera that is still on can be switched off, and the page does not say that it is off."""
    disabled, notices = found["whoseChoiceFails"]["denied"]
    assert (disabled, notices) == (False, [KEPT])
    disabled, (notice,) = found["whoseChoiceFails"]["denied, and the old one has ended"]
    assert disabled and notice.endswith("they cannot see you.")


def test_a_choice_that_another_one_replaces(found: dict[str, Any]) -> None:
    """It is no problem."""
    assert found["whoseChoiceFails"]["another one was chosen"] == [False, []]


def test_the_list_after_a_choice(found: dict[str, Any]) -> None:
    """It is drawn again, so that it shows the device in use; unchanged, it is left alone."""
    assert found["whatTheListShows"] == [1, 1, 1, 2, 2]


def test_leaving_while_it_asks_again(found: dict[str, Any]) -> None:
    """Only the device that was asked for before is: none is turned on after the call."""
    assert found["whoLeavesWhileItAsksAgain"] == ["audio"]


def test_what_is_shown_as_shared(found: dict[str, Any]) -> None:
    """Not a screen that the browser's own button ends at once; another one shared at once is."""
    ended, shared, stopped, again = [False, False], [False, True], [False], [False, True, True]
    assert found["whatIsShared"] == [*ended, *shared, *stopped, *again]
