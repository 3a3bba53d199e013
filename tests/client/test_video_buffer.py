"""Video goes on after an old packet has come again."""

from __future__ import annotations

import pytest
from aiortc.jitterbuffer import MAX_MISORDER
from aiortc.rtp import RtpPacket

from videre.client.call.late import HISTORY, LateProof

FIRST = 65_000  # the numbers wrap meanwhile


def packet(number: int) -> RtpPacket:
    """Return the only packet of a frame."""
    found = RtpPacket(sequence_number=(FIRST + number) % 65536, timestamp=number * 3000)
    found._data = str(number).encode()  # type: ignore[attr-defined]
    return found


@pytest.fixture
def buffer() -> LateProof:
    """Give a buffer that has given all frames before number 1,000."""
    buffer = LateProof(capacity=512, is_video=True)
    for number in range(1001):
        buffer.add(packet(number))
    return buffer


@pytest.mark.parametrize("behind", [1, MAX_MISORDER - 1, MAX_MISORDER, 300, HISTORY])
def test_an_old_packet_changes_nothing(buffer: LateProof, behind: int) -> None:
    """It is dropped, and the next packet completes a frame."""
    assert buffer.add(packet(1000 - behind)) == (False, None)
    key_frame, frame = buffer.add(packet(1001))
    assert not key_frame and frame is not None and frame.data == b"1000"


def test_a_new_stream_begins(buffer: LateProof) -> None:
    """Farther behind than any retransmission, a packet is the first of another stream."""
    assert buffer.add(packet(1000 - HISTORY - 1)) == (True, None)
    _, frame = buffer.add(packet(1000 - HISTORY))
    assert frame is not None and frame.data == str(1000 - HISTORY - 1).encode()
