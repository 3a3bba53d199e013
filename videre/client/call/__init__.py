"""Calls in Python, on aiortc: `videre.client.Call`. The reference is docs/client.md."""

from videre.client.call.call import Call
from videre.client.call.incoming import Incoming
from videre.client.call.peer import Peer
from videre.client.call.values import Blob

__all__ = ["Blob", "Call", "Incoming", "Peer"]
