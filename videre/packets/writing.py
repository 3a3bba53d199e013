"""Write the server's own packets, and repeat the names and id that a refused packet claims."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from videre.errors import PeerError
from videre.packets.schema import MAX_ROOM_ID, MAX_USER_ID, Event

MAX_PACKET_ID = 64  # of a Header.Id that an error repeats


def json_string(value: Any) -> str:
    """Return a JSON string containing the JSON text of `value`, as a Payload carries it."""
    return _dumps(_dumps(value))


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


#: The Payload of a connect packet, by role.
ROLE = {True: json_string(True), False: json_string(False)}


def write(event: Event, user: str, room: str, payload: str = "") -> str:
    """Return one of the server's own packets, with the string `payload`."""
    header = {"Event": event, "UserId": user, "RoomId": room}
    return _dumps({"Header": header, "Payload": payload})


def write_json(event: Event, user: str, room: str, payload: dict[str, Any]) -> str:
    """Return one of the server's own packets, with the JSON text of `payload`."""
    return write(event, user, room, _dumps(payload))


def write_broadcast(user: str, room: str, payload: Any) -> str:
    """Return a broadcast of any JSON value; raises TypeError for anything else."""
    header = {"Event": Event.BROADCAST, "UserId": user, "RoomId": room}
    return _dumps({"Header": header, "Payload": payload})


def write_error(error: PeerError, user: str, room: str, packet_id: str | float | None) -> str:
    """Return the error packet for `error`, with the id of the packet it answers."""
    header: dict[str, Any] = {"Event": Event.ERROR, "UserId": user, "RoomId": room}
    if packet_id is not None:
        header["Id"] = packet_id
    payload = {"Code": error.code, "Message": str(error), "Retry": error.retry}
    return _dumps({"Header": header, "Payload": _dumps(payload)})


def claimed(header: object) -> tuple[str, str, str | float | None]:
    """Return the user, room and packet id that a header claims; "", "" and None if unusable.

    Values that exceed the length limit of an id are never repeated.
    """
    if not isinstance(header, dict):
        return "", "", None
    return (
        _claimed_name(header.get("UserId"), MAX_USER_ID),
        _claimed_name(header.get("RoomId"), MAX_ROOM_ID),
        packet_id(header.get("Id")),
    )


def _claimed_name(value: object, longest: int) -> str:
    return value if isinstance(value, str) and len(value) <= longest else ""


def id_text(header: Mapping[str, Any]) -> str:
    """Return a packet's Header.Id as JSON; "null" if it has none."""
    return _dumps(packet_id(header["Id"])) if "Id" in header else "null"


def packet_id(value: object) -> str | float | None:
    """Return a Header.Id if it may be repeated to its sender, else None."""
    if isinstance(value, str):
        return value if len(value) <= MAX_PACKET_ID else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
