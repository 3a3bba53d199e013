"""Neither a lost packet nor an old one stops a video for long.

In aiortc's JitterBuffer both do, until it is full with 512 packets: half a minute of a small video.

1. A lost packet: aiortc asks for it once, and JitterBuffer waits for it. VideoBuffer waits for a
   second, then asks for a key frame and goes on with the latest packet.
2. An old packet: Chromium measures a new path by sending some once more. JitterBuffer takes one
   that is MAX_MISORDER or more behind for the start of a new stream. VideoBuffer drops it.

Only this module touches `_packets` of a JitterBuffer, and `_RTCRtpReceiver__jitter_buffer` of
aiortc's RTCRtpReceiver.
"""

from __future__ import annotations

from typing import Any

from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.jitterbuffer import MAX_MISORDER, JitterBuffer, JitterFrame
from aiortc.rtp import RtpPacket
from aiortc.utils import uint16_add, uint32_add

# How many packets libwebrtc keeps to send them again (kMinSendSidePacketHistorySize).
HISTORY = 600

# How long to wait for a packet, by the clock of all video formats: 90 kHz (RFC 3551, 5).
WAIT = 90_000


class VideoBuffer(JitterBuffer):
    """A buffer of video packets, which drops those that come too late to be of use."""

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Return whether a key frame must be asked for, and a frame if one is complete."""
        if self._origin is not None:
            behind = uint16_add(self._origin, -packet.sequence_number)
            if MAX_MISORDER <= behind <= HISTORY:
                return False, None
        wanted, frame = super().add(packet)
        if WAIT < uint32_add(packet.timestamp, -self._oldest(packet).timestamp) < 1 << 31:
            self.remove(self.capacity)
            self._origin = packet.sequence_number
            super().add(packet)
            wanted = True
        return wanted, frame

    def _oldest(self, latest: RtpPacket) -> RtpPacket:
        """Return the packet that comes first of those that wait, `latest` if none does."""
        first = self._origin or 0
        places = ((first + ahead) % self.capacity for ahead in range(self.capacity))
        return next(filter(None, map(self._packets.__getitem__, places)), latest)


def install(connection: RTCPeerConnection, track: MediaStreamTrack) -> None:
    """Give a video track's receiver a VideoBuffer, before it receives anything."""
    for receiver in connection.getReceivers():
        if receiver.track is track and track.kind == "video":
            private: Any = receiver
            capacity = private._RTCRtpReceiver__jitter_buffer.capacity
            private._RTCRtpReceiver__jitter_buffer = VideoBuffer(capacity=capacity, is_video=True)
