"""The channels that a node subscribes to, on one connection for each server."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from videre.engines.redis.faults import retrieve
from videre.engines.redis.outage import reason
from videre.engines.redis.pipe import Pipe

logger = logging.getLogger("videre.engines")

#: Called with a channel and each of its messages, in order.
Take = Callable[[str, str], None]


class Channels:
    """Receives the subscribed channels' messages; losing one connection ends them all.

    A server that is silent for `timeout` seconds gets a ping, and has as long again to answer.
    `broken` is called once for each loss.
    """

    def __init__(self, *, take: Take, broken: Callable[[], None], timeout: float) -> None:
        self._take = take
        self._broken = broken
        self._timeout = timeout
        self._subscriptions: dict[str, Subscription] = {}  # by server
        self._ending: list[asyncio.Task[None]] = []

    async def subscribe(self, channel: str, server: str, client: Any, sharded: bool) -> None:
        """Subscribe to a channel through a server's client; return when no message can be missed.

        A failure ends all subscriptions, because their state is then unknown.
        """
        subscription = self._subscriptions.get(server)
        if subscription is None:
            subscription = self._subscriptions[server] = Subscription(
                client, sharded, self._take, self._lose, self._timeout
            )
        try:
            async with asyncio.timeout(self._timeout):
                await subscription.subscribe(channel)
        except Exception as error:
            self._lose(subscription, error)
            raise

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        for subscription in self._subscriptions.values():
            if channel in subscription.channels:
                subscription.unsubscribe(channel)

    async def end(self) -> None:
        """Unsubscribe from everything."""
        self._drop()
        ending, self._ending = self._ending, []
        await asyncio.gather(*ending, return_exceptions=True)

    def lose(self, error: BaseException) -> None:
        """Lose all subscriptions, if there are any."""
        if self._subscriptions:
            logger.warning("lost the subscription to the store: %s", reason(error))
            self._drop()
            self._broken()

    def _lose(self, subscription: Subscription, error: BaseException) -> None:
        if subscription in self._subscriptions.values():
            self.lose(error)

    def _drop(self) -> None:
        subscriptions, self._subscriptions = self._subscriptions, {}
        self._ending = [task for task in self._ending if not task.done()]
        self._ending += [
            asyncio.create_task(subscription.end()) for subscription in subscriptions.values()
        ]


class Subscription:
    """The channels of one server, on a connection of their own."""

    def __init__(
        self,
        client: Any,
        sharded: bool,
        take: Take,
        lost: Callable[[Subscription, BaseException], None],
        timeout: float,
    ) -> None:
        self._sharded = sharded
        self._take = take
        self._timeout = timeout
        self.channels: dict[str, asyncio.Future[None]] = {}  # the future is done once confirmed
        self._unsubscribed: Counter[str] = Counter()  # not yet confirmed by the server
        self._pipe = Pipe(take=self._hear, lost=lambda error: lost(self, error))
        self._opening = asyncio.create_task(self._open(client))
        self._opening.add_done_callback(retrieve)
        self._pinged = 0.0  # when the server was last pinged
        self._timer: asyncio.TimerHandle | None = None

    async def _open(self, client: Any) -> None:
        await self._pipe.open(client)
        self._watch()

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a channel; return when the server has confirmed it."""
        confirmed = self.channels.get(channel)
        if confirmed is None:
            confirmed = self.channels[channel] = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._opening)
            if self.channels.get(channel) is confirmed:
                self._pipe.write(("SSUBSCRIBE" if self._sharded else "SUBSCRIBE", channel))
        await asyncio.shield(confirmed)
        if self.channels.get(channel) is not confirmed:
            raise ConnectionError("the messages are lost")

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        confirmed = self.channels.pop(channel)
        if not confirmed.done():
            confirmed.set_result(None)
        if self._opening.done() and self._pipe.error is None:
            self._unsubscribed[channel] += 1
            self._pipe.write(("SUNSUBSCRIBE" if self._sharded else "UNSUBSCRIBE", channel))

    def _watch(self) -> None:
        """Lose the connection if the server is silent, and does not answer a ping."""
        if self._pipe.error is not None:
            return
        loop = asyncio.get_running_loop()
        quiet = loop.time() - self._pipe.heard
        if quiet < self._timeout:
            self._timer = loop.call_later(self._timeout - quiet, self._watch)
        elif self._pinged <= self._pipe.heard:  # the same: uvloop's clock counts milliseconds
            self._pinged = loop.time()
            self._pipe.write(("PING",))
            self._timer = loop.call_later(self._timeout, self._watch)
        else:
            self._pipe.close(ConnectionError("the server is silent"))

    def _hear(self, said: Any) -> None:
        if isinstance(said, Exception):
            raise said
        if not isinstance(said, list) or len(said) != 3:
            return  # the answer to a ping, or a notice
        kind, channel, data = said
        if kind in ("message", "smessage"):
            if channel in self.channels:
                self._take(channel, data)
        elif kind in ("subscribe", "ssubscribe"):
            confirmed = self.channels.get(channel)
            if confirmed is not None and not confirmed.done():
                confirmed.set_result(None)
        elif kind in ("unsubscribe", "sunsubscribe"):
            if self._unsubscribed[channel]:
                self._unsubscribed[channel] -= 1
            elif channel in self.channels:
                raise ConnectionError("a channel moved to another server")
            if not self._unsubscribed[channel]:
                del self._unsubscribed[channel]

    async def end(self) -> None:
        """End the subscription, and wake all who wait for it."""
        channels, self.channels = self.channels, {}
        for confirmed in channels.values():
            if not confirmed.done():
                confirmed.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        self._opening.cancel()
        await asyncio.wait([self._opening])
        self._pipe.close(ConnectionError("the subscription has ended"))
