"""A server on real sockets, with one user that loses its connection and resumes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from fakes import Brief, brief, packet
from heard_log import HeardLog
from inprocess import Client, Server, serving
from sockjs_client import Wire
from visitors import Visitor

import videre
from videre.config import Config
from videre.rooms import Rooms
from videre.settings import Limits

Welcome = dict[str, Any]

#: No limit on packets; a grace longer than any test.
LIMITS = Limits(packets_per_second=None, bytes_per_second=None, join_timeout=None, grace=60)


class Namespace:
    """A running server, its log, and one user that loses its connection and resumes."""

    def __init__(self, server: Server, log: HeardLog, rooms: Rooms) -> None:
        self.server = server
        self.log = log
        self.rooms = rooms
        self.secret = ""
        self.visitor: Visitor | None = None  # the client that got the secret

    async def enter(self, transport: str = "raw", user: str = "a", **options: Any) -> Visitor:
        """Return a client of any transport that has sent a connect and asked for a welcome."""
        visitor = await Visitor.enter(self.server.url, transport)
        await visitor.say(packet("connect", user, "room", {"Welcome": True, **options}))
        return visitor

    async def take(self, visitor: Visitor) -> tuple[str, Welcome]:
        """Return the role and the welcome that a client hears; record its secret."""
        texts = Texts(visitor)
        (event, *_, role), (greeting, *_, payload) = await texts.next(), await texts.next()
        assert (event, greeting, texts.left) == ("connect", "welcome", [])
        welcome: Welcome = json.loads(payload)
        self.secret, self.visitor = welcome["Resume"], visitor
        return role, welcome

    async def lost(self) -> None:
        """Wait until the server knows that the user's connection is lost."""
        await self.log.until("lost", user="a")

    async def back(self, transport: str = "raw", **options: Any) -> tuple[Texts, str, Welcome]:
        """Return the client that shows the secret, its role, and its welcome.

        By default it counts all packets that the client before it has heard.
        """
        received = 0 if self.visitor is None else self.visitor.counted
        options = {"Resume": self.secret, "Received": received, **options}
        visitor = await self.enter(transport, **options)
        texts = Texts(visitor)
        (event, *_, role), (greeting, *_, payload) = await texts.next(), await texts.next()
        assert (event, greeting) == ("connect", "welcome")
        welcome: Welcome = json.loads(payload)
        self.secret, self.visitor = welcome["Resume"], visitor
        return texts, role, welcome


class Texts:
    """A client's packets, one by one."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.left: list[str] = []

    async def next(self) -> Brief:
        """Return the next packet."""
        while not self.left:
            self.left = await self.visitor.hear()
        return brief(self.left.pop(0))

    async def are(self, *payloads: Any) -> None:
        """Check that broadcasts with these Payloads come next, and then nothing."""
        await self.visitor.say(packet("ping", "me", "nowhere"))
        for payload in payloads:
            assert (await self.next())[3] == payload
        assert (await self.next())[0] == "ping"


@asynccontextmanager
async def namespace(limits: Limits = LIMITS, **settings: Any) -> AsyncIterator[Namespace]:
    """Run a signaller."""
    log = HeardLog()
    app = web.Application()
    config = Config(limits=limits, **settings)
    rooms = videre.setup(app, config=config, logger=log.logger).rooms
    async with serving(app) as running:
        try:
            yield Namespace(running, log, rooms)
        finally:
            await Wire.hang_up()


async def speak(client: Client, *payloads: Any, user: str = "b") -> None:
    """Broadcast, and wait until it is carried out."""
    for payload in payloads:
        await client.send("broadcast", user, "room", payload)
    await client.quiet()


def welcome_in(frame: str) -> str:
    """Return the secret in a frame with a role and a welcome."""
    role, welcome = map(brief, json.loads(frame[1:]))
    assert (role[0], welcome[0]) == ("connect", "welcome")
    return str(json.loads(welcome[3])["Resume"])
