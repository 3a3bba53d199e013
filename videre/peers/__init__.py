"""Peers: the protocol of one session, from its first packet to its end."""

from videre.peers.context import Context
from videre.peers.peer import Peer

__all__ = ["Context", "Peer"]
