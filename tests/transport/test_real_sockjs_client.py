"""Drive a running server with the real sockjs-client, the one that browsers load."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from patience import LEFT_SECONDS, patient
from process import Signaller, node, node_modules, signaller

pytestmark = [pytest.mark.process, pytest.mark.asyncio(loop_scope="module")]

TRANSPORTS = ["websocket", "xhr-streaming", "eventsource", "xhr-polling"]
PAIRS = [*((name, name) for name in TRANSPORTS), ("websocket", "xhr-polling")]
SCENARIO_SECONDS = patient(80)  # longer than the script's own limit, whose message says more

Packet = dict[str, Any]


@dataclass(frozen=True)
class Transcript:
    """What a script's peers sent, heard and lost, in order."""

    room: str
    lines: list[dict[str, Any]]

    def of(self, peer: str, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if (line["peer"], line["event"]) == (peer, event)]

    def texts(self, peer: str, event: str, *kinds: str) -> list[str]:
        """Return the packets of these kinds (their Header.Event) that `peer` sent or heard."""
        texts = [line["text"] for line in self.of(peer, event)]
        return [text for text in texts if json.loads(text)["Header"]["Event"] in kinds]

    def heard(self, peer: str, *kinds: str) -> list[Packet]:
        return [json.loads(text) for text in self.texts(peer, "heard", *kinds)]

    def packet(self, event: str, user: str, payload: object) -> Packet:
        return {
            "Header": {"Event": event, "UserId": user, "RoomId": self.room},
            "Payload": payload,
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Signaller]:
    """One process for all these tests, each in a room of its own."""
    node_modules()
    async with signaller(tmp=tmp_path_factory.mktemp("signaller")) as running:
        yield running


async def play(server: Signaller, script: str, *args: str) -> Transcript:
    """Run a script of tests/node in its own room; its arguments are URL, room, args."""
    room = f"{uuid4()} room"  # the log shows how it starts
    try:
        async with asyncio.timeout(SCENARIO_SECONDS):
            return Transcript(room, await node(script, server.url, room, *args))
    except BaseException as error:
        error.add_note(str(server))
        raise


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=PAIRS, ids="+".join)
async def call(server: Signaller, request: pytest.FixtureRequest) -> Transcript:
    """The seven steps of the original's README, once with each pair of transports."""
    transcript = await play(server, "seven_steps.mjs", *request.param)
    used = [transcript.of(peer, "opened")[0]["transport"] for peer in ("peer1", "peer2")]
    assert used == list(request.param)
    return transcript


async def test_the_first_peer_hears_its_role(call: Transcript) -> None:
    """Step 1: peer1's own connect comes back first, with Payload "true"."""
    first = json.loads(call.of("peer1", "heard")[0]["text"])
    assert first == call.packet("connect", "peer1", "true")


async def test_both_peers_hear_the_second_connect(call: Transcript) -> None:
    """Step 2: peer2's connect reaches both with Payload "false"; peer2 hears no other connect."""
    second = call.packet("connect", "peer2", "false")
    assert json.loads(call.of("peer2", "heard")[0]["text"]) == second
    assert call.heard("peer1", "connect")[1:] == [second]


@pytest.mark.parametrize(("sender", "receiver"), [("peer1", "peer2"), ("peer2", "peer1")])
async def test_broadcasts_reach_only_the_other_peer(
    call: Transcript, sender: str, receiver: str
) -> None:
    """Steps 3 to 6: offer, answer and candidates arrive unchanged, once and in order."""
    sent = call.texts(sender, "sent", "broadcast")
    assert len(sent) == 11
    assert len(sent[0]) > 6_000
    assert call.texts(receiver, "heard", "broadcast") == sent


async def test_pings_list_the_users_of_the_room(call: Transcript) -> None:
    """The answer is the JSON text of the user ids, in joining order."""
    both = call.packet("ping", "peer1", '["peer1","peer2"]')
    assert call.heard("peer1", "ping") == [both] * 2
    lists = [json.loads(found["Payload"]) for found in call.heard("peer2", "ping")]
    assert lists == [["peer1", "peer2"], ["peer1", "peer2"], ["peer2"]]


async def test_the_other_peer_hears_the_leave_and_is_promoted(call: Transcript) -> None:
    """Step 7: peer2 hears peer1's disconnect once, and then its new role."""
    assert call.heard("peer2", "connect", "disconnect")[1:] == [
        call.packet("disconnect", "peer1", ""),
        call.packet("connect", "peer2", "true"),
    ]


async def test_the_leave_is_heard_in_time(call: Transcript) -> None:
    """A closed WebSocket is noticed at once, a polling client soon after its last poll."""
    left = call.of("peer1", "closed")[0]["at"]
    heard = next(line["at"] for line in call.of("peer2", "heard") if "disconnect" in line["text"])
    assert heard - left < 1000 * LEFT_SECONDS


async def test_an_old_client_hears_nothing_new(call: Transcript) -> None:
    """A client that asked for no extension hears only packets that the original sent."""
    for peer in ("peer1", "peer2"):
        kinds = {json.loads(line["text"])["Header"]["Event"] for line in call.of(peer, "heard")}
        assert kinds <= {"connect", "broadcast", "ping", "disconnect"}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_ten_bad_packets_close_the_session(server: Signaller, transport: str) -> None:
    """The client's onclose gets code 4500, after an error packet for each bad packet."""
    transcript = await play(server, "closes.mjs", transport, "bad-packets")
    errors = transcript.heard("first", "error")
    codes = Counter(json.loads(error["Payload"])["Code"] for error in errors)
    assert codes == {"malformed-packet": 10}
    [closed] = transcript.of("first", "closed")
    assert (closed["code"], closed["wasClean"]) == (4500, True)
    assert closed["reason"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_newer_connection_replaces_the_older(server: Signaller, transport: str) -> None:
    """A second session with the same UserId closes the first with 4503 and takes its seat."""
    transcript = await play(server, "closes.mjs", transport, "replaced")
    [closed] = transcript.of("first", "closed")
    assert (closed["code"], closed["wasClean"]) == (4503, True)
    assert transcript.heard("second", "connect", "disconnect") == [
        transcript.packet("connect", "peer1", "true")
    ]
    assert json.loads(transcript.heard("second", "ping")[0]["Payload"]) == ["peer1"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_long_and_strange_texts_arrive_unchanged(server: Signaller, transport: str) -> None:
    """Packets of 60 KB, emoji, CJK, control characters and every JSON type survive."""
    transcript = await play(server, "texts.mjs", transport)
    for sender, receiver in (("peer1", "peer2"), ("peer2", "peer1")):
        sent = transcript.texts(sender, "sent", "broadcast")
        assert max(len(text.encode()) for text in sent) > 60_000
        assert transcript.texts(receiver, "heard", "broadcast") == sent


@pytest.mark.parametrize("how", ["in-turn", "together"])
async def test_two_old_clients_get_their_call(server: Signaller, how: str) -> None:
    """The old videre-client exchanges offer, answer and candidates exactly once, and hangs up."""
    transcript = await play(server, "old_client.mjs", how)
    starts = [line for line in transcript.lines if line["event"] == "started"]
    assert [start["cause"] for start in starts] == ["connect"]
    caller = starts[0]["peer"]
    callee = {"first": "second", "second": "first"}[caller]
    if how == "in-turn":
        assert caller == "first"

    def roles(peer: str) -> list[bool]:
        return [line["isInitiator"] for line in transcript.of(peer, "role")]

    def signals(peer: str) -> list[str]:
        return [line["type"] for line in transcript.of(peer, "signal")]

    assert signals(callee) == ["Ice Offer"] + ["Ice Candidate"] * 3
    assert signals(caller) == ["Ice Answer"] + ["Ice Candidate"] * 3
    assert roles(caller)[0] is True
    assert roles(callee)[0] is False
