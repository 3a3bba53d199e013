"""The negotiation of a Python Call alone, with an end that does nothing."""

from __future__ import annotations

from typing import Any

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from patience import eventually

from videre.client.call import signals
from videre.client.call.negotiation import Negotiation
from videre.client.call.signals import Signal


class Quiet:
    """An end whose signals reach the other one only while it is online."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration([]))
        self.online = True
        self.sent: list[tuple[str, int | None]] = []
        self.errors: list[Exception] = []

    def prepare(self, kinds: list[str] | None) -> None:
        """Have no media."""

    async def renew_way(self, remote: RTCSessionDescription | None) -> None:
        """Keep the way."""

    def arrange(self, *, offer: bool) -> None:
        """Have no media."""

    def agreed(self, signal: Signal, description: RTCSessionDescription) -> None:
        """Start nothing."""

    def is_settled(self) -> bool:
        """Have no tracks."""
        return True

    async def signal(self, payload: dict[str, Any]) -> None:
        """Keep what is sent."""
        if self.online:
            self.sent.append((payload["Type"], payload.get("Offer")))

    def failed(self, error: Exception) -> None:
        """Keep the error."""
        self.errors.append(error)


@pytest.mark.parametrize("call", ["call", None])
async def test_an_answer_that_is_lost(call: str | None) -> None:
    """It is sent again before the next offer, for which the other end needs it."""
    side, other = Quiet(), RTCPeerConnection(RTCConfiguration([]))
    other.createDataChannel("videre")
    await other.setLocalDescription()
    negotiation = Negotiation(side, call, caller=True)
    side.online = False

    async def reconnect() -> None:
        assert side.connection.signalingState == "have-local-offer"
        side.online = True
        await negotiation.repair()

    negotiation.hear(Signal(signals.OFFER, call, 7, description=other.localDescription))
    negotiation.need_offer()
    negotiation.step(reconnect)
    offer = (signals.OFFER, 1 if call else None)
    await eventually(lambda: offer in side.sent)
    assert side.sent == ([(signals.ANSWER, 7), offer] if call else [offer])
    assert side.errors == []
    await negotiation.close()
    await side.connection.close()
    await other.close()
