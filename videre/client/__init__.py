"""A client of a videre signaller: a seat in a room, which outlives the connection.

async with Client("ws://localhost:1111/echo", user="peer1", room="a-long-random-id") as room:
    await room.broadcast({"Hello": "everybody"})
    async for event in room:
        print(event)  # Joined, Left, Message, Role; Lost, Resumed, Rejoined

docs/client.md is its reference.
"""

from videre.client.backoff import Backoff
from videre.client.client import Client
from videre.client.errors import Closed, Overflow, Unreachable
from videre.client.events import Event, Joined, Left, Lost, Message, Rejoined, Resumed, Role

__all__ = [
    "Backoff",
    "Client",
    "Closed",
    "Event",
    "Joined",
    "Left",
    "Lost",
    "Message",
    "Overflow",
    "Rejoined",
    "Resumed",
    "Role",
    "Unreachable",
]
