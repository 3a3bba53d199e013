"""The channels that a node subscribes to, on one connection for each server."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from redis.asyncio.client import PubSub

from videre.engines.redis.faults import report, reported

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
                client, sharded, self._take, self._timeout
            )
            subscription.reading = asyncio.create_task(self._read(subscription))
        try:
            async with asyncio.timeout(self._timeout):
                await subscription.subscribe(channel)
        except Exception as error:
            self._lose(subscription, error)
            raise

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        for subscription in list(self._subscriptions.values()):
            if channel in subscription.channels:
                try:
                    async with asyncio.timeout(self._timeout):
                        await subscription.unsubscribe(channel)
                except Exception as error:
                    self._lose(subscription, error)
                    raise

    async def end(self) -> None:
        """Unsubscribe from everything."""
        self._drop()
        ending, self._ending = self._ending, []
        await asyncio.gather(*ending, return_exceptions=True)

    async def _read(self, subscription: Subscription) -> None:
        try:
            await subscription.read()
        except Exception as error:
            report(error)
            self._lose(subscription, error)

    def _lose(self, subscription: Subscription, error: Exception) -> None:
        if subscription in self._subscriptions.values():
            logger.warning("lost the subscription to the store: %s", error or type(error).__name__)
            self._drop()
            self._broken()

    def _drop(self) -> None:
        subscriptions, self._subscriptions = self._subscriptions, {}
        self._ending = [task for task in self._ending if not task.done()]
        self._ending += [
            asyncio.create_task(subscription.end()) for subscription in subscriptions.values()
        ]


class Subscription:
    """The channels of one server."""

    def __init__(self, client: Any, sharded: bool, take: Take, timeout: float) -> None:
        self._client = client
        self._pubsub: PubSub = client.pubsub()
        self._sharded = sharded
        self._take = take
        self._timeout = timeout
        self.channels: dict[str, asyncio.Future[None]] = {}  # the future is done once confirmed
        self._unsubscribed: Counter[str] = Counter()  # not yet confirmed by the server
        self._begun = asyncio.Event()
        self.reading: asyncio.Task[None]

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a channel; return when the server has confirmed it."""
        confirmed = self.channels.get(channel)
        if confirmed is None:
            confirmed = self.channels[channel] = asyncio.get_running_loop().create_future()
            await (self._pubsub.ssubscribe if self._sharded else self._pubsub.subscribe)(channel)
            self._begun.set()
        await asyncio.shield(confirmed)
        if self.channels.get(channel) is not confirmed:
            raise ConnectionError("the messages are lost")

    async def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        del self.channels[channel]
        self._unsubscribed[channel] += 1
        await (self._pubsub.sunsubscribe if self._sharded else self._pubsub.unsubscribe)(channel)

    async def read(self) -> None:
        """Pass on messages; raise when the connection is lost."""
        await self._begun.wait()
        task = asyncio.current_task()
        while task is None or not task.cancelling():  # see Duties.run
            found = await self._pubsub.get_message(timeout=self._timeout)
            if found is None:  # silence: is the server there?
                await self._pubsub.ping()
                found = await self._pubsub.get_message(timeout=self._timeout)
                if found is None:
                    raise ConnectionError("nothing is heard")
            self._hear(found["type"], found["channel"], found["data"])

    def _hear(self, kind: str, channel: str, data: Any) -> None:
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
                raise ConnectionError("a channel has gone to another server")
            if not self._unsubscribed[channel]:
                del self._unsubscribed[channel]

    async def end(self) -> None:
        """End the subscription, and wake all who wait for it."""
        channels, self.channels = self.channels, {}
        for confirmed in channels.values():
            if not confirmed.done():
                confirmed.set_result(None)
        self.reading.cancel()
        await asyncio.gather(self.reading, return_exceptions=True)
        with reported():
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]
