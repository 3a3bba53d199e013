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


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of the server's; `id` is what the client gave the one that it answers."""

    event: str
    user: str
    id: object
    payload: Any
    body: dict[str, Any]

    def value(self) -> Any:
        """Return what the Payload, a JSON text, stands for; raise ValueError if it is none."""
        return orjson.loads(self.payload)


def address(url: str) -> URL:
    """Return where the WebSocket of the signaller at `url` is; raise ValueError if nowhere."""
    parsed = URL(url)
    if parsed.scheme not in _SCHEMES or not parsed.host:
        raise ValueError(f"{url}: not a URL of ws, wss, http or https")
    path = parsed.path.rstrip("/").removesuffix(_PATH) + _PATH
    return parsed.with_scheme(_SCHEMES[parsed.scheme]).with_path(path).with_query(parsed.query)


def write(event: str, user: str, room: str, payload: Any = "", **header: Any) -> str:
    """Return the text of a packet; raise TypeError if `payload` has no JSON."""
    head = {"Event": event, "UserId": user, "RoomId": room, **header}
    return orjson.dumps({"Header": head, "Payload": payload}).decode()


def broadcast(user: str, room: str, payload: Any, header: dict[str, Any]) -> Callable[[int], str]:
    """Return what makes a broadcast's text for an id; raise TypeError if `payload` has no JSON."""
    fragment = orjson.Fragment(orjson.dumps(payload))  # as it is now
    return lambda identity: write(BROADCAST, user, room, fragment, Id=identity, **header)


def renumber(text: str, identity: int) -> str:
    """Return a broadcast of ours under another id; `Again` keeps the one that it had at first."""
    body = orjson.loads(text)
    header = body["Header"]
    header.setdefault("Again", header["Id"])
    header["Id"] = identity
    return orjson.dumps(body).decode()


def first_id(text: str) -> object:
    """Return the id that a broadcast of ours had at first."""
    header = orjson.loads(text)["Header"]
    return header.get("Again", header["Id"])


def read(text: str | bytes) -> Packet:
    """Return the packet that `text` holds; raise ValueError if it is none."""
    body = orjson.loads(text)
    try:
        header = body["Header"]
        event, user = header["Event"], header["UserId"]
        return Packet(event, user, header.get("Id"), body["Payload"], body)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(repr(error)) from None


def error_of(packet: Packet) -> PeerError:
    """Return what an error packet says: of the class for its code, or of one made for it."""
    told = packet.value()
    known = {kind.code: kind for kind in PeerError.__subclasses__()}
    kind = known.get(told["Code"])
    if kind is None:
        kind = type("UnknownError", (PeerError,), {"code": told["Code"], "retry": told["Retry"]})
    error = kind(told["Message"])
    error.packet_id = packet.id
    return error
