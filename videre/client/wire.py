"""Packets as a client writes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from yarl import URL

from videre.errors import PeerError

CONNECT, DISCONNECT, BROADCAST, PING = "connect", "disconnect", "broadcast", "ping"
ERROR, WELCOME, ROLE, ICE, GOAWAY = "error", "welcome", "role", "ice", "goaway"

_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_PATH = "/websocket"
_HEAD, _TAIL = '{"Header":', '},"Payload":'  # of a broadcast, around its header's content


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet from the server.

    `id` is the id of the client's packet that it answers; in a relayed packet, the id that
    its sender gave it.
    """

    event: str
    user: str
    id: object
    payload: Any
    body: dict[str, Any]

    def value(self) -> Any:
        """Parse the Payload, a JSON text; raise ValueError if it is not one."""
        return orjson.loads(self.payload)


def address(url: str) -> URL:
    """Return the WebSocket URL of the server at `url`; raise ValueError for an invalid one."""
    parsed = URL(url)
    if parsed.scheme not in _SCHEMES or not parsed.host:
        raise ValueError(f"{url}: must be a ws, wss, http or https URL")
    path = parsed.path.rstrip("/").removesuffix(_PATH) + _PATH
    return parsed.with_scheme(_SCHEMES[parsed.scheme]).with_path(path).with_query(parsed.query)


def write(event: str, user: str, room: str, payload: Any = "", /, **header: Any) -> str:
    """Return a packet's text; raise TypeError if `payload` cannot be JSON."""
    head = {"Event": event, "UserId": user, "RoomId": room, **header}
    return orjson.dumps({"Header": head, "Payload": payload}).decode()


def broadcast(user: str, room: str, payload: Any, header: dict[str, Any]) -> Callable[[int], str]:
    """Return a function that writes the broadcast with an id; raise TypeError, see `write`."""
    fragment = orjson.Fragment(orjson.dumps(payload))  # as it is now
    return lambda identity: write(BROADCAST, user, room, fragment, Id=identity, **header)


def renumber(text: str, identity: int) -> str:
    """Give one of our broadcasts another id; `Again` keeps its first one."""
    header, rest = _cut(text)
    header.setdefault("Again", header["Id"])
    header["Id"] = identity
    return f"{_HEAD}{orjson.dumps(header).decode()}{rest}"


def first_id(text: str) -> object:
    """Return the first id of one of our broadcasts."""
    header, _ = _cut(text)
    return header.get("Again", header["Id"])


def _cut(text: str) -> tuple[dict[str, Any], str]:
    """Return the header of one of our broadcasts, and the text after it.

    The Payload may be nested so deep that orjson could not write it as part of the packet.
    """
    end = text.index(_TAIL) + 1  # no string contains it: its quotes are escaped there
    return orjson.loads(text[len(_HEAD) : end]), text[end:]


def read(text: str | bytes) -> Packet:
    """Parse a packet; raise ValueError if `text` is not one."""
    body = orjson.loads(text)
    try:
        header = body["Header"]
        event, user = header["Event"], header["UserId"]
        return Packet(event, user, header.get("Id"), body["Payload"], body)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(repr(error)) from None


def error_of(packet: Packet) -> PeerError:
    """Return an error packet as the PeerError subclass for its code, else as a PeerError."""
    told = packet.value()
    known = {kind.code: kind for kind in PeerError.__subclasses__()}
    error = known.get(told["Code"], PeerError)(told["Message"])
    if type(error) is PeerError:
        error.code, error.retry = told["Code"], told["Retry"]
    error.packet_id = packet.id
    return error
