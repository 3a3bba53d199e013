"""Transcripts: what clients say to a server and hear from it, written to be read, and played.

    server: {"RoomCapacity": 2}
    peer1 > {"Header":{"Event":"connect","UserId":"peer1","RoomId":"room"},"Payload":"{}"}
    peer1 < {"Header":{"Event":"connect","UserId":"peer1","RoomId":"room"},"Payload":"\\"true\\""}
    peer1 > (closes)

- `server:`, if it is there, is the first line: the server's configuration. An `Engine` of
  redis://127.0.0.1:6379 stands for a Valkey of the test's own.
- `given: peer1, peer2`, before all others: these are in the room some_room_id, entered in this
  order, and have heard it.
- `NAME > TEXT`: a client sends this text, over a connection that it opens when it first speaks.
- `NAME < TEXT`: this is what it hears next, to the letter. Order is that of each client.
- An indented line goes on with the one before it. A line that begins with # is a remark.
- `<words>` in what is heard stands for any characters that are not known before, one or more and
  no quotes; once heard it may be said. Without having been heard, `<a token for peer1>`,
  `<an expired token for peer1>` and `<300 characters>` may be said.
- `NAME > 9 times: TEXT` and `NAME < 9 times: TEXT`.
- `NAME > (connects)`: it opens a connection and says nothing yet.
- `NAME > (closes)`, `NAME > (breaks off)`: the connection ends, as if the page had, or its network.
- `NAME < (closed: 4503 Replaced by a newer connection)`: the server closes it, and says why.
- `server > (removes peer2: Be nice)`, `server > (drains for 0.2 s)`, `server > (shuts down)`,
  `valkey > (stops)`.

At the end nobody must have heard more than is written: each connection that is left is asked.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from documents import Block
from inprocess import Client, Framing, Server, serving
from valkey_server import Valkey, valkey

import videre
from videre import config as configuration
from videre.auth import Auth, TokenAuth, sign

VALKEY = "redis://127.0.0.1:6379"
ROOM = "some_room_id"
_LINE = re.compile(r"(\w+) ([<>]) (?:(\d+) times: )?(.+)", re.DOTALL)
_PLACEHOLDER = re.compile(r"<([a-z][^<>\"\\]*|\d+ characters)>")
_HOUR = 3600


@dataclass
class Step:
    """One line: the client, whether it hears or sends, how often, and the text."""

    number: int
    who: str
    heard: bool
    times: int
    text: str


@dataclass
class Transcript:
    """The server's configuration, the members at the start, and the steps."""

    config: dict[str, Any]
    given: list[str]
    steps: list[Step]


def read(block: Block) -> Transcript:
    """Parse a block of this form; raise AssertionError for invalid lines."""
    entries: list[tuple[int, str]] = []
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith((" ", "\t")):
            at, before = entries[-1]
            entries[-1] = at, before + line.strip()
        elif line and not line.startswith("#"):
            entries.append((number, line))
    config: dict[str, Any] = {}
    given: list[str] = []
    steps = []
    if entries[0][1].startswith("server: "):
        config = json.loads(entries.pop(0)[1].removeprefix("server: "))
    if entries[0][1].startswith("given: "):
        given = entries.pop(0)[1].removeprefix("given: ").split(", ")
    for number, line in entries:
        match = _LINE.fullmatch(line)
        assert match, f"{block.document}:{number}: not a line of a transcript: {line}"
        who, way, times, text = match.groups()
        steps.append(Step(number, who, way == "<", int(times or 1), text))
    return Transcript(config, given, steps)


async def play(block: Block, framing: Framing, folder: Path, *, redis: bool = False) -> None:
    """Play a transcript over WebSockets of this framing; with `redis`, the server has a Valkey."""
    transcript = read(block)
    config = transcript.config
    async with AsyncExitStack() as stack:
        store: Valkey | None = None
        if redis or config.get("Engine") == VALKEY:
            store = await stack.enter_async_context(valkey(folder))
            config["Engine"] = store.url
        path = folder / "conf.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        app = web.Application()
        loaded = configuration.load(path, environ={})
        namespace = videre.setup(app, config=loaded)
        server = await stack.enter_async_context(serving(app))
        stage = _Stage(server, framing, namespace, store, loaded.auth)
        await stage.seat(transcript.given)
        for step in transcript.steps:
            try:
                for _ in range(step.times):
                    await stage.take(step)
            except Exception as error:
                error.add_note(f"{block.document}:{step.number}: {step.who}: {step.text}")
                raise
        await stage.is_quiet()
        await stage.end()


class _Stage:
    """A server and its clients while a transcript is played."""

    def __init__(
        self,
        server: Server,
        framing: Framing,
        namespace: videre.Namespace,
        store: Valkey | None,
        auth: Auth,
    ) -> None:
        self._server = server
        self._framing = framing
        self._namespace = namespace
        self._ending: asyncio.Task[None] | None = None  # of the server
        self._store = store
        self._auth = auth
        self._clients: dict[str, Client] = {}
        self._values: dict[str, str] = {}

    async def seat(self, users: list[str]) -> None:
        """Let these users join the room, one after the other."""
        for user in users:
            client = self._clients[user] = await self._server.client(self._framing)
            await client.join(user, ROOM)
            for other in users[: users.index(user)]:
                assert (await self._clients[other].heard())[:2] == ("connect", user)

    async def take(self, step: Step) -> None:
        """Carry out a step, or check that it happens."""
        action = re.fullmatch(r"\((.+)\)", step.text)
        if step.who in ("server", "valkey"):
            assert action and not step.heard, "not what a server does"
            await self._operate(step.who, action[1])
        elif step.heard:
            client = self._clients[step.who]
            if action:
                code, _, reason = action[1].removeprefix("closed: ").partition(" ")
                assert (await client.closed(), client.goodbye) == (int(code), (int(code), reason))
                del self._clients[step.who]
            else:
                self._compare(step.text, await client.text())
        elif action and action[1] == "connects":
            self._clients[step.who] = await self._server.client(self._framing)
        elif action:
            client = self._clients.pop(step.who)
            if action[1] == "closes":
                await client.close()
            else:
                assert action[1] == "breaks off", action[1]
                client.reset()
        else:
            if step.who not in self._clients:
                self._clients[step.who] = await self._server.client(self._framing)
            text = _PLACEHOLDER.sub(lambda found: self._say(found[1]), step.text)
            await self._clients[step.who].say(text)

    async def _operate(self, who: str, action: str) -> None:
        rooms = self._namespace.rooms
        removal = re.fullmatch(r"removes (\w+): (.+)", action)
        drain = re.fullmatch(r"drains for ([\d.]+) s", action)
        if who == "valkey":
            assert action == "stops" and self._store is not None
            await self._store.stop()
        elif removal:
            user, reason = removal.groups()
            assert await rooms.kick(ROOM, user, reason)
        elif drain:
            self._ending = asyncio.create_task(self._namespace.drain(float(drain[1])))
        else:
            assert action == "shuts down", action
            self._ending = asyncio.create_task(self._server.runner.cleanup())

    def _say(self, words: str) -> str:
        """Return the text of a placeholder."""
        if words in self._values:
            return self._values[words]
        if words.endswith(" characters"):
            return "x" * int(words.split()[0])
        token = re.fullmatch(r"an? (expired )?token for (\w+)", words)
        assert token, f"<{words}> has not been heard"
        assert isinstance(self._auth, TokenAuth) and self._auth.signing_key is not None
        now = time.time() - (2 * _HOUR if token[1] else 0)
        return sign(self._auth.signing_key, token[2], "*", now=now, ttl=_HOUR)

    def _compare(self, expected: str, heard: str) -> None:
        """Compare character by character, and record what placeholders stand for."""
        names: list[str] = []

        def pattern(found: re.Match[str]) -> str:
            if found[1] in self._values:
                return re.escape(self._values[found[1]])
            names.append(found[1])
            return r"([^\"\\]+)"

        parts, last = [], 0
        for found in _PLACEHOLDER.finditer(expected):
            parts += [re.escape(expected[last : found.start()]), pattern(found)]
            last = found.end()
        match = re.fullmatch("".join(parts) + re.escape(expected[last:]), heard)
        assert match, f"heard: {heard}"
        self._values.update(zip(names, match.groups(), strict=True))

    async def is_quiet(self) -> None:
        """Check that nobody hears anything but the answer to a ping."""
        for name, client in self._clients.items():
            await client.send("ping", name, "nowhere", Id="at the end")
            heard = await client.text()
            assert json.loads(heard)["Header"].get("Id") == "at the end", f"{name}: {heard}"

    async def end(self) -> None:
        """Wait for the server's pending work."""
        if self._ending is not None:
            await self._ending
