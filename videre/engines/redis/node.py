"""What the parts of one node share: its seats, its views of rooms, and the way to the store."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable
from typing import Any

from videre.engines import Listener
from videre.engines.redis.store import Store
from videre.engines.redis.view import Own, View
from videre.errors import EngineError

logger = logging.getLogger("videre.engines")

# Steps that a node may be waiting for; more are refused, so that a slow store costs bounded memory.
MAX_STEPS = 5_000


class Node:
    """One node, by the name that the store knows it by. It is told of trouble by `step`."""

    def __init__(self, store: Store, name: str = "") -> None:
        self.store = store
        self.listener: Listener
        self.name = name or secrets.token_hex(8)
        self.views: dict[str, View] = {}
        self.own: dict[str, Own] = {}  # by seat; also adopted ones, of rooms without a view
        self.owed: set[str] = set()  # rooms in which the store may not know what is so
        self.sound_since: float | None = None  # since when the store answers; None: it does not
        self.deaf = False  # whether messages are not heard
        self.trouble = asyncio.Event()  # something is to be looked after soon
        self._steps = 0
        self._jobs: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether the store answers, and is heard."""
        return self.sound_since is not None and not self.deaf

    def require(self) -> None:
        """Raise EngineError unless the store answers, and is heard."""
        if not self.ready:
            raise EngineError("The rooms cannot be reached")

    async def step(self, room: str, op: str, *arguments: str) -> Any:
        """Take a step in the store; if nobody knows whether it was taken, it is owed."""
        if self._steps >= MAX_STEPS:
            raise EngineError("Too much is waiting for the rooms")
        self._steps += 1
        try:
            return await self.store.step(room, op, *arguments)
        except EngineError:
            self.owed.add(room)
            self.unsound()
            raise
        except BaseException:
            self.owed.add(room)
            raise
        finally:
            self._steps -= 1

    async def or_later(self, room: str, op: str, *arguments: str) -> Any:
        """Take a step that must be taken: if not now then when the store is back."""
        if not self.ready:
            self.owed.add(room)
            return None
        try:
            return await self.step(room, op, *arguments)
        except EngineError:
            return None

    def owe(self, room: str) -> None:
        """Take note that the store may not know what is so in a room."""
        self.owed.add(room)
        self.trouble.set()

    def unsound(self) -> None:
        """Take note that the store does not answer."""
        if self.sound_since is not None:
            self.sound_since = None
            logger.warning("the store is away")
            self.trouble.set()

    def run(self, job: Awaitable[Any]) -> None:
        """Do what nobody waits for. What the store does not take is owed, and done later."""

        async def quietly() -> None:
            try:
                await job
            except EngineError:
                pass  # what was owed is known
            except Exception:
                logger.exception("a duty of the engine failed")

        task = asyncio.get_running_loop().create_task(quietly())
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def end(self) -> None:
        """Stop what is still being done."""
        for job in list(self._jobs):
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)
