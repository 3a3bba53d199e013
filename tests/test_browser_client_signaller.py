"""Signaller of the browser client alone, under node: a WebSocket and a clock that are ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from process import ROOT, node

FRESH = {"Welcome": True}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Play all scenarios."""
    client = ROOT / "videre" / "static" / "videre.js"
    lines = asyncio.run(node("signaller_alone.mjs", str(client)))
    return {line["scenario"]: line["found"] for line in lines}


def test_it_waits_longer_and_longer_with_full_jitter(found: dict[str, Any]) -> None:
    """Half of the most it may wait, up to a limit; a seat of a second is no success, 10 s are."""
    assert found["backOff"] == [250, 500, 1000, 1500, 1500, 1500, 250]


def test_it_resumes(found: dict[str, Any]) -> None:
    """With the last secret and the count of what counts; what was said meanwhile is sent then."""
    first, sent, second, told = found["resume"]
    assert first == {"Welcome": True, "Resume": "secret 1", "Received": 4}
    assert sent == ["kept"]
    assert second == {"Welcome": True, "Resume": "secret 2", "Received": 1}
    assert told == [
        ["error", "no-such-user"],
        ["role", None],
        ["error", 1006],
        ["resumed", None],
        ["error", 1006],
    ]


def test_what_was_lost_with_the_connection_is_sent_again(found: dict[str, Any]) -> None:
    """Of a seat that is resumed, what went after the last that has come; of another, nothing."""
    again, third, fourth = found["whatWasLost"]
    assert again == ["lost 1", "lost 2", "kept"]
    assert third == ["lost 3", "lost with the seat"]
    assert fourth == ["kept, too"]


def test_what_may_be_lost_is_kept_up_to_a_size(found: dict[str, Any]) -> None:
    """The last mebibyte."""
    assert found["tooMuchToKeep"] == list(range(3, 20))


def test_packets_can_be_watched(found: dict[str, Any]) -> None:
    """Each as it is on the wire, with its direction and size."""
    assert found["packets"] == [
        [True, True, "connect", False],
        [False, True, "connect", False],
        [False, True, "welcome", False],
        [True, True, "broadcast", True],
        [False, True, "broadcast", True],
    ]


def test_a_secret_that_was_used_is_forgotten(found: dict[str, Any]) -> None:
    """Its welcome was lost: the room is joined anew, over the same connection."""
    resume = {"Welcome": True, "Resume": "secret 1", "Received": 0}
    told = [["error", 1006], ["rejoined", None]]
    assert found["aSecretThatIsUsed"] == [[resume, FRESH], "joined", told]


def test_a_refusal_is_final(found: dict[str, Any]) -> None:
    """Where the token is no longer good nothing goes on."""
    told = [["error", 1006], ["closed", "unauthorized"]]
    assert found["aTokenThatIsNoLongerGood"] == ["closed", told, 0]


def test_a_seat_that_is_taken(found: dict[str, Any]) -> None:
    """Who comes for the first time is told; who comes back waits for its own old seat to end."""
    told = [["error", 1006], ["error", "user-taken"], ["rejoined", None]]
    assert found["aSeatThatIsTaken"] == [["user-taken", True], "waiting", "joined", told]


def test_closes_from_4500_are_final(found: dict[str, Any]) -> None:
    """All but that for an expired token, where a fresh one can be had."""
    *final, renewed = found["finalCloses"]
    assert final == [["closed", [["closed", code]], 0] for code in range(4500, 4505)]
    assert renewed == ["waiting", [["error", 4502]], 1]


def test_a_dead_connection_is_noticed(found: dict[str, Any]) -> None:
    """A ping without an answer: it is closed with a code that keeps the seat."""
    events = ["connect", "ping", "ping"]
    assert found["aConnectionThatIsDead"] == ["joined", "waiting", 3000, events]


def test_a_server_that_goes_away(found: dict[str, Any]) -> None:
    """It is left when it said, not earlier, with a code that keeps the seat; then it resumes."""
    before, closed, secret, state, told = found["aServerThatGoesAway"]
    assert before == ["joined", 1, "meanwhile"]
    assert (closed, secret, state) == (3000, "secret 1", "joined")
    assert told == [["error", 3000], ["resumed", None]]


def test_a_network_that_is_back(found: dict[str, Any]) -> None:
    """It is tried at once, and a connection that may be dead is given 3 s to answer."""
    assert found["aNetworkThatIsBack"] == [2, "waiting", 0, 0]


def test_ice_servers_that_end_are_replaced(found: dict[str, Any]) -> None:
    """Fresh ones are asked for when four fifths of their time are over."""
    assert found["iceServersThatEnd"] == [["old"], ["new"]]


def test_nothing_opens(found: dict[str, Any]) -> None:
    """A WebSocket has 6 s, then polling is tried, and so on until it is left; no timer stays."""
    expected = ["waiting", 3000, "connecting", 2, "left", "closed", 0]
    assert found["nothingOpens"] == expected


def test_where_it_connects(found: dict[str, Any]) -> None:
    """To SockJS's raw WebSocket, whatever scheme the URL has."""
    urls = ["ws://h/echo", "wss://h/echo", "ws://h/a/echo", "wss://h:1/echo"]
    assert found["whereItConnects"] == [f"{url}/websocket" for url in urls]
