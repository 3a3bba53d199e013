"""The browser client's Signaller alone, under node, with a fake WebSocket and clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from process import ROOT, node, scenarios

pytestmark = pytest.mark.process

FRESH = {"Welcome": True}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Run all scenarios."""
    client = ROOT / "videre" / "browser" / "videre.js"
    return scenarios("signaller_alone.mjs", str(client))


def test_the_back_off_grows_with_full_jitter(found: dict[str, Any]) -> None:
    """The test's jitter is half of the maximum; only a seat of 10 s, not of 1 s, resets it."""
    assert found["backOff"] == [250, 500, 1000, 1500, 1500, 1500, 250]


def test_it_resumes(found: dict[str, Any]) -> None:
    """It shows the last secret and its count of packets; messages kept meanwhile are sent then."""
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


def test_a_role_that_changes_meanwhile(found: dict[str, Any]) -> None:
    """After a resume, the packet that names the next initiator causes the event, in its place."""
    assert found["aRoleThatChangesMeanwhile"] == [
        "you",
        {"user": "me", "isInitiator": True},
        "me",
        {"user": "him", "isInitiator": False},
    ]


def test_who_came_meanwhile(found: dict[str, Any]) -> None:
    """The welcome of a resume has those who came; the missed packets do not change their order."""
    users = ["me", "bob", "ann", "eve"]
    assert found["whoCameMeanwhile"] == [users, users]


def test_lost_messages_are_sent_again(found: dict[str, Any]) -> None:
    """Those after the last one received, if the seat is resumed; none after a fresh join."""
    again, third, fourth = found["whatWasLost"]
    assert again == ["lost 1", "lost 2", "kept"]
    assert third == ["lost 3", "lost with the seat"]
    assert fourth == ["kept, too"]


def test_unconfirmed_messages_are_bounded(found: dict[str, Any]) -> None:
    """The last mebibyte is kept."""
    assert found["tooMuchToKeep"] == list(range(3, 20))


def test_packets_can_be_observed(found: dict[str, Any]) -> None:
    """Each as on the wire, with its direction and size."""
    assert found["packets"] == [
        [True, True, "connect", False],
        [False, True, "connect", False],
        [False, True, "welcome", False],
        [True, True, "broadcast", True],
        [False, True, "broadcast", True],
    ]


def test_a_used_secret_is_forgotten(found: dict[str, Any]) -> None:
    """Its welcome was lost: the client joins afresh, over the same connection."""
    resume = {"Welcome": True, "Resume": "secret 1", "Received": 0}
    told = [["error", 1006], ["rejoined", None]]
    assert found["aSecretThatIsUsed"] == [[resume, FRESH], "joined", told]


def test_a_refusal_is_final(found: dict[str, Any]) -> None:
    """When the token is no longer valid, the client stops."""
    told = [["error", 1006], ["closed", "unauthorized"]]
    assert found["aTokenThatIsNoLongerGood"] == ["closed", told, 0]


def test_a_taken_seat(found: dict[str, Any]) -> None:
    """A first join fails; a returning client waits until its own old seat ends."""
    told = [["error", 1006], ["error", "user-taken"], ["rejoined", None]]
    assert found["aSeatThatIsTaken"] == [["user-taken", True], "waiting", "joined", told]


def test_closes_from_4500_are_final(found: dict[str, Any]) -> None:
    """The exception is the close for an expired token, if a fresh one is available."""
    *final, renewed = found["finalCloses"]
    assert final == [["closed", [["closed", code]], 0] for code in range(4500, 4505)]
    assert renewed == ["waiting", [["error", 4502]], 1]


def test_a_dead_connection_is_noticed(found: dict[str, Any]) -> None:
    """After a ping without an answer it is closed with a code that keeps the seat."""
    events = ["connect", "ping", "ping"]
    assert found["aConnectionThatIsDead"] == ["joined", "waiting", 3000, events]


def test_a_server_that_goes_away(found: dict[str, Any]) -> None:
    """The client leaves at the given time, with a code that keeps the seat, and then resumes."""
    before, closed, secret, state, told = found["aServerThatGoesAway"]
    assert before == ["joined", 1, "meanwhile"]
    assert (closed, secret, state) == (3000, "secret 1", "joined")
    assert told == [["error", 3000], ["resumed", None]]


def test_the_network_returns(found: dict[str, Any]) -> None:
    """A reconnect starts at once; a connection that may be dead has 3 s to answer."""
    assert found["aNetworkThatIsBack"] == [2, "waiting", 0, 0]


def test_expiring_ice_servers_are_replaced(found: dict[str, Any]) -> None:
    """Fresh ones are requested after four fifths of their lifetime."""
    assert found["iceServersThatEnd"] == [["old"], ["new"]]


def test_requests_without_an_answer(found: dict[str, Any]) -> None:
    """The server drops them silently beyond its rates: they end, and that for ICE is repeated."""
    assert found["whatIsNotAnswered"] == [["lost", True, 40_000], 2, "joined", 0]


def test_no_transport_opens(found: dict[str, Any]) -> None:
    """A WebSocket has 6 s, then polling is tried, and so on until it leaves; no timer remains."""
    expected = ["waiting", 3000, "connecting", 2, "left", "closed", 0]
    assert found["nothingOpens"] == expected


def test_where_it_connects(found: dict[str, Any]) -> None:
    """It uses SockJS's raw WebSocket, for every scheme of the URL."""
    urls = ["ws://h/echo", "wss://h/echo", "ws://h/a/echo", "wss://h:1/echo"]
    assert found["whereItConnects"] == [f"{url}/websocket" for url in urls]


def test_a_url_refused_by_the_browser(found: dict[str, Any]) -> None:
    """With mixed content, for example, the promise is rejected, and nothing remains."""
    told = [["closed", "unreachable"]]
    assert found["aUrlThatTheBrowserRefuses"] == [True, "unreachable", 0, "closed", told, 0]


def test_a_slow_token(found: dict[str, Any]) -> None:
    """It is requested once, before a connection is opened, and may take long."""
    who = [{"room": "room", "user": "me"}]
    assert found["aTokenThatTakesLong"] == [[1, 0, "connecting"], who, ["a token"], "joined"]


def test_a_token_requested_before_leaving(found: dict[str, Any]) -> None:
    """A new join to the room waits for the same one; for another room one is requested after it."""
    asked = ["room", "other"]
    assert found["aTokenForWhoHasLeft"] == [["room"], asked, 1, 1, ["for other"]]


def test_an_unused_token(found: dict[str, Any]) -> None:
    """The next connection uses it, but not much later: it may expire."""
    assert found["aTokenThatWasNotUsed"] == [1, True]


def test_events_that_wake_it(found: dict[str, Any]) -> None:
    """They cause a ping with 3 s for its answer, or end a back-off; a hidden page ignores them."""
    each = [1, "waiting", 2, 250, "joined"]
    types = ["online", "pageshow", "visibilitychange", "resume"]
    assert found["whatWakesIt"] == [dict.fromkeys(types, each), 0, 0, 0]


def test_a_wake_up_before_a_heartbeat(found: dict[str, Any]) -> None:
    """A heartbeat that is due meanwhile does not shorten the 3 s for the answer."""
    assert found["aWakeUpBeforeAHeartbeat"] == ["joined", "joined", "joined", "waiting"]


def test_a_token_that_expires_on_its_way(found: dict[str, Any]) -> None:
    """Another is requested, once for each connection; a fixed one ends the seat."""
    entering, entered, returned = ["1", "2"], ["3", "4"], ["5", "6"]
    assert found["aTokenThatExpiresOnItsWay"] == [
        *(entering, "token-expired", "closed"),
        *(entered, returned, "waiting", "joined"),
        "closed",
    ]


def test_leaving_in_a_listener(found: dict[str, Any]) -> None:
    """Whatever packet it hears, no timer remains, and it does not return."""
    left = ["closed", 1, 0]
    assert found["whoLeavesInAListener"] == {"connect": left, "welcome": left, "ping": left}


def test_a_sleep_while_it_connects(found: dict[str, Any]) -> None:
    """An attempt that timed out during the sleep is given up, a new one is not."""
    assert found["aSleepWhileItConnects"] == [["connecting", None], 3000]


def test_a_wake_up_before_a_goaway_ends(found: dict[str, Any]) -> None:
    """The client still leaves the server."""
    assert found["aServerThatGoesAwayAndAWakeUp"] == [3000, "waiting"]


def test_it_keeps_to_the_limits(found: dict[str, Any]) -> None:
    """It sends nine tenths of the welcome's rates and three quarters of its bursts, in order.

    If an old server says none, it assumes the defaults.
    """
    limits = found["itKeepsToTheLimits"]
    for at, in_order, timers in limits.values():
        assert in_order and timers == 0
        assert at == sorted(at)
    assert limits["told"][0] == [15, 24, 33]
    assert limits["none"][0] == limits["left out"][0] == [400, 400, 400]
    assert limits["old"][0][0] == 150 and limits["old"][0][2] in (238, 239, 240)
    # A packet here has about 90 bytes.
    first, second, third = limits["bytes"][0]
    assert 16 < first <= 2_500 / 85
    assert 5 <= second - first <= 1_000 / 85 and 5 <= third - second <= 1_000 / 85


def test_receivers_are_charged(found: dict[str, Any]) -> None:
    """Each eight receivers once, as the server does, and the answers to pings."""
    sent = found["whatReceiversCost"]
    assert sent.pop("answered") == 0
    assert 22_500 / 220 < sent["1"] <= 22_500 / 160
    assert 0.8 * sent["1"] < sent["2"] <= sent["1"]
    assert 0.25 * sent["1"] < sent["all"] < 0.4 * sent["1"]
    assert 0.2 * sent["1"] < sent["17"] < 0.4 * sent["1"]


def test_a_pause_is_no_longer_if_the_clock_is_set_back(found: dict[str, Any]) -> None:
    """After 2 s the server's limits have recovered; then it sends at half the rate."""
    at_once, *later = found["aRefusalAndAClockThatIsSetBack"]
    assert at_once == 16  # with the connect
    assert later == [0, 9, 13]


def test_polling_that_is_given_up(found: dict[str, Any]) -> None:
    """No request remains: browsers allow six at once. After a leave, the last packets are sent."""
    # Two polls and the connect.
    assert found["pollingThatIsGivenUp"] == {"dead": [3, 3, 0, 0], "leave": [3, 0, 0, 0]}


def test_a_page_instead_of_a_frame(found: dict[str, Any]) -> None:
    """What a captive portal answers to a poll ends the connection; it is not polled in a loop."""
    pages = ["<html>Please log in</html>", "", "x"]
    assert found["aPageInsteadOfAFrame"] == {page: [3, "waiting"] for page in pages}


def test_refused_packets_are_sent_again(found: dict[str, Any]) -> None:
    """From the refused one on, in order, once the server's limits have recovered."""
    at_once, again, rising, lost, errors = found["whatWasRefused"]
    assert at_once == 5
    assert again == [[2, 2], [3, 3], [4, 4], [5, -1]]
    assert rising is True
    assert lost == [5]
    assert errors[0] == ["error", "rate-limited"]


def test_a_broadcast_refused_for_good(found: dict[str, Any]) -> None:
    """It is not sent again after a resume, as those are that may be lost."""
    assert found["whatIsRefusedForGood"] == ["lost", "next"]


def test_refusals_without_end(found: dict[str, Any]) -> None:
    """The rate is halved each time, but not below a twentieth of the server's."""
    *_, before, after = found["refusalsWithoutEnd"]  # within 10 s, after the pause
    assert 49 <= after - before <= 51


def test_connections_that_sockjs_abandons(found: dict[str, Any]) -> None:
    """They are closed as soon as they hold no seat, or the user leaves it."""
    assert found["whatSockJSAbandons"] == {
        "leave": ["waiting", [0], [1], [1], 0],
        "resume": ["waiting", [0], [1, 0], [1, 1], 0],
        "a used secret": ["waiting", [0], [1, 0], [1, 1], 0],
        "a refusal": ["waiting", [0], [0, 1], [1, 1], 0],
    }


def test_joining_another_room_in_a_listener(found: dict[str, Any]) -> None:
    """The second `join` ends with its own welcome, and not with that of the first room."""
    assert found["whoJoinsAnotherRoomInAListener"] == ["left", "connecting", "other's"]


def test_joining_when_it_leaves(found: dict[str, Any]) -> None:
    """A `join` replaces that of a listener to its own `leave`, whose promise and connection end."""
    ends, room, closed = found["whoJoinsWhenItLeaves"]
    assert ends == [["lobby", "left"], "other"]
    assert (room, closed) == ("other", [1000, 1000, None])


def test_leaving_when_a_token_expires(found: dict[str, Any]) -> None:
    """No other token is requested for the room that it has left, and nothing is sent."""
    asked_for_no_room, packets, state = found["whoLeavesWhenATokenExpires"]
    assert not asked_for_no_room
    assert packets == ["error", "disconnect"]
    assert state == "closed"


def test_packets_that_the_store_could_not_take_are_sent_again(found: dict[str, Any]) -> None:
    """After a second, from the first of them on, in order; not requests, nor what is not kept."""
    counts, again, hidden, asked, told = found["whatTheStoreCouldNotTake"]
    assert counts == [4, 8, 8, 12, 12]
    assert again == [[1, 1], [2, 2], [3, 3], [4, -1]]
    assert hidden == 0
    assert asked == "unavailable"
    assert told == [["error", "unavailable"]]


def test_an_outage_does_not_shorten_the_pause_after_a_limit(found: dict[str, Any]) -> None:
    """The server's limits take 2 s to recover; both packets are sent again then."""
    assert found["aLimitWhileTheStoreIsAway"] == [3, 5]


def test_repeated_packets_are_ignored(found: dict[str, Any]) -> None:
    """One that has arrived by its number is dropped; other clients' numbers prove nothing."""
    own = ["1", "3", "2, late"]
    assert found["whatHasComeBefore"] == [*own, "same id", "same id", "3, of a new session"]


def test_wrong_options(found: dict[str, Any]) -> None:
    """Each is a TypeError that names it, before a connection is opened."""
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
        "heartbeat, never": "heartbeat takes a number of milliseconds",
        "delay, never": "maxDelay takes a number of milliseconds",
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
    """It is part of the URL on every transport."""
    assert found["theQueryIsKept"] == [
        "ws://h/echo/websocket?node=1",
        "wss://h/echo/websocket?a=b&c=%2F",
        "ws://h/echo/websocket?x",
        "http://h/echo/000/session/xhr?node=1",
        "http://h/echo?node=1",
    ]


@pytest.mark.parametrize("bare", ["EventTarget", "CustomEvent"])
def test_without_browser_events(bare: str) -> None:
    """In React Native or an old Node, the client's own event classes replace them."""
    client = ROOT / "videre" / "browser" / "videre.js"
    (line,) = asyncio.run(node("no_events.mjs", str(client), bare))
    assert line == {
        "missing": True,
        "heard": ["connecting", "again connecting", "once connecting", "closed", "again closed"],
        "thrown": ["a listener's own"],
        "detail": "closed",
    }
