"""A client for a videre server: it keeps a seat in a room when its connections break.

async with Client("ws://localhost:1111/echo", user="peer1", room="a-long-random-id") as room:
    await room.broadcast({"Hello": "everybody"})
    async for event in room:
        print(event)  # Joined, Left, Message, Role; Lost, Resumed, Rejoined

async with Call("ws://localhost:1111/echo", room="a-long-random-id") as call:
    call.on("message", lambda data, peer: print(peer.user, data))

The reference is docs/client.md. Call needs aiortc, which is imported at the first use of Call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from videre.client.backoff import Backoff
from videre.client.client import Client
from videre.client.errors import (
    Closed,
    Overflow,
    TransferError,
    TransfersFailed,
    Unreachable,
)
from videre.client.events import Event, Joined, Left, Lost, Message, Rejoined, Resumed, Role

if TYPE_CHECKING:
    from videre.client.call import Blob, Call, Incoming, Peer

__all__ = [
    "Backoff",
    "Blob",
    "Call",
    "Client",
    "Closed",
    "Event",
    "Incoming",
    "Joined",
    "Left",
    "Lost",
    "Message",
    "Overflow",
    "Peer",
    "Rejoined",
    "Resumed",
    "Role",
    "TransferError",
    "TransfersFailed",
    "Unreachable",
]

_OF_CALL = ("Blob", "Call", "Incoming", "Peer")

if not TYPE_CHECKING:  # type checkers would believe that every name exists

    def __getattr__(name: str) -> Any:
        if name not in _OF_CALL:
            raise AttributeError(f"module 'videre.client' has no attribute {name!r}")
        try:
            from videre.client import call
        except ModuleNotFoundError as error:
            if error.name not in ("aiortc", "aioice", "av"):
                raise
            words = "needs aiortc: bin/install call, or pip install '.[call]' in a clone"
            raise ImportError(f"videre.client.{name} {words}", name=error.name) from error
        value = globals()[name] = getattr(call, name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
