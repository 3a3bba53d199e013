"""Fakes around the rules: connections, the clock, the log, and clients.

No event loop runs: a call that waits for an engine is driven to its end by `run`, or step by step
by a test that wants something to happen in between.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from later_engine import LaterEngine

from videre.auth import Auth, NoAuth
from videre.engines import Engine
from videre.engines.memory import MemoryEngine
from videre.packets import Decoder
from videre.peers.context import Context
from videre.peers.peer import Peer
from videre.reasons import End, LeaveReason
from videre.rooms import Rooms
from videre.settings import Duplicate, JoinPolicy, Limits, Retention

#: Makes an engine from the arguments of MemoryEngine.
MakeEngine = Callable[..., Engine]

#: What tests compare: event, user, room, and the Payload (the Code of an error).
Brief = tuple[str, str, str, Any]

MAX_BYTES = 64 * 1024

#: The events whose packets a client counts for a resume.
COUNTED = ("connect", "disconnect", "broadcast", "role")

#: For tests of anything but limits.
UNLIMITED = Limits(packets_per_second=None, bytes_per_second=None, join_timeout=None)

#: A peer behaves the same on both: one engine answers at once, the other one later.
ENGINES: list[MakeEngine] = [MemoryEngine, LaterEngine]


def run(pending: Awaitable[Any] | None) -> Any:
    """Drive an awaitable to its end; return its result."""
    if pending is None:
        return None
    steps = pending.__await__()
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def fake_ice(user: str) -> dict[str, Any]:
    """Return ICE servers that show whom they are for."""
    server = {"urls": ["turn:turn.example"], "username": f"9:{user}", "credential": "c"}
    return {"IceServers": [server], "IceTtl": 600}


def begin(pending: Awaitable[object] | None) -> Generator[Any, Any, Any]:
    """Drive an awaitable until it waits for the engine; `run_on` continues it."""
    assert pending is not None, "nothing was left to be done"
    steps = pending.__await__()
    next(steps)
    return steps


def run_on(steps: Generator[Any, Any, Any]) -> None:
    """Drive a begun awaitable to its end."""
    for _ in steps:
        pass


def packet(event: str, user: str, room: str, payload: Any = "{}", **header: Any) -> str:
    """Return the text of a packet as a client sends it; keywords are extra header keys."""
    head = {"Event": event, "UserId": user, "RoomId": room, **header}
    return json.dumps({"Header": head, "Payload": payload})


def brief(text: str) -> Brief:
    """Return a server's packet in short form."""
    body = json.loads(text)
    header, payload = body["Header"], body["Payload"]
    if header["Event"] == "error":
        payload = json.loads(payload)["Code"]
    return header["Event"], header["UserId"], header["RoomId"], payload


def event_in(text: str) -> str:
    """Return a packet's event; "" for any other text."""
    try:
        return str(json.loads(text)["Header"]["Event"])
    except (ValueError, TypeError, KeyError):
        return ""


def error_of(text: str) -> dict[str, Any]:
    """Return the Payload of an error packet."""
    body = json.loads(text)
    assert body["Header"]["Event"] == "error", text
    payload: dict[str, Any] = json.loads(body["Payload"])
    return payload


class FakeConnection:
    """A connection that records packets; once closed it accepts no more."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.closes: list[tuple[int, str]] = []
        self.secret: str | None = None  # of the last welcome
        self.received = 0  # packets since then that count for a resume

    def send(self, text: str) -> None:
        """See Connection.send."""
        if self.closes:
            return
        self.sent.append(text)
        if (event := event_in(text)) == "welcome":
            self.secret, self.received = json.loads(brief(text)[3])["Resume"], 0
        elif event in COUNTED:
            self.received += 1

    def close(self, code: int, reason: str) -> None:
        """See Connection.close."""
        self.closes.append((code, reason))

    @property
    def code(self) -> int | None:
        """The code of the connection's close; None while it is open."""
        return self.closes[0][0] if self.closes else None

    def take(self) -> list[str]:
        """Return the packets since the last call."""
        sent, self.sent = self.sent, []
        return sent


class FakeTimer:
    """A call that is due at a time, unless it is cancelled."""

    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        """See Timer."""
        self.cancelled = True


class FakePause:
    """A pause of no length; with `steps`, a test steps through so many: see `begin`."""

    def __init__(self, steps: int = 0) -> None:
        self._steps = steps
        self.ended = False

    def end(self) -> None:
        """See Pause."""
        self.ended = True

    def __await__(self) -> Generator[Any, None, None]:
        for _ in range(self._steps):
            yield


class FakeClock:
    """A clock that a test advances, and its timers. Pauses are recorded, and end at once."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[FakeTimer] = []
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def later(self, seconds: float, call: Callable[[], None]) -> FakeTimer:
        """Return a timer that calls back after this much time."""
        timer = FakeTimer(self.now + seconds, call)
        self.timers.append(timer)
        return timer

    def pause(self, seconds: float) -> FakePause:
        """Record the length of a pause, and return it."""
        self.slept.append(seconds)
        return FakePause()

    @property
    def waiting(self) -> list[FakeTimer]:
        """The timers that have not fired, earliest first."""
        self.timers = [timer for timer in self.timers if not timer.cancelled]
        return sorted(self.timers, key=lambda timer: timer.due)

    def advance(self, seconds: float) -> None:
        """Advance the time, and fire the timers that are due."""
        end = self.now + seconds
        while (waiting := self.waiting) and waiting[0].due <= end:
            timer = waiting[0]
            self.timers.remove(timer)
            self.now = max(self.now, timer.due)
            timer.call()
        self.now = end


def memory_engine(clock: FakeClock, *, retention: Retention | None = None) -> MemoryEngine:
    """Return a memory engine on a clock."""
    return MemoryEngine(clock=clock, later=clock.later, retention=retention)


class FakeLog:
    """A log and a trace that keep their records."""

    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.traced: list[tuple[str, str, str, int]] = []

    def __call__(self, event: str, /, **fields: object) -> None:
        self.records.append((event, fields))

    def trace(self, event: str, user: str, room: str, size: int, /) -> None:
        """See Trace."""
        self.traced.append((event, user, room, size))

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the fields of every record of an event."""
        return [fields for name, fields in self.records if name == event]


class FakeClient:
    """A client: a Peer, and the packets on its connection."""

    def __init__(self, world: World, peer: Peer, connection: FakeConnection) -> None:
        self.world = world
        self.peer = peer
        self.connection = connection

    def say(self, text: str) -> None:
        """Send a text, which is carried out when this returns."""
        run(self.peer.receive(text))

    def connect(self, user: str, room: str, **header: Any) -> None:
        """Send a connect packet."""
        self.say(packet("connect", user, room, **header))

    def end(self, code: int | None = None, *, clean: bool = False) -> None:
        """End the session like a transport does: closed with a code, or lost."""
        reason = LeaveReason.CONNECTION_LOST if code is None else LeaveReason.CLOSED_BY_SERVER
        run(self.peer.closed(End(reason, code, clean)))

    def texts(self) -> list[str]:
        """Return the packets since the last call, as sent."""
        return self.connection.take()

    def heard(self) -> list[Brief]:
        """Return the packets since the last call, in short form."""
        return [brief(text) for text in self.texts()]

    def error(self) -> dict[str, Any]:
        """Return the error that is the only packet since the last call."""
        (text,) = self.texts()
        return error_of(text)

    @property
    def code(self) -> int | None:
        """The code of the session's close; None while it is open."""
        return self.connection.code


class World:
    """One namespace on an engine, with the test's clients."""

    def __init__(
        self,
        engine: MakeEngine | None = None,
        *,
        duplicate: Duplicate = "replace",
        max_bytes: int | None = MAX_BYTES,
        limits: Limits = UNLIMITED,
        auth: Auth | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.connections: list[FakeConnection] = []
        retention = Retention(grace=limits.grace, max_bytes=limits.max_resume_bytes)
        self.engine = (engine or MemoryEngine)(
            clock=self.clock, later=self.clock.later, retention=retention
        )
        self.log = FakeLog()
        policy = JoinPolicy(
            replace=duplicate == "replace",
            capacity=limits.room_capacity,
            max_rooms=limits.max_rooms,
        )
        secrets = itertools.count(1)
        self.rooms = Rooms(
            self.engine,
            clock=self.clock,
            log=self.log,
            spawn=run,
            secret=lambda: f"secret-{next(secrets)}",
            grace=limits.grace,
            policy=policy,
            ice=fake_ice,
        )
        run(self.rooms.start())
        self.context = Context(
            rooms=self.rooms,
            decoder=Decoder(max_bytes),
            log=self.log,
            trace=self.log.trace,
            clock=self.clock,
            unix_time=self.clock,
            later=self.clock.later,
            pause=self.clock.pause,
            limits=limits,
            auth=auth or NoAuth(),
            ice=fake_ice,
        )

    def client(self, address: str = "192.0.2.1") -> FakeClient:
        """Return a client without a room."""
        connection = FakeConnection()
        self.connections.append(connection)
        peer = Peer(connection, self.context, address)
        return FakeClient(self, peer, connection)

    def received(self, secret: str) -> int:
        """Return the count of packets since the welcome with a secret; 0 for an unknown one."""
        return next((each.received for each in self.connections if each.secret == secret), 0)

    def member(self, user: str, room: str = "room") -> FakeClient:
        """Return a client with a seat that has heard its role."""
        client = self.client()
        client.connect(user, room)
        (echo,) = client.heard()
        assert echo[:3] == ("connect", user, room)
        return client

    def members(self, *users: str, room: str = "room") -> list[FakeClient]:
        """Return members that joined in this order, with their packets discarded."""
        clients = [self.member(user, room) for user in users]
        for client in clients:
            client.texts()
        return clients
