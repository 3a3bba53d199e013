"""Packets: which are valid, how to parse them, and how the server writes its own.

A packet is one JSON text, `{"Header": {"Event", "UserId", "RoomId", ...}, "Payload": ...}`. It is
parsed for validation and routing, but never rewritten: the server forwards the text as received.
When it answers with the sender's packet, it replaces only the Payload's characters in place
(payload.py), so that every other key keeps its value, spelling and order.

The schema (cerberus) is the one source of truth for what is accepted. Keys inside a Payload are
spelled where they are used: in peers/connect_options.py, rooms/replica.py and others.
"""

from videre.packets.decoder import Decoder, Packet
from videre.packets.schema import (
    CLIENT_EVENTS,
    MAX_ROOM_ID,
    MAX_TO,
    MAX_USER_ID,
    SCHEMA,
    TO_SCHEMA,
    Event,
    outlined,
)
from videre.packets.writing import (
    ROLE,
    claimed,
    id_text,
    json_string,
    write,
    write_broadcast,
    write_error,
    write_json,
)
from videre.payload import around_payload  # readers of packets look for it here

__all__ = [
    "CLIENT_EVENTS",
    "MAX_ROOM_ID",
    "MAX_TO",
    "MAX_USER_ID",
    "ROLE",
    "SCHEMA",
    "TO_SCHEMA",
    "Decoder",
    "Event",
    "Packet",
    "around_payload",
    "claimed",
    "id_text",
    "json_string",
    "outlined",
    "write",
    "write_broadcast",
    "write_error",
    "write_json",
]
