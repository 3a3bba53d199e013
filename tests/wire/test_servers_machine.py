"""A whole server, with clients on real sockets that come and go: all packets equal the model's.

Nothing waits for time. After each step every client reads the packets that the model predicts, and
then sends a ping: its answer must be the next packet, so no other has come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from fakes import packet
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from inprocess import Framing, Server
from patience import WAIT_SECONDS, examples
from servers_model import BURST, CAPACITY, MAX_ROOMS, Model, Session
from tokens import OTHER_SECRET, SECRET

from videre.app import setup
from videre.auth import TokenAuth, secret_key, sign
from videre.config import Config
from videre.limits import FAILURES
from videre.settings import Limits
from videre.transport import Options

MAX_SESSIONS = 6
CONFIG = Config(
    auth=TokenAuth([secret_key(OTHER_SECRET), secret_key(SECRET)]),
    limits=Limits(
        room_capacity=CAPACITY,
        max_rooms=MAX_ROOMS,
        packets_per_second=0.001,  # no allowance returns while an example runs
        packet_burst=BURST,
        join_timeout=None,
    ),
    transport=Options(max_connections_per_address=MAX_SESSIONS),
)

USERS = st.sampled_from(["a", "b", "c", "__proto__"])
IN_ROOMS = st.sampled_from(["room-1", "room-2", "other"])
WHO = st.integers(0, MAX_SESSIONS - 1)
MOST = st.sampled_from([None, None, 1, 2, 4])  # the claim `max`
KINDS = ["good"] * 3 + ["a list", "prefix", "none", "of another", "elsewhere", "expired", "forged"]


def token(kind: str, user: str, room: str, most: int | None) -> str | None:
    """Return a token of a kind."""
    claims = {} if most is None else {"max": most}
    key = secret_key("what nobody has told the server, or anybody" if kind == "forged" else SECRET)
    rooms: Any = {"prefix": "room-*", "a list": ["x", room], "elsewhere": f"{room}x"}
    return sign(
        key,
        f"{user}x" if kind == "of another" else user,
        rooms.get(kind, room),
        now=time.time(),
        ttl=-1 if kind == "expired" else 3600,
        **claims,
    )


class ServersMachine(RuleBasedStateMachine):
    """Clients of one server."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.model = Model()
        self.sessions: list[Session] = []

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine to its end, within WAIT_SECONDS."""

        async def bounded() -> None:
            async with asyncio.timeout(WAIT_SECONDS):
                await work

        self.loop.run(bounded())

    @initialize(first=st.lists(st.sampled_from(["raw", "sockjs"]), min_size=3, max_size=3))
    def begin(self, first: list[Framing]) -> None:
        """Start the server, and connect the first clients."""
        self.run(self._start())
        for framing in first:
            self.open(framing)

    async def _start(self) -> None:
        app = web.Application()
        self.namespace = setup(app, config=CONFIG)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.server = Server(runner, aiohttp.ClientSession())

    def teardown(self) -> None:
        """Stop everything, and check that nothing remains."""
        if hasattr(self, "server"):
            self.run(self._end())
        self.loop.close()

    async def _end(self) -> None:
        for session in self.sessions:
            await session.client.close()
        await self._settle(0)
        assert len(self.namespace.rooms) == 0
        await self.server.http.close()
        await self.server.runner.cleanup()

    # Steps.

    @rule(framing=st.sampled_from(["raw", "sockjs"]))
    def open(self, framing: Framing) -> None:
        """Open a session; one too many gets a 503."""
        self.run(self._open(framing))

    async def _open(self, framing: Framing) -> None:
        if len(self.sessions) < MAX_SESSIONS:
            self.sessions.append(Session(await self.server.client(framing)))
            return
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await self.server.client(framing)
        assert caught.value.status == 503

    @rule(who=WHO, user=USERS, room=IN_ROOMS, most=MOST)
    def enter(self, who: int, user: str, room: str, most: int | None) -> None:
        """Join with a valid token, so that rooms fill up."""
        self.connect(who, user, room, "good", most)

    @rule(who=WHO, user=USERS, room=IN_ROOMS, kind=st.sampled_from(KINDS), most=MOST)
    def connect(self, who: int, user: str, room: str, kind: str, most: int | None) -> None:
        """Connect with some kind of token: first, again, elsewhere, or in another user's place."""
        if self.model.failures >= FAILURES - 1:  # further ones are delayed
            kind = "good"
        shown = None if kind == "none" else token(kind, user, room, most)
        session = self.pick(who)
        self.model.connect(session, user, room, kind, most)
        self.say(session, packet("connect", user, room, {"Token": shown}))

    @rule(who=WHO, own=st.booleans(), user=USERS, room=IN_ROOMS, times=st.sampled_from([1, 1, 5]))
    def broadcast(self, who: int, own: bool, user: str, room: str, times: int) -> None:
        """Broadcast under any name, in any room, allowed or not."""
        self.broadcasts(self.pick(who), own, user, room, times)

    @rule(who=WHO, times=st.sampled_from([BURST + 3, 2 * BURST + 1, 2 * BURST + 1]))
    def flood(self, who: int, times: int) -> None:
        """Send many broadcasts at once."""
        if seated := [session for session in self.sessions if session.place]:
            self.broadcasts(seated[who % len(seated)], True, "", "", times)

    @rule(who=WHO, own=st.booleans(), user=USERS, room=IN_ROOMS)
    def disconnect(self, who: int, own: bool, user: str, room: str) -> None:
        """Send a disconnect packet, for the own seat or another."""
        session = self.pick(who)
        user, room = session.place if own and session.place else (user, room)
        if self.model.may(session, user, room):
            self.model.leave(session)
        self.say(session, packet("disconnect", user, room))

    @rule(who=WHO, user=USERS, room=IN_ROOMS)
    def ping(self, who: int, user: str, room: str) -> None:
        """Ping any room."""
        session = self.pick(who)
        self.model.ping(session, user, room)
        self.say(session, packet("ping", user, room))

    @rule(who=WHO, broken=st.booleans())
    def drop(self, who: int, broken: bool) -> None:
        """Close or break a connection."""
        session = self.pick(who)
        self.sessions.remove(session)
        self.model.leave(session)
        if broken:
            session.client.reset()
        self.run(session.client.close())  # this side's half of a broken connection
        self.run(self._look(None))

    # Checks.

    def pick(self, who: int) -> Session:
        """Return an open session, a new one if there is none."""
        if not self.sessions:
            self.open("raw")
        return self.sessions[who % len(self.sessions)]

    def broadcasts(self, session: Session, own: bool, user: str, room: str, times: int) -> None:
        """Send this many broadcasts."""
        user, room = session.place if own and session.place else (user, room)
        for number in range(times):
            if session.code is None and self.model.may(session, user, room):
                for member in self.model.rooms[room]:
                    if member is not session:
                        member.expect("broadcast", user, room, number)
        self.say(session, *(packet("broadcast", user, room, number) for number in range(times)))

    def say(self, session: Session, *texts: str) -> None:
        """Send packets, and check what everybody hears."""
        self.run(self._say(session, texts))

    async def _say(self, session: Session, texts: tuple[str, ...]) -> None:
        for text in texts:
            await session.client.say(text)
        await self._look(session)

    async def _look(self, actor: Session | None) -> None:
        """Check what everybody has heard, the acting client first, so that its step is done."""
        for session in self.sessions:
            if session.code is not None:
                self.model.leave(session)
        for session in sorted(self.sessions, key=lambda each: each is not actor):
            heard = [await session.client.heard() for _ in session.expected]
            assert heard == session.expected
            session.expected.clear()
            if session.code is not None:
                assert await session.client.closed() == session.code
                await session.client.close()
        self.sessions = [session for session in self.sessions if session.code is None]
        await self._settle(len(self.sessions))
        for session in self.sessions:
            user, room = session.place or ("x", "other")
            self.model.ping(session, user, room)
            await session.client.send("ping", user, room)
            assert await session.client.heard() == session.expected.pop()
        assert len(self.namespace.rooms) == len(self.model.rooms)

    async def _settle(self, sessions: int) -> None:
        """Ping until the server has noticed all lost connections."""
        while self.namespace.sessions.open_sessions != sessions:
            async with self.server.http.get(f"{self.server.url}/echo/info") as answer:
                assert answer.status == 200


TestServers = ServersMachine.TestCase
# Without shrinking: each try would wait again for a packet that does not come.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
TestServers.settings = settings(max_examples=examples(12), stateful_step_count=25, phases=PHASES)
