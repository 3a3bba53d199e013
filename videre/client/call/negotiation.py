"""Negotiation: which end sends an offer, and when; one step at a time.

The member present first makes the call, names it, and makes the offers. The other end asks for a
turn to make one, so that offers never collide; it gives back a turn that it cannot use. Offers are
numbered, so that answers can say which offer they answer; turns are numbered too. Every signal may
be repeated: docs/browser.md, "On the wire". An old client knows none of this: its calls have no
name, and it never asks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from aiortc import RTCPeerConnection, RTCSessionDescription

from videre.client.call import signals
from videre.client.call.offers import renumbered
from videre.client.call.signals import Signal

Step = Callable[[], Awaitable[None]]

# Bounds of waiting signals, and of the candidates after one description. No machine has more than
# a hundred candidates or so; a peer that sends more cannot make us try them all.
MAX_WAITING, MAX_CANDIDATES = 1000, 256


class Side(Protocol):
    """This end of the call, as the negotiation uses it."""

    connection: RTCPeerConnection

    def prepare(self, kinds: list[str] | None) -> None:
        """Add media and channels before the first description; `kinds`: sections of their offer."""

    async def renew_way(self, remote: RTCSessionDescription | None) -> None:
        """Begin a new ICE connection if their offer (`remote`) does, or if we want one (None)."""

    def arrange(self, *, offer: bool) -> None:
        """Set the directions of media, before an offer of ours (`offer`) or after one of theirs."""

    def agreed(self, signal: Signal, description: RTCSessionDescription) -> None:
        """Start ICE: both ends are described."""

    def is_settled(self) -> bool:
        """Tell whether every track to send is in a description."""

    async def signal(self, payload: dict[str, Any]) -> None:
        """Send a signal to the other end, if the server is connected."""

    def failed(self, error: Exception) -> None:
        """Report a failed step."""


class Negotiation:
    """The negotiation of the call named `call`; `caller` tells whether we make the call."""

    def __init__(self, side: Side, call: str | None, *, caller: bool) -> None:
        self._side = side
        self._call = call
        self._connection = side.connection
        self.ours = caller or call is None  # whether the turn is ours
        self._due = False  # whether we owe an offer
        self._renew = False  # whether that offer restarts ICE
        self._asked = False  # whether the other end has asked for a turn
        self._lent = False  # whether we have lent the turn, or given it back
        self._turn = 0  # number of the last turn lent
        self._offers = 0  # number of our last offer
        self._offer = 0  # number of the last offer accepted
        self._answer: RTCSessionDescription | None = None  # to it
        self._candidates = 0  # that may still follow the last description
        self._is_prepared = False
        self._steps: asyncio.Queue[Step] = asyncio.Queue(MAX_WAITING)
        self._task = asyncio.create_task(self._work())

    # Requests.

    def begin(self) -> None:
        """Make the call."""
        self._prepare(None)
        self._due = True
        self.step(self._advance)

    def hear(self, signal: Signal) -> None:
        """Handle a signal from the other end."""

        async def take() -> None:
            await self._take(signal)
            await self._advance()

        self.step(take)

    def step(self, step: Step) -> None:
        """Queue a step."""
        try:
            self._steps.put_nowait(step)
        except asyncio.QueueFull:
            self._side.failed(ValueError("Too many signals are waiting"))

    def need_offer(self) -> None:
        """Make an offer when it is our turn."""
        self._due = True
        if self.ours:
            self.step(self._advance)
        else:
            self.step(lambda: self._signal(signals.ASK))

    def restart(self) -> None:
        """Make an offer that restarts ICE."""
        if self._is_prepared:
            self._renew = True
            self.need_offer()

    async def repair(self) -> None:
        """Repeat signals that may have been lost while the server was disconnected."""
        local = self._connection.localDescription
        if self._waits and self._call is not None and self._answer is not None:
            # The other end may still wait for it: it was lost before we made the offer.
            await self._describe(self._answer)
        if self._waits or (local is not None and local.type == "answer"):
            await self._describe(local)
        if self._lent:
            await self._lend()
        if self._due and not self.ours:
            await self._signal(signals.ASK)

    async def close(self) -> None:
        """Stop all steps."""
        self._task.cancel()
        await asyncio.wait([self._task])

    # One step after the other.

    async def _work(self) -> None:
        while True:
            step = await self._steps.get()
            try:
                await step()
            except Exception as error:
                if self._connection.signalingState != "closed":
                    self._side.failed(error)

    @property
    def _waits(self) -> bool:
        """Whether our latest offer has no answer yet."""
        return bool(self._connection.signalingState == "have-local-offer")

    async def _take(self, signal: Signal) -> None:
        match signal.type:
            case signals.CANDIDATE:
                await self._take_candidate(signal)
            case signals.ANSWER:
                if self._waits and (self._call is None or signal.number == self._offers):
                    await self._take_answer(signal)
            case signals.OFFER:
                if self._connection.signalingState == "stable":
                    await self._take_offer(signal)
            case signals.ASK if self._lent:
                await self._lend()
            case signals.ASK:
                self._asked = True
            case signals.TURN if self.ours:
                if signal.number == self._turn:
                    self._lent = False  # it was given back
            case signals.TURN if signal.number == self._turn:
                # Our offer was lost, or the turn that we gave back.
                local = self._connection.localDescription
                await (self._describe(local) if self._waits else self._lend())
            case signals.TURN:
                self._turn = signal.number
                self._lent = False
                await self._use_turn()

    async def _take_candidate(self, signal: Signal) -> None:
        # Before the first description a candidate has no place; the other end describes itself
        # first.
        if signal.candidate is not None and self._candidates:
            self._candidates -= 1
            await self._connection.addIceCandidate(signal.candidate)

    async def _take_answer(self, signal: Signal) -> None:
        description = _described(signal)
        await self._connection.setRemoteDescription(description)
        self._candidates = MAX_CANDIDATES
        self._side.agreed(signal, description)

    async def _take_offer(self, signal: Signal) -> None:
        description = _described(signal)
        if self._is_prepared:
            await self._side.renew_way(description)
        else:
            self._prepare(re.findall(r"^m=(\w+) ", description.sdp, re.MULTILINE))
        await self._connection.setRemoteDescription(description)
        self._side.arrange(offer=False)
        self._offer = signal.number
        self._candidates = MAX_CANDIDATES
        self._lent = False
        await self._connection.setLocalDescription()
        self._answer = self._connection.localDescription
        self._side.agreed(signal, description)
        await self._describe(self._answer)
        if not self._side.is_settled():
            self.need_offer()

    def _prepare(self, kinds: list[str] | None) -> None:
        self._side.prepare(kinds)
        self._is_prepared = True

    async def _advance(self) -> None:
        """Lend the turn or make an offer, if one is due and the turn is ours."""
        if not self.ours or self._lent or self._connection.signalingState != "stable":
            return
        if self._asked:
            self._asked = False
            self._lent = True
            self._turn += 1
            await self._lend()
        elif self._due:
            await self._propose()

    async def _use_turn(self) -> None:
        """Make the offer, or give the turn back: without it, the other end could never make one."""
        try:
            await self._propose()
        except Exception:
            if not self._waits:
                self._lent = True
                await self._lend()
            raise

    async def _propose(self) -> None:
        self._due = False
        if self._renew:
            self._renew = False
            await self._side.renew_way(None)
        self._side.arrange(offer=True)
        before = self._connection.localDescription
        offer = renumbered(await self._connection.createOffer(), before)
        await self._connection.setLocalDescription(offer)
        self._offers += 1
        await self._describe(self._connection.localDescription)

    async def _describe(self, local: RTCSessionDescription | None) -> None:
        if local is None:
            return
        is_offer = local.type == "offer"
        kind = signals.OFFER if is_offer else signals.ANSWER
        number = self._offers if is_offer else self._offer
        await self._signal(kind, number=number, description=local)

    async def _lend(self) -> None:
        """Lend the turn, or give it back."""
        await self._signal(signals.TURN, number=self._turn)

    async def _signal(self, kind: str, **more: Any) -> None:
        await self._side.signal(signals.write(kind, self._call, **more))


def _described(signal: Signal) -> RTCSessionDescription:
    if signal.description is None:
        raise ValueError(f"{signal.type}: no description")
    return signal.description
