"""The browser client's Videre alone, under node, with fake devices, connections and server."""

from __future__ import annotations

from typing import Any

import pytest
from process import ROOT, scenarios

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Run all scenarios."""
    client = ROOT / "videre" / "browser" / "videre.js"
    return scenarios("videre_alone.mjs", str(client))


def test_hanging_up_when_a_device_ends(found: dict[str, Any]) -> None:
    """A listener that hangs up then gets no other device."""
    assert found["whoHangsUpWhenADeviceEnds"] == [["audio", "video"], [], None]


@pytest.mark.parametrize("how", ["useDevice", "shareScreen"])
def test_what_is_allowed_after_a_disconnect(found: dict[str, Any], how: str) -> None:
    """It is stopped at once, even if there was no call."""
    assert found["whatIsAllowedAfterItHangsUp"][how] == ["left", 1, []]


@pytest.mark.parametrize("how", ["asked", "ended"])
def test_what_is_denied_after_a_disconnect(found: dict[str, Any], how: str) -> None:
    """It is nobody's problem; in the next call it is one."""
    assert found["whatIsDeniedAfterItHangsUp"][how] == [1]


@pytest.mark.parametrize(
    ("how", "then"),
    [
        ("it leaves", [None, []]),
        ("it leaves and connects", [None, []]),
        ("a callback throws", ["its own", []]),
    ],
)
def test_what_it_had_when_it_ends(found: dict[str, Any], how: str, then: list[Any]) -> None:
    """A microphone that was allowed before the camera is not left on; the next call asks again."""
    at_once, later, *ends = found["whatItHadWhenItEnds"][how]
    assert at_once == []
    assert later == (["audio", "video"] if how == "it leaves and connects" else [])
    assert ends == then


@pytest.mark.parametrize("how", ["calls", "is called"])
def test_hanging_up_in_a_hangup(found: dict[str, Any], how: str) -> None:
    """The call that would have replaced the ended one does not begin."""
    assert found["whoHangsUpInAHangup"][how] == [["call", "hangup"], []]


@pytest.mark.parametrize("state", ["new", "failed", "disconnected"])
def test_who_did_not_come_back(found: dict[str, Any], state: str) -> None:
    """After a restart of the server, a call that cannot recover ends; one that may has its time."""
    kept = ["you"] if state == "disconnected" else []
    assert found["whoDidNotComeBack"][state] == [*kept, "gone"]


@pytest.mark.parametrize("event", ["state", "closed", "hangup"])
@pytest.mark.parametrize("how", ["removed", "disconnect"])
def test_reconnecting_in_a_listener(found: dict[str, Any], event: str, how: str) -> None:
    """What ends the old call does not end the new one, and takes no devices from it."""
    kept = ["another", "joined", ["audio", "video"], True]
    assert found["whoReconnectsInAListener"][f"{event}, {how}"] == kept


def test_callbacks_that_throw(found: dict[str, Any]) -> None:
    """Listeners learn of the stream, and the others get the new device's track, all the same."""
    told, used, given = found["callbacksThatThrow"]
    assert told == [["stream", ""], ["error", "its own"]]
    assert (used, given) == ("its own", [["audio", "live"]])


def test_what_a_failed_call_sends(found: dict[str, Any]) -> None:
    """The offer that is not answered, and may be lost: ICE restarts only after its answer."""
    assert found["whatAFailedCallSends"] == ["Ice Offer", ""]


@pytest.mark.parametrize("how", ["it left", "we left"])
def test_signals_that_wait_are_forgotten(found: dict[str, Any], how: str) -> None:
    """No timer remains for a member that left, or after a disconnect."""
    assert found["whatWaitsOfAMember"][how] == [1, 0]


@pytest.mark.parametrize(("how", "errors"), [("fails", ["stopped"]), ("leaves", [])])
def test_a_screen_that_one_cannot_get(found: dict[str, Any], how: str, errors: list[str]) -> None:
    """It is shown to the others, and the promise says so: it neither fails nor waits for ever."""
    others = ["bob", "video"]
    assert found["aScreenThatOneCannotGet"][how][:3] == ["shared", others, errors]
