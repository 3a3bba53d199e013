"""Who calls whom: the calls with the other members of a room, as they come and go."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from videre.client.call import signals
from videre.client.call.pace import CALL_COST, Pace
from videre.client.call.peer import Host, Peer
from videre.client.call.signals import Signal
from videre.client.client import Client


class Meeting:
    """The calls in a room, in `peers` by user.

    `host` is the Call; `has_media` tells whether it sends or receives any.
    """

    def __init__(self, host: Host, client: Client, has_media: Callable[[], bool]) -> None:
        self.peers: dict[str, Peer] = {}
        self._host = host
        self._client = client
        self._has_media = has_media
        self._paces: dict[str, Pace] = {}  # for the signals of each member
        self._hanging_up: set[asyncio.Task[None]] = set()

    def meet(self, user: str, calls: object) -> None:
        """Call a member who entered after us.

        An old client, which sends no `Calls`, supports one call: the initiator makes it.
        """
        peer = self.peers.get(user)
        listed = isinstance(calls, list)
        if peer is not None and peer.call and isinstance(calls, list) and peer.call in calls:
            peer.repair()  # it has resumed its seat
            return
        self.hang_up(user)
        if listed or (self._client.is_initiator and self._has_media()):
            self._begin(user, secrets.token_urlsafe(9) if listed else None, caller=True).begin()

    def _begin(self, user: str, name: str | None, *, caller: bool) -> Peer:
        peer = self.peers[user] = Peer(self._host, user, name, caller=caller)
        self._host.emit("peer", peer)
        return peer

    def take(self, user: str, payload: Any) -> None:
        """Handle a broadcast, in its turn if it is a signal."""
        try:
            signal = signals.read(payload)
        except ValueError:
            signal = None
        if signal is None:
            self._host.emit("ignored", payload, user)
            return
        cost = 1 if signal.type in (signals.OFFER, signals.ASK, signals.TURN) else 0
        peer = self.peers.get(user)
        if signal.type == signals.OFFER and (peer is None or peer.call != signal.call):
            cost = CALL_COST
        pace = self._paces.setdefault(user, Pace())
        if not pace.pass_(signal, cost, lambda: self._take_signal(user, signal)):
            self._host.emit("ignored", payload, user)

    def _take_signal(self, user: str, signal: Signal) -> None:
        peer = self.peers.get(user)
        if signal.type == signals.OFFER and (peer is None or peer.call != signal.call):
            if not signals.begins_call(signal, user, self._client.user, self._client.users):
                return
            self.hang_up(user)
            peer = self._begin(user, signal.call, caller=False)
        if peer is not None and peer.call == signal.call:
            peer.hear(signal)

    def repair(self) -> None:
        """Resend what may have been lost, and hang up on those who have left, after a reconnect.

        A call that is still connected goes on: its user may come back.
        """
        users = self._client.users
        for peer in list(self.peers.values()):
            if peer.user in users:
                peer.repair()
            elif peer.state != "connected":
                self.hang_up(peer.user)  # a connected peer may come back

    def forget(self, user: str) -> None:
        """Hang up, and drop this user's waiting signals."""
        if (pace := self._paces.pop(user, None)) is not None:
            pace.end()
        self.hang_up(user)

    def hang_up(self, user: str) -> None:
        """End the call with a user, if there is one."""
        peer = self.peers.pop(user, None)
        if peer is None:
            return
        task = asyncio.create_task(peer.close())
        self._hanging_up.add(task)
        task.add_done_callback(self._hanging_up.discard)
        self._host.emit("hangup", peer)

    async def end(self) -> None:
        """End all calls, and wait until their connections are closed."""
        for user in {*self.peers, *self._paces}:
            self.forget(user)
        if self._hanging_up:
            await asyncio.wait(self._hanging_up)
