"""Requests that wait for the server's answer: `ping` and `ice`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from videre.client.wire import Packet

ANSWER_SECONDS = 30.0  # for an answer: the server silently drops pings that come too fast


class Requests:
    """Requests without an answer yet, by their ids."""

    def __init__(self, ids: Iterator[int]) -> None:
        self._ids = ids
        self._asked: dict[object, asyncio.Future[Packet | Exception | None]] = {}

    def __contains__(self, identity: object) -> bool:
        return identity in self._asked

    async def ask(self, event: str, send: Callable[[str, int], Awaitable[None]]) -> Packet:
        """Send a request and return its answer; resend it if the connection is lost."""
        while True:
            identity = next(self._ids)
            asked = self._asked[identity] = asyncio.get_running_loop().create_future()
            try:
                await send(event, identity)
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await asked
            except TimeoutError:
                raise TimeoutError(f"No answer to {event} in {ANSWER_SECONDS} s") from None
            finally:
                del self._asked[identity]
            if isinstance(answer, Packet):
                return answer
            if answer is not None:
                raise answer

    def answer(self, identity: object, answer: Packet | Exception) -> None:
        """Deliver the answer to a request, if it is still waiting."""
        asked = self._asked.get(identity)
        if asked is not None and not asked.done():
            asked.set_result(answer)

    def drop(self, end: Exception | None) -> None:
        """Handle a lost connection: each request is resent, or fails with `end`."""
        for asked in self._asked.values():
            if not asked.done():
                asked.set_result(end)
