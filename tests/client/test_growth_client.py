"""Growth: what a server or a member sends to a client costs in proportion to its bytes."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiortc import RTCSessionDescription
from growth import check
from orjson import loads as json_of

from videre.client import wire
from videre.client.call.meeting import Meeting
from videre.client.call.negotiation import MAX_CANDIDATES, Negotiation
from videre.client.call.pace import MAX_HELD
from videre.client.call.signals import CANDIDATE, OFFER, Signal, read
from videre.client.seat import Seat
from videre.errors import PeerError

LARGEST = 4096  # packets


def test_errors_with_many_codes() -> None:
    """Each code is new, and the application has not received the errors yet."""

    def make(size: int) -> list[wire.Packet]:
        told = [{"Code": f"x{number}", "Message": "", "Retry": True} for number in range(size)]
        return [wire.read(wire.write("error", "a", "room", json.dumps(each))) for each in told]

    def work(packets: list[wire.Packet]) -> list[PeerError]:
        return [wire.error_of(packet) for packet in packets]

    check(make, work, largest=LARGEST, most=20e-6)


@pytest.mark.parametrize("event", ["connect", "disconnect"])
def test_crowds(event: str) -> None:
    """Many members enter, or leave in the order that is most work."""

    def make(size: int) -> tuple[Seat, list[wire.Packet]]:
        seat = Seat("me")
        users = [f"u{number}" for number in range(size)]
        welcome = {"Initiator": "me", "Resume": "s", "IceServers": None}
        seat.welcome({**welcome, "Users": users if event == "disconnect" else ["me"]})
        texts = [wire.write(event, user, "room", "false") for user in reversed(users)]
        return seat, [wire.read(text) for text in texts]

    def work(given: tuple[Seat, list[wire.Packet]]) -> None:
        seat, packets = given
        for packet in packets:
            seat.apply(packet)

    check(make, work, largest=2 * LARGEST, weigh=lambda given: len(given[1]))


async def test_signals_with_something_deep() -> None:
    """Equal ones that wait are found by what they say, which is as flat as the client wants it.

    To compare payloads of so many levels raised an error, which ended all calls.
    """
    ignored: list[object] = []
    host: Any = SimpleNamespace(emit=lambda *args: ignored.append(args))
    meeting = Meeting(host, cast(Any, None), lambda: False)
    deep = "[" * 1020 + "]" * 1020
    for _ in range(MAX_HELD):
        meeting.take("eve", json_of(f'{{"Type":"Ice Ask","Call":"c","X":{deep}}}'))
    assert not ignored
    await meeting.end()


class Silent:
    """A peer connection that takes descriptions and candidates.

    It has no `remoteDescription`: aiortc writes all its lines anew each time that it is asked.
    """

    signalingState = "stable"
    localDescription = None

    def __init__(self) -> None:
        self.candidates = 0

    async def setRemoteDescription(self, _: object) -> None:
        """Take an offer."""

    async def setLocalDescription(self) -> None:
        """Answer it."""

    async def addIceCandidate(self, _: object) -> None:
        """Count a candidate."""
        self.candidates += 1


async def test_a_candidate_costs_no_look_at_the_description() -> None:
    """A member may send many: only those after a description are taken, and not all of them."""
    errors: list[Exception] = []
    connection = Silent()
    side: Any = SimpleNamespace(
        connection=connection,
        prepare=lambda _: None,
        renew_way=lambda _: asyncio.sleep(0),
        arrange=lambda **_: None,
        agreed=lambda *_: None,
        is_settled=lambda: True,
        failed=errors.append,
    )
    negotiation = Negotiation(side, "call", caller=False)
    payload = {"candidate": "candidate:1 1 udp 1 127.0.0.1 9 typ host", "sdpMid": "0"}
    candidate = read({"Type": CANDIDATE, "Call": "call", **payload})
    assert candidate is not None
    offer = Signal(OFFER, "call", 1, RTCSessionDescription(sdp="v=0\r\n", type="offer"))
    for signal in (candidate, offer, *[candidate] * (MAX_CANDIDATES + 1), offer, candidate):
        negotiation.hear(signal)
    done = asyncio.Event()

    async def finish() -> None:
        done.set()

    negotiation.step(finish)
    await done.wait()
    await negotiation.close()
    assert (connection.candidates, errors) == (MAX_CANDIDATES + 1, [])
