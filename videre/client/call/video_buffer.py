"""Old retransmissions do not stop a video.

Chromium measures a new path by sending old packets once more. aiortc's JitterBuffer takes one that
is MAX_MISORDER or more behind for the start of a new stream, and waits for all that followed it:
for 512 packets, which is half a minute of a small video. LateProof drops such a packet instead.

Only this module touches `_RTCRtpReceiver__jitter_buffer` of aiortc's RTCRtpReceiver.
"""

from __future__ import annotations

from typing import Any

from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.jitterbuffer import MAX_MISORDER, JitterBuffer, JitterFrame
from aiortc.rtp import RtpPacket
from aiortc.utils import uint16_add

# How many packets libwebrtc keeps to send them again (kMinSendSidePacketHistorySize).
HISTORY = 600


class LateProof(JitterBuffer):
    """A buffer of video packets, which drops those that come too late to be of use."""

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Return whether a key frame must be asked for, and a frame if one is complete."""
        if self._origin is not None:
            behind = uint16_add(self._origin, -packet.sequence_number)
            if MAX_MISORDER <= behind <= HISTORY:
                return False, None
        return super().add(packet)


def install(connection: RTCPeerConnection, track: MediaStreamTrack) -> None:
    """Give a video track's receiver a LateProof buffer, before it receives anything."""
    for receiver in connection.getReceivers():
        if receiver.track is track and track.kind == "video":
            private: Any = receiver
            capacity = private._RTCRtpReceiver__jitter_buffer.capacity
            private._RTCRtpReceiver__jitter_buffer = LateProof(capacity=capacity, is_video=True)
