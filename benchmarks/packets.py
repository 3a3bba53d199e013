"""The packets that the load generator sends, framed and masked, in three dialects."""

import json
from itertools import cycle

from benchmarks.wire import Conn, frame, mask

CANDIDATE = 200  # bytes of a relayed packet, like an ICE candidate
SPEECH = 300  # bytes of a packet in the storm
# The packets of a call, in bytes: offer, answer and both sides' candidates, as the real client
# sends them.
CALL = (300, 300, 6000, 300, 300, 300, 2000, 300, 300, 300)


def text(event: str, user: str, room: str, size: int = 0) -> str:
    """Return a packet of `size` bytes, or the shortest possible one."""
    packet = {"Header": {"Event": event, "UserId": user, "RoomId": room}, "Payload": ""}
    missing = size - len(json.dumps(packet, separators=(",", ":")))
    packet["Payload"] = "x" * max(0, missing)
    return json.dumps(packet, separators=(",", ":"))


def wrap(framing: str, packet: str) -> bytes:
    """Return a packet's payload in its framing: as it is, or as SockJS's array of one string."""
    if framing == "sockjs":
        packet = json.dumps([packet], separators=(",", ":"))
    return frame(packet.encode())


def connect(framing: str, conn: Conn) -> bytes:
    """Return the frame that joins a connection's room."""
    return wrap(framing, text("connect", conn.name, conn.room))


def broadcast(framing: str, speaker: Conn, listener: Conn, size: int) -> bytes:
    """Return the frame of `speaker` to its room, or to `listener` in PeerServer's dialect."""
    if framing != "peerjs":
        return wrap(framing, text("broadcast", speaker.name, speaker.room, size))
    packet = {"type": "CANDIDATE", "dst": listener.name, "payload": ""}
    missing = size - len(json.dumps(packet, separators=(",", ":")))
    packet["payload"] = "x" * max(0, missing)
    return frame(json.dumps(packet, separators=(",", ":")).encode())


class Connect:
    """Builds the `connect` frames of one user cheaply; room names must have 16 bytes."""

    def __init__(self, framing: str, user: str) -> None:
        plain = wrap(framing, text("connect", user, "#" * 16))
        start = 8 if plain[1] & 0x7F == 126 else 6  # after length and mask
        self.head = plain[:start]
        payload = mask(plain[start:])
        self.before, _, self.after = payload.partition(b"#" * 16)
        self.key = int.from_bytes(mask(bytes(len(payload))), "big")

    def to(self, room: bytes) -> bytes:
        """Return the frame that moves the user to `room`."""
        payload = int.from_bytes(self.before + room + self.after, "big") ^ self.key
        return self.head + payload.to_bytes(len(self.before) + 16 + len(self.after), "big")


sizes = cycle(CALL)
