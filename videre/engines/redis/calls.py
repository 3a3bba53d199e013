"""Calls to one server, many at a time on one connection."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable
from typing import Any

import hiredis
from redis.exceptions import MasterDownError, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeout

from videre.engines.redis.faults import retrieve
from videre.engines.redis.pipe import Pipe

ENDED = "the store is closed"

# How the errors of replicas, and of primaries that have lost theirs, appear in those of a script.
_NO_WRITES = re.compile("READONLY|NOREPLICAS|MASTERDOWN")


class Calls:
    """Sends commands to the server of redis-py's client, and matches the answers by their order.

    The connection is opened by the first call, and by the first one after a loss. If the connection
    is lost, its calls fail, and nobody knows whether the server has carried them out: so they are
    never sent again. A call without an answer for `timeout` seconds costs the connection.

    The callers limit what waits: Node.step limits packets, and everything else is one call at a
    time for each room.
    """

    def __init__(self, client: Any, timeout: float) -> None:
        self.client = client
        self._timeout = timeout
        self._pipe: Pipe | None = None
        self._is_closed = False
        self._opening: asyncio.Task[Pipe] | None = None
        # The future of each expected answer (None: ignore it), and when it is due.
        self._waiting: deque[tuple[asyncio.Future[Any] | None, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def call(self, words: tuple[str, ...], *, asking: bool = False) -> Awaitable[Any]:
        """Send a command soon; awaiting the result returns the answer or raises the server's error.

        `asking` sends ASKING first: the server of a cluster is about to receive the command's slot.
        """
        if self._pipe is None:
            return self._call_when_opened(words, asking)
        return self._call(self._pipe, words, asking)

    async def _call_when_opened(self, words: tuple[str, ...], asking: bool) -> Any:
        return await self._call(await self._opened(), words, asking)

    def _call(self, pipe: Pipe, words: tuple[str, ...], asking: bool) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        due = loop.time() + self._timeout
        if asking:
            pipe.write(("ASKING",))
            self._waiting.append((None, due))
        pipe.write(words)
        self._waiting.append((answered, due))
        if self._timer is None:
            self._timer = loop.call_at(due, self._watch)
        return answered

    async def close(self) -> None:
        """Close the connection; waiting and later calls fail."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._pipe is not None:  # Python 3.11 may lose the cancellation (gh-86296)
            self._pipe.close(ConnectionError(ENDED))

    async def _opened(self) -> Pipe:
        """Wait for the one attempt to connect."""
        if self._is_closed:
            raise ConnectionError(ENDED)
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(retrieve)
        return await asyncio.shield(self._opening)

    async def _open(self) -> Pipe:
        pipe = Pipe(take=self._take, lost=self._lose)
        try:
            await pipe.open(self.client)
            self._pipe = pipe
            return pipe
        finally:
            self._opening = None

    def _take(self, answer: Any) -> None:
        """Give an answer to the call that has waited longest."""
        if isinstance(answer, hiredis.PushNotification):
            return  # a notification, not an answer
        answered, _ = self._waiting.popleft()
        if answered is None or answered.done():  # or cancelled
            return
        if not isinstance(answer, Exception):
            answered.set_result(answer)
            return
        answered.set_exception(answer)
        if self._pipe is not None and _takes_no_writes(answer):
            self._pipe.close(answer)  # the present primary may be another server

    def _lose(self, error: BaseException) -> None:
        """Fail all calls that wait for an answer."""
        self._pipe = None
        waiting, self._waiting = self._waiting, deque()
        for answered, _ in waiting:
            if answered is not None and not answered.done():
                answered.set_exception(error)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self) -> None:
        """Lose the connection if the call that has waited longest is due."""
        self._timer = None
        if not self._waiting or self._pipe is None:
            return
        loop = asyncio.get_running_loop()
        due = self._waiting[0][1]
        if due <= loop.time():
            self._pipe.close(RedisTimeout("no answer"))
        else:
            self._timer = loop.call_at(due, self._watch)


def _takes_no_writes(error: Exception) -> bool:
    kinds = ReadOnlyError, MasterDownError  # whose texts lack the word
    return isinstance(error, kinds) or _NO_WRITES.search(str(error)) is not None
