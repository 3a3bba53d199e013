"""The base of seam tests: a server that records each session's events.

`VIDERE_SEAM=stock` mounts the stock plugin instead of ours, to see the fault tests fail there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from patience import WAIT_SECONDS

from videre.reasons import End

STOCK = os.environ.get("VIDERE_SEAM", "ours") == "stock"
PREFIX = "/echo"


@dataclass(frozen=True)
class Event:
    """One call of a handler: "open", "message" or "goodbye"."""

    session: int
    kind: str
    text: str
    at: float


def nothing(*_: object) -> None:
    """Do nothing."""


@dataclass
class Script:
    """The handler's action for each event; by default it only records."""

    opened: Callable[[Any], Any] = nothing
    received: Callable[[Any, str], Any] = nothing
    closed: Callable[[Any], Any] = nothing


@dataclass
class Tape:
    """Every session's story, in order; sessions are numbered as they open."""

    events: list[Event] = field(default_factory=list)
    sessions: list[Any] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, session: Any, kind: str, text: str = "") -> None:
        if session not in self.sessions:
            self.sessions.append(session)
        number = self.sessions.index(session)
        self.events.append(Event(number, kind, text, asyncio.get_running_loop().time()))
        self.news.set()

    def story(self, number: int = 0) -> list[str]:
        """Return one session's events as short words."""
        mine = (event for event in self.events if event.session == number)
        return [
            f"{event.kind} {event.text}" if event.kind == "message" else event.kind
            for event in mine
        ]

    def count(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.events)

    async def until(
        self, kind: str, number: int = 0, *, text: str = "", within: float = WAIT_SECONDS
    ) -> Event:
        """Return the session's first such event, waiting for it if need be."""
        async with asyncio.timeout(within):
            while True:
                for event in self.events:
                    if (event.session, event.kind) == (number, kind) and text in ("", event.text):
                        return event
                self.news.clear()
                await self.news.wait()


@dataclass(eq=False)
class Taped:
    """The handler of one session of ours."""

    session: Any
    tape: Tape
    script: Script
    seated: bool = True

    def receive(self, text: str) -> Any:
        self.tape.note(self.session, "message", text)
        return self.script.received(self.session, text)

    def too_large(self) -> None:
        self.tape.note(self.session, "too large")

    def leaving(self) -> None:
        self.tape.note(self.session, "leaving")

    def closed(self, end: End) -> Any:
        self.tape.note(self.session, "goodbye", "clean" if end.clean else "lost")
        return self.script.closed(self.session)


class Seam:
    """One running server: ours, or the stock plugin with those options that it has."""

    def __init__(self, script: Script, stop_within: float, options: dict[str, Any]) -> None:
        self.tape = Tape()
        self.script = script
        self.app = web.Application()
        self.manager = (self._mount_stock if STOCK else self._mount_ours)(**options)
        self.runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=stop_within)
        self.base = ""

    async def start(self) -> Seam:
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.base = "http://{}:{}".format(*self.runner.addresses[0][:2])
        return self

    async def stop(self) -> None:
        await self.runner.cleanup()

    def broadcast(self, text: str) -> None:
        """Send to every session in the server's own way."""
        if STOCK:
            self.manager.broadcast(text)
        else:
            for session in self.tape.sessions:
                session.send(text)

    def _mount_ours(self, **options: Any) -> Any:
        from videre.transport import Options, mount

        def accept(session: Any) -> Taped:
            self.tape.note(session, "open")
            self.script.opened(session)
            return Taped(session, self.tape, self.script)

        return mount(self.app, PREFIX, accept, options=Options(**options))

    def _mount_stock(
        self,
        heartbeat: float = 25,
        disconnect_delay: float = 5,
        websocket: bool = True,
        **_unknown_to_it: Any,
    ) -> Any:
        import sockjs

        words = {sockjs.MsgType.OPEN: "open", sockjs.MsgType.MESSAGE: "message"}
        hooks = {"open": self.script.opened, "goodbye": self.script.closed}
        gone: set[Any] = set()

        async def handler(manager: Any, session: Any, message: Any) -> None:
            kind = words.get(message.type, "goodbye")
            if kind == "goodbye" and session in gone:
                return  # CLOSE and CLOSED count as one here
            if kind == "goodbye":
                gone.add(session)
            text = str(message.data) if kind == "message" else ""
            self.tape.note(session, kind, text)
            answer = hooks[kind](session) if kind in hooks else None
            if kind == "message":
                answer = self.script.received(session, message.data)
            if isinstance(answer, Awaitable):
                await answer

        sockjs.add_endpoint(
            self.app,
            handler,
            prefix=PREFIX,
            name="stock",
            heartbeat_delay=heartbeat,
            disconnect_delay=disconnect_delay,
            disable_transports=() if websocket else ("websocket", "websocket-raw"),
        )
        return sockjs.get_manager("stock", self.app)


#: What the fixture `seam` gives: starts a server with a Script and options of the transport.
Seams = Callable[..., Awaitable[Seam]]
