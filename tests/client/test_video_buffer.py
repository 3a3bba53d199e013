"""Video goes on after a lost packet, and after an old one has come again."""

from __future__ import annotations

import pytest
from aiortc.jitterbuffer import MAX_MISORDER
from aiortc.rtp import RtpPacket

from videre.client.call.video_buffer import HISTORY, WAIT, VideoBuffer

# The numbers and the timestamps wrap meanwhile.
FIRST = 65_000
ORIGIN = (1 << 32) - 3_060_000


def packet(number: int, ticks: int = 3000) -> RtpPacket:
    """Return the only packet of a frame; the next frame follows after `ticks` of the clock."""
    found = RtpPacket(
        sequence_number=(FIRST + number) % 65536, timestamp=(ORIGIN + number * ticks) % (1 << 32)
    )
    found._data = str(number).encode()  # type: ignore[attr-defined]
    return found


@pytest.fixture
def buffer() -> VideoBuffer:
    """Give a buffer that has given all frames before number 1,000."""
    buffer = VideoBuffer(capacity=512, is_video=True)
    for number in range(1001):
        buffer.add(packet(number))
    return buffer


@pytest.mark.parametrize("behind", [1, MAX_MISORDER - 1, MAX_MISORDER, 300, HISTORY])
def test_an_old_packet_changes_nothing(buffer: VideoBuffer, behind: int) -> None:
    """It is dropped, and the next packet completes a frame."""
    assert buffer.add(packet(1000 - behind)) == (False, None)
    key_frame, frame = buffer.add(packet(1001))
    assert not key_frame and frame is not None and frame.data == b"1000"


def test_a_new_stream_begins(buffer: VideoBuffer) -> None:
    """Farther behind than any retransmission, a packet is the first of another stream."""
    assert buffer.add(packet(1000 - HISTORY - 1)) == (True, None)
    _, frame = buffer.add(packet(1000 - HISTORY))
    assert frame is not None and frame.data == str(1000 - HISTORY - 1).encode()


LAST = 1001 + WAIT // 3000  # the last frame during the wait for number 1,002


def test_a_lost_packet_is_waited_for(buffer: VideoBuffer) -> None:
    """It comes within a second: no frame is lost, and no key frame is asked for."""
    buffer.add(packet(1001))
    for number in range(1003, LAST + 1):
        assert buffer.add(packet(number)) == (False, None)
    told = [buffer.add(packet(number)) for number in (1002, *range(LAST + 1, LAST + 8))]
    assert [frame and frame.data for _, frame in told] == [
        str(number).encode() for number in range(1001, 1009)
    ]
    assert not any(asked for asked, _ in told)


def test_a_lost_packet_is_not_waited_for_longer(buffer: VideoBuffer) -> None:
    """The video goes on with the latest packet, and a key frame."""
    buffer.add(packet(1001))
    for number in range(1003, LAST + 1):
        assert buffer.add(packet(number)) == (False, None)
    assert buffer.add(packet(LAST + 1)) == (True, None)
    for number in range(LAST + 1, LAST + 100):
        asked, frame = buffer.add(packet(number + 1))
        assert not asked and frame is not None and frame.data == str(number).encode()


def test_a_slow_video() -> None:
    """Frames that come less often than once a second are not taken for late."""
    buffer = VideoBuffer(capacity=512, is_video=True)
    assert buffer.add(packet(0, 2 * WAIT)) == (False, None)
    for number in range(10):
        asked, frame = buffer.add(packet(number + 1, 2 * WAIT))
        assert not asked and frame is not None and frame.data == str(number).encode()
