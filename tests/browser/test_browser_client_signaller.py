"""Signaller of the browser client alone, under node: a WebSocket and a clock that are ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from process import ROOT, node

pytestmark = pytest.mark.process

FRESH = {"Welcome": True}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Play all scenarios."""
    client = ROOT / "videre" / "browser" / "videre.js"
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


def test_a_url_that_the_browser_refuses(found: dict[str, Any]) -> None:
    """Mixed content, say: the promise is rejected, and nothing stays."""
    told = [["closed", "unreachable"]]
    assert found["aUrlThatTheBrowserRefuses"] == [True, "unreachable", 0, "closed", told, 0]


def test_a_token_that_takes_long(found: dict[str, Any]) -> None:
    """It is asked for once, before a connection is opened, and may take its time."""
    who = [{"room": "room", "user": "me"}]
    assert found["aTokenThatTakesLong"] == [[1, 0, "connecting"], who, ["a token"], "joined"]


def test_a_token_for_who_has_left(found: dict[str, Any]) -> None:
    """Who joins again waits for the same one; one for another room is asked for after it."""
    asked = ["room", "other"]
    assert found["aTokenForWhoHasLeft"] == [["room"], asked, 1, 1, ["for other"]]


def test_a_token_that_was_not_used(found: dict[str, Any]) -> None:
    """It is shown in the next connection, but not for ever: it may end."""
    assert found["aTokenThatWasNotUsed"] == [1, True]


def test_what_wakes_it(found: dict[str, Any]) -> None:
    """One ping, 3 s for its answer; a back-off ends; a page that is hidden does nothing."""
    each = [1, "waiting", 2, 250, "joined"]
    types = ["online", "pageshow", "visibilitychange", "resume"]
    assert found["whatWakesIt"] == [dict.fromkeys(types, each), 0, 0, 0]


def test_a_sleep_while_it_connects(found: dict[str, Any]) -> None:
    """An attempt whose time was over in the sleep is given up, one that has begun is not."""
    assert found["aSleepWhileItConnects"] == [["connecting", None], 3000]


def test_a_wake_up_before_a_goodbye(found: dict[str, Any]) -> None:
    """A server that goes away is left all the same."""
    assert found["aServerThatGoesAwayAndAWakeUp"] == [3000, "waiting"]


def test_it_keeps_to_the_limits(found: dict[str, Any]) -> None:
    """Nine tenths of what the welcome says, in order; what an old server says nothing of, too."""
    limits = found["itKeepsToTheLimits"]
    for at, in_order, timers in limits.values():
        assert in_order and timers == 0
        assert at == sorted(at)
    assert limits["told"][0] == [18, 27, 36]
    assert limits["none"][0] == [400, 400, 400]
    assert limits["old"][0][0] == 180 and limits["old"][0][2] in (268, 269, 270)
    # A packet has some 90 bytes here.
    first, second, third = limits["bytes"][0]
    assert 20 < first <= 3_000 / 85
    assert 5 <= second - first <= 1_000 / 85 and 5 <= third - second <= 1_000 / 85


def test_what_was_refused_is_sent_again(found: dict[str, Any]) -> None:
    """From the one that was refused on, in order, when the server's limits have recovered."""
    at_once, again, rising, lost, errors = found["whatWasRefused"]
    assert at_once == 5
    assert again == [[2, 2], [3, 3], [4, 4], [5, -1]]
    assert rising is True
    assert lost == [5]
    assert errors[0] == ["error", "rate-limited"]


def test_what_has_come_before_is_ignored(found: dict[str, Any]) -> None:
    """Once it has come by one of its numbers; of other clients' numbers nothing is concluded."""
    own = ["1", "3", "2, late"]
    assert found["whatHasComeBefore"] == [*own, "same id", "same id", "3, of a new session"]


def test_wrong_options(found: dict[str, Any]) -> None:
    """Each is a TypeError that names it, before anything is opened."""
    told, sockets, timers = found["wrongOptions"]
    assert (sockets, timers) == (0, 0)
    words = {
        "nothing": "an object of options",
        "no url": "url takes an http:",
        "another scheme": "url takes an http:",
        "no URL at all": "url takes an http:",
        "relative, without a page": "url takes an http:",
        "typo": "no option tokens",
        "user": "user takes a string of 1 to 128",
        "long user": "user takes a string of 1 to 128",
        "empty user": "user takes a string of 1 to 128",
        "token": "token takes a string or a function",
        "header": "header takes a function",
        "delay": "minDelay takes a number of milliseconds",
        "endless": "maxDelay takes a number of milliseconds",
        "heartbeat": "heartbeat takes a number of milliseconds",
        "room": "room takes a string of 1 to 256",
        "no room": "room takes a string of 1 to 256",
        "control character": "room takes a string of 1 to 256",
        "payload": "payload takes a JSON value",
        "to": "to takes a user's name or a list",
        "list of to": "to takes a user's name or a list",
        "options of broadcast": "an object of options",
    }
    assert told.keys() == words.keys()
    assert {name: said for name, said in told.items() if words[name] not in said} == {}


def test_the_query_is_kept(found: dict[str, Any]) -> None:
    """On every transport."""
    assert found["theQueryIsKept"] == [
        "ws://h/echo/websocket?node=1",
        "wss://h/echo/websocket?a=b&c=%2F",
        "ws://h/echo/websocket?x",
        "http://h/echo/000/session/xhr?node=1",
        "http://h/echo?node=1",
    ]


@pytest.mark.parametrize("bare", ["EventTarget", "CustomEvent"])
def test_without_the_events_of_a_browser(bare: str) -> None:
    """Of React Native, or an old Node: the client's own take their place, and do the same."""
    client = ROOT / "videre" / "browser" / "videre.js"
    (line,) = asyncio.run(node("no_events.mjs", str(client), bare))
    assert line == {
        "missing": True,
        "heard": ["connecting", "again connecting", "once connecting", "closed", "again closed"],
        "thrown": ["a listener's own"],
        "detail": "closed",
    }
