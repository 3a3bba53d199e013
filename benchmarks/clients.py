"""Compares `videre.client` with a bare WebSocket, and resuming with joining.

The load generator is a program as users of that client write it, on asyncio's own loop. It costs
more than the server. So the relay measures the generator's CPU, and the resume measures the
server's.
"""

import asyncio
import socket
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import orjson
from aiohttp import ClientSession, TCPConnector

from benchmarks.load import IN_FLIGHT, Figures, Meter, Spec, couples, percentiles
from benchmarks.packets import CANDIDATE, text
from benchmarks.wire import LoadError, clock
from videre.client import Backoff, Client, Message, Rejoined, Resumed

TIMEOUT = 120.0  # s for a whole run


class Plain:
    """A minimal client: aiohttp's WebSocket, packets written and read."""

    def __init__(self, url: str, *, user: str, room: str, session: ClientSession) -> None:
        self.url, self.session = url + "/websocket", session
        self.header = {"Event": "broadcast", "UserId": user, "RoomId": room}

    async def __aenter__(self) -> Self:
        self.socket = await self.session.ws_connect(self.url)
        header = self.header | {"Event": "connect"}
        await self.socket.send_str(orjson.dumps({"Header": header, "Payload": ""}).decode())
        await self.socket.receive_str()  # the echo of the connect
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    async def broadcast(self, payload: Any) -> None:
        packet = {"Header": self.header, "Payload": payload}
        await self.socket.send_str(orjson.dumps(packet).decode())

    async def receive(self) -> Any:
        return orjson.loads(await self.socket.receive_str())["Payload"]


class Relay:
    """Speakers that keep `window` packets in flight, each to the listener in its room of two."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.again = True
        self.latencies: list[int] = []

    async def run(self, speaker: Client | Plain, listener: Client | Plain, payload: str) -> None:
        """Answer each packet that arrives with the next, until enough have arrived."""
        stamps: deque[int] = deque()
        for _ in range(self.window):
            stamps.append(clock())
            await speaker.broadcast(payload)
        while stamps:
            event = await listener.receive()
            now = clock()
            if (event.payload if isinstance(event, Message) else event) != payload:
                raise LoadError(f"not what was sent: {event}")
            self.latencies.append(now - stamps.popleft())
            if self.again:
                stamps.append(now)
                await speaker.broadcast(payload)


def address(spec: Spec) -> str:
    """Return the URL of the server in a spec."""
    return f"ws://{spec['host']}:{spec['port']}/echo"


async def _relay(spec: Spec) -> Figures:
    make: Callable[..., Client | Plain] = Plain if spec["peer"] == "plain" else Client
    relay = Relay(spec["window"])
    async with AsyncExitStack() as stack:
        session = ClientSession(connector=TCPConnector(limit=0))
        session = await stack.enter_async_context(session)
        ends = []
        for user, room in couples(spec["rooms"]):
            client = make(address(spec), user=user, room=room, session=session)
            ends.append(await stack.enter_async_context(client))
        payload = "x" * (CANDIDATE - len(text("broadcast", user, room)))
        pairs = zip(ends[::2], ends[1::2], strict=True)
        tasks = [asyncio.create_task(relay.run(one, other, payload)) for one, other in pairs]  # type: ignore[arg-type]
        stack.callback(lambda: [task.cancel() for task in tasks])
        await _during(tasks, spec["warmup"])
        meter = Meter(spec)
        relay.latencies.clear()
        await _during(tasks, spec["seconds"])
        figures: Figures = meter.stop()
        latency = {"all": percentiles(relay.latencies)}
        figures |= {"deliveries": len(relay.latencies), "latency": latency}
        relay.again = False
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
    return figures | {"clients": True}


async def _during(tasks: list[asyncio.Task[None]], seconds: float) -> None:
    """Sleep for some seconds; raise the exception of a task that failed meanwhile."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()


class Crowd:
    """Members, in rooms of two, that come at once: `IN_FLIGHT` at a time, to fit any backlog.

    Latencies count from the moment when all set out.
    """

    def __init__(self, spec: Spec, session: ClientSession) -> None:
        self.spec, self.session = spec, session
        self.gate = asyncio.Semaphore(IN_FLIGHT)
        self.backoff = Backoff(0.0, 0.0, sleep=lambda _: self.gate.acquire())
        self.latencies: list[int] = []
        self.total: Counter[str] = Counter()

    def members(self, prefix: str) -> list[Client]:
        """Return clients that have not joined yet."""
        names = couples(self.spec["peers"] // 2, prefix)
        return [
            Client(
                address(self.spec),
                user=user,
                room=prefix + room,
                session=self.session,
                backoff=self.backoff,
            )
            for user, room in names
        ]

    async def enter(self, stack: AsyncExitStack, member: Client, since: int) -> None:
        """Let a member join."""
        async with self.gate:
            await stack.enter_async_context(member)
        self.latencies.append(clock() - since)

    async def back(self, member: Client, since: int) -> None:
        """Wait until a member that waited at the gate has resumed its seat."""
        while not isinstance(event := await member.receive(), Resumed):
            if isinstance(event, Rejoined):
                raise LoadError(f"{member.user}: the seat was not kept")
        self.gate.release()
        self.latencies.append(clock() - since)

    async def join(self, turns: int) -> None:
        """Let all join fresh rooms, then leave them; leaving is not measured."""
        for turn in range(turns):
            members = self.members(f"{turn:02}")
            async with AsyncExitStack() as stack:
                meter, since = Meter(self.spec), clock()
                await asyncio.gather(*(self.enter(stack, member, since) for member in members))
                self.total.update(meter.stop())

    async def resume(self, turns: int, sockets: list[socket.socket]) -> None:
        """Cut all connections at once, and let all members resume."""
        members = self.members("")
        async with AsyncExitStack() as stack:
            for member in members:
                await stack.enter_async_context(member)
            for _ in range(turns):
                await asyncio.sleep(self.spec["warmup"])
                cut = sockets.copy()
                sockets.clear()
                meter, since = Meter(self.spec), clock()
                for each in cut:
                    each.shutdown(socket.SHUT_RDWR)
                await asyncio.gather(*(self.back(member, since) for member in members))
                self.total.update(meter.stop())


async def _resume(spec: Spec) -> Figures:
    sockets: list[socket.socket] = []  # connections not cut yet

    def make(address: tuple[Any, ...]) -> socket.socket:
        sockets.append(socket.socket(*address[:3]))
        sockets[-1].setblocking(False)
        return sockets[-1]

    connector = TCPConnector(limit=0, socket_factory=make)
    async with ClientSession(connector=connector) as session:
        crowd = Crowd(spec, session)
        if spec["peer"] == "fresh":
            await crowd.join(spec["turns"])
        else:
            await crowd.resume(spec["turns"], sockets)
    latency = {"all": percentiles(crowd.latencies)}
    return {**crowd.total, "deliveries": len(crowd.latencies), "latency": latency, "crowd": True}


def relay(spec: Spec) -> Figures:
    """One speaker in each room of two keeps `window` packets of 200 B in flight."""
    return asyncio.run(asyncio.wait_for(_relay(spec), TIMEOUT))


def resume(spec: Spec) -> Figures:
    """`peers` members resume when all connections are cut, or join fresh rooms; `turns` times."""
    return asyncio.run(asyncio.wait_for(_resume(spec), TIMEOUT))
