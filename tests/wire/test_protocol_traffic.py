"""The traffic of the original's real client, replayed: calls work as they always should have."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from inprocess import Client, Server, serving

import videre

CANDIDATES = 4


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Give a running signaller."""
    async with serving(videre.create_app()) as running:
        yield running


class OldClient:
    """The original's client: its packets and its state machine, with simulated WebRTC.

    It takes its role from any `connect` under its own name, starts the call as the initiator at the
    next `connect` of another user or when a ping shows two users, and hangs up at any disconnect.
    """

    def __init__(self, client: Client, user: str, room: str) -> None:
        self.client = client
        self.user = user
        self.room = room
        self.is_initiator: bool | None = None
        self.started = False
        self.hung_up = False
        self.users: list[str] = []
        self.signals: list[dict[str, Any]] = []

    async def send(self, event: str, payload: Any = "{}") -> None:
        """Send a packet as the client writes it: without white space, keys in its order."""
        header = {"Event": event, "UserId": self.user, "RoomId": self.room}
        body = {"Header": header, "Payload": payload}
        await self.client.say(json.dumps(body, separators=(",", ":")))

    async def next(self) -> str:
        """Receive one packet, act on it, and return its event."""
        event, user, room, payload = await self.client.heard()
        assert room == self.room
        if user == self.user:
            if event == "connect":
                self.is_initiator = json.loads(payload)
            else:
                assert event == "ping"
                self.users = json.loads(payload)
                if len(self.users) > 1:
                    await self.call()
        elif event == "connect":
            await self.call()
        elif event == "broadcast":
            await self.signal(payload)
        else:
            assert (event, payload) == ("disconnect", "")
            self.hung_up = True
        return event

    async def until(self, event: str) -> None:
        """Receive packets up to one of this event."""
        while await self.next() != event:
            pass

    async def call(self) -> None:
        """Offer a call, once."""
        if self.is_initiator and not self.started:
            self.started = True
            await self.ice("Ice Offer", {"type": "offer", "sdp": "v=0\r\n" + "a=x\r\n" * 1200})
            await self.candidates()

    async def signal(self, payload: Any) -> None:
        """Handle the other's part of the call, and answer an offer."""
        assert isinstance(payload, dict), "an object came as something else"
        self.signals.append(payload)
        if payload["Type"] == "Ice Offer":
            self.started = True
            await self.ice("Ice Answer", {"type": "answer", "sdp": "v=0\r\n" + "a=y\r\n" * 1100})
            await self.candidates()

    async def ice(self, kind: str, value: dict[str, Any]) -> None:
        """Send a part of the call as an object, not as a string."""
        await self.send("broadcast", {"Type": kind, "IcePacket": value})

    async def candidates(self) -> None:
        """Send the candidates, of about 300 bytes each."""
        for number in range(CANDIDATES):
            line = (
                f"candidate:{number} 1 udp 2122260223 192.0.2.{number} 50000 typ host " + "x" * 200
            )
            await self.ice("Ice Candidate", {"candidate": line, "sdpMid": "0", "sdpMLineIndex": 0})


def kinds(client: OldClient) -> list[str]:
    """Return the kinds of signals that a client has heard."""
    return [signal["Type"] for signal in client.signals]


@pytest.mark.parametrize("pings", [0, 3])
async def test_a_call(server: Server, pings: int) -> None:
    """Two clients meet, call and hang up, whether or not the first has waited for a while."""
    a = OldClient(await server.client("sockjs"), "ABCDEFGHIJ", "a room")
    b = OldClient(await server.client("sockjs"), "0123456789", "a room")
    await a.send("connect")
    await a.until("connect")
    for _ in range(pings):  # one every two seconds, until somebody comes
        await a.send("ping")
        await a.until("ping")
        assert a.users == [a.user]
    await b.send("connect")
    await b.until("connect")
    assert (a.is_initiator, b.is_initiator) == (True, False)
    await a.until("connect")
    assert a.started
    for _ in range(1 + CANDIDATES):
        await b.until("broadcast")
        await a.until("broadcast")
    for _ in range(3):
        for client in (a, b):
            await client.send("ping")
            await client.until("ping")
            assert client.users == [a.user, b.user]
    assert kinds(b) == ["Ice Offer"] + ["Ice Candidate"] * CANDIDATES
    assert kinds(a) == ["Ice Answer"] + ["Ice Candidate"] * CANDIDATES
    assert len(b.signals[0]["IcePacket"]["sdp"]) > 6000
    await a.client.close()
    await b.until("disconnect")
    assert b.hung_up
    await b.until("connect")
    assert b.is_initiator


async def test_both_at_once(server: Server) -> None:
    """Of two that connect at the same time, one is the initiator and starts the call."""
    a = OldClient(await server.client("sockjs"), "A", "a room")
    b = OldClient(await server.client("sockjs"), "B", "a room")
    await a.send("connect")
    await b.send("connect")
    await b.until("connect")
    await a.until("connect")
    assert {a.is_initiator, b.is_initiator} == {True, False}
    caller, callee = (a, b) if a.is_initiator else (b, a)
    if not caller.started:
        await caller.until("connect")
    await callee.until("broadcast")
    await caller.until("broadcast")
    assert (kinds(callee), kinds(caller)) == (["Ice Offer"], ["Ice Answer"])


async def test_the_next_call(server: Server) -> None:
    """After the initiator has left, the remaining client is the initiator of the next call."""
    a = OldClient(await server.client("sockjs"), "A", "a room")
    b = OldClient(await server.client("sockjs"), "B", "a room")
    for client in (a, b):
        await client.send("connect")
        await client.until("connect")
    a.client.reset()
    await b.until("disconnect")
    await b.until("connect")
    b.started = False  # it has hung up
    c = OldClient(await server.client("sockjs"), "C", "a room")
    await c.send("connect")
    await c.until("connect")
    await b.until("connect")
    await c.until("broadcast")
    await b.until("broadcast")
    assert (c.is_initiator, kinds(c), kinds(b)) == (False, ["Ice Offer"], ["Ice Answer"])


async def test_many_calls(server: Server) -> None:
    """Twenty pairs at once do not disturb each other."""
    pairs = []
    for number in range(20):
        room = f"room {number}"
        pair = [OldClient(await server.client("sockjs"), user, room) for user in "AB"]
        for client in pair:
            await client.send("connect")
            await client.until("connect")
        pairs.append(pair)
    for a, _ in pairs:
        await a.until("connect")
    for a, b in pairs:
        for _ in range(1 + CANDIDATES):
            await b.until("broadcast")
            await a.until("broadcast")
    for a, b in pairs:
        await a.client.quiet()
        await b.client.quiet()
