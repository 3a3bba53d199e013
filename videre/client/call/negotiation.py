"""Who describes the connection when: offers, answers, and turns, one step after the other.

The member who was there first makes the call, names it, and makes the offers. The other asks for
its turn to make one, so that two offers never meet. Offers are numbered, for answers to say which
one they answer, and so are turns. All that is sent may be sent again: docs/browser.md, "On the
wire". An old client knows nothing of this: its calls have no name, and it never asks.
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

# Signals that may wait to be taken, and candidates of one description: some hundred are more than
# any machine has, and who sends more does not get to us what it likes.
MAX_WAITING, MAX_CANDIDATES = 1000, 256


class Side(Protocol):
    """This end of the call, as far as its negotiation goes."""

    connection: RTCPeerConnection

    def prepare(self, kinds: list[str] | None) -> None:
        """Make what is to be described; `kinds` are those of the sections of their offer."""

    async def renew_way(self, remote: RTCSessionDescription | None) -> None:
        """Begin a new way: the other end has, by this description; None: we want one."""

    def arrange(self, *, offer: bool) -> None:
        """Have media go where they are to go, before an offer of ours or after one of theirs."""

    def agreed(self, signal: Signal, description: RTCSessionDescription) -> None:
        """Look for a way, now that both ends are described."""

    def is_settled(self) -> bool:
        """Tell whether all that is to be sent has found its place."""

    async def signal(self, payload: dict[str, Any]) -> None:
        """Send a signal to the other end, if there is a connection to the signaller."""

    def failed(self, error: Exception) -> None:
        """Hear that a step has failed."""


class Negotiation:
    """The negotiation of one call, whose name is `call`; `caller` tells whether we make it."""

    def __init__(self, side: Side, call: str | None, *, caller: bool) -> None:
        self._side = side
        self._call = call
        self._connection = side.connection
        self.ours = caller or call is None  # the turn
        self._due = False  # an offer of ours
        self._renew = False  # with a new way
        self._asked = False  # for the turn, by the other
        self._lent = False  # the turn, to the other
        self._turn = 0  # how often it was
        self._offers = 0  # made
        self._offer = 0  # the last one that was taken
        self._candidates = 0  # since it
        self._is_prepared = False
        self._steps: asyncio.Queue[Step] = asyncio.Queue(MAX_WAITING)
        self._task = asyncio.create_task(self._work())

    # What is asked for.

    def begin(self) -> None:
        """Make the call."""
        self._prepare(None)
        self._due = True
        self.step(self._advance)

    def hear(self, signal: Signal) -> None:
        """Take what the other has sent."""

        async def take() -> None:
            await self._take(signal)
            await self._advance()

        self.step(take)

    def step(self, step: Step) -> None:
        """Take a step after those that wait."""
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
        """Make an offer with a new way."""
        if self._is_prepared:
            self._renew = True
            self.need_offer()

    async def repair(self) -> None:
        """Do again what may have been lost while there was no connection to the signaller."""
        local = self._connection.localDescription
        if self._waits or (local is not None and local.type == "answer"):
            await self._describe()
        if self._lent:
            await self._lend()
        if self._due and not self.ours:
            await self._signal(signals.ASK)

    async def close(self) -> None:
        """Take no further step."""
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
        """Whether an offer of ours has no answer yet."""
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
            case signals.TURN if signal.number == self._turn:
                if self._waits:
                    await self._describe()  # it was lost
            case signals.TURN:
                self._turn = signal.number
                await self._propose()

    async def _take_candidate(self, signal: Signal) -> None:
        # Before the first description there is nowhere to keep it; the other describes first.
        if signal.candidate is None or self._connection.remoteDescription is None:
            return
        self._candidates += 1
        if self._candidates <= MAX_CANDIDATES:
            await self._connection.addIceCandidate(signal.candidate)

    async def _take_answer(self, signal: Signal) -> None:
        description = _described(signal)
        await self._connection.setRemoteDescription(description)
        self._candidates = 0
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
        self._candidates = 0
        self._lent = False
        await self._connection.setLocalDescription()
        self._side.agreed(signal, description)
        await self._describe()
        if not self._side.is_settled():
            self.need_offer()

    def _prepare(self, kinds: list[str] | None) -> None:
        self._side.prepare(kinds)
        self._is_prepared = True

    async def _advance(self) -> None:
        """Do what is due when it is our turn."""
        if not self.ours or self._lent or self._connection.signalingState != "stable":
            return
        if self._asked:
            self._asked = False
            self._lent = True
            self._turn += 1
            await self._lend()
        elif self._due:
            await self._propose()

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
        await self._describe()

    async def _describe(self) -> None:
        local = self._connection.localDescription
        if local is None:
            return
        is_offer = local.type == "offer"
        kind = signals.OFFER if is_offer else signals.ANSWER
        number = self._offers if is_offer else self._offer
        await self._signal(kind, number=number, description=local)

    async def _lend(self) -> None:
        await self._signal(signals.TURN, number=self._turn)

    async def _signal(self, kind: str, **more: Any) -> None:
        await self._side.signal(signals.write(kind, self._call, **more))


def _described(signal: Signal) -> RTCSessionDescription:
    if signal.description is None:
        raise ValueError(f"{signal.type}: no description")
    return signal.description
