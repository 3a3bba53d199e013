"""The signalling rules in the simplest Python, for the relays that are not ours."""

import json
from collections.abc import Callable
from typing import Any

from mount import STANDING  # type: ignore[import-not-found]

Send = Callable[[str], Any]


class Peer:
    """One connection: how to send to it, and its seat."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.user = ""
        self.room = ""


class Relay:
    """Rooms of peers. Every method returns the texts to send, and their receivers."""

    def __init__(self) -> None:
        self.rooms: dict[str, list[Peer]] = {}
        for i in range(STANDING):
            self.rooms[f"standing-{i}"] = [Peer(str)]

    def receive(self, peer: Peer, packet: dict[str, Any], text: str) -> tuple[list[Peer], str]:
        """Carry out one packet of `peer`, and return the receivers and their text."""
        header = packet["Header"]
        event = header["Event"]
        room = self.rooms.get(header["RoomId"], [])
        if event == "broadcast":
            return [member for member in room if member is not peer], text
        if event == "ping":
            packet["Payload"] = json.dumps([member.user for member in room])
            return [peer], json.dumps(packet)
        return self.leave(peer)

    def connect(self, peer: Peer, packet: dict[str, Any]) -> tuple[list[Peer], str]:
        """Seat `peer`; the packet with its role goes to every member."""
        peer.user, peer.room = packet["Header"]["UserId"], packet["Header"]["RoomId"]
        room = self.rooms.setdefault(peer.room, [])
        room.append(peer)
        packet["Payload"] = json.dumps(len(room) == 1)
        return room, json.dumps(packet)

    def leave(self, peer: Peer) -> tuple[list[Peer], str]:
        """Take `peer` out of its room; the others get `disconnect`."""
        room = self.rooms.get(peer.room, [])
        if peer in room:
            room.remove(peer)
        if not room:
            self.rooms.pop(peer.room, None)
        header = {"Event": "disconnect", "UserId": peer.user, "RoomId": peer.room}
        return room, json.dumps({"Header": header, "Payload": ""})
