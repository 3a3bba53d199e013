"""A soak: clients of every transport come and go for minutes, and the server is as it was.

`python tests/support/soak.py --seconds 600 --visitors 200` runs the command as a process of its
own, prints a line of figures each 10 s and a verdict, and ends with 1 if something leaked. Visitors
speak as the real client does: 89 % pings, 8 % broadcasts, 3 % connects, one packet each second or
so; they leave by a close, by a `disconnect`, without a word or with a reset, and some come back for
their seats.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import aiohttp
from fakes import packet
from patience import patient
from process import Signaller, signaller
from prometheus_client.parser import text_string_to_metric_families
from sockjs_client import Wire
from visitors import Visitor

#: How visitors connect, out of a hundred.
COMING = {"raw": 55, "websocket": 15, "xhr": 10, "xhr_streaming": 10, "eventsource": 10}
#: How they leave.
GOING = ("close", "disconnect", "silence", "reset", "resume")

#: Bytes of broadcasts: candidates, answers and offers.
SIZES = (200, 200, 200, 1200, 3000)

CONFIG = {
    "AdminPort": 0,
    "Grace": 3,
    "JoinTimeout": 5,
    "LogFile": "log",
    "LogMaxBytes": 1_000_000,
    "PacketsPerSecond": None,
    "BytesPerSecond": None,
}
ADMIN = "Admin port on "  # the line that the command prints
EMPTY_SECONDS = patient(60)  # within which the last session must end after the last visitor
# Growth of the resident memory that is no leak, from the second quarter of the run to the last:
# glibc keeps up to 21 MiB more at some times than at others, and returns it (malloc_trim).
GROWTH, SPARE = 1.05, 12 << 20


@dataclasses.dataclass(frozen=True)
class Sample:
    """The server's figures at one time."""

    seconds: float
    sessions: int
    rooms: int
    memory: int  # bytes
    descriptors: int
    tasks: int
    backlog: int  # bytes

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.0f} s  {self.sessions:5} sessions  {self.rooms:5} rooms"
            f"  {self.memory / 2**20:7.1f} MiB  {self.descriptors:5} descriptors"
            f"  {self.tasks:5} tasks  {self.backlog:8} bytes wait"
        )


async def sample(admin: str, since: float) -> Sample:
    """Fetch the server's metrics."""
    async with aiohttp.ClientSession() as http, http.get(f"{admin}/metrics") as answer:
        text = await answer.text()
    values: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            values[each.name] += each.value
    return Sample(
        time.monotonic() - since,
        int(values["videre_sessions"]),
        int(values["videre_rooms"]),
        int(values["process_resident_memory_bytes"]),
        int(values["process_open_fds"]),
        int(values["videre_event_loop_tasks"]),
        int(values["videre_backlog_bytes"]),
    )


class Churn:
    """Visitors that come and go until `enough`; `done` counts their actions."""

    def __init__(self, url: str, visitors: int, seed: int = 1) -> None:
        self.done: Counter[str] = Counter()
        self.enough = asyncio.Event()
        self._url = url
        self._visitors = visitors
        self._random = random.Random(seed)

    async def run(self) -> None:
        """Return when all have left."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._visitors):
                group.create_task(self._come_and_go(number))

    async def _come_and_go(self, number: int) -> None:
        while not self.enough.is_set():
            # Two of a number share a room, and sometimes others do, too.
            room = f"room-{number // 2}-{self._random.randrange(3)}"
            try:
                await self._visit(f"user-{number}", room)
            except (OSError, asyncio.IncompleteReadError):
                self.done["broken"] += 1  # the server closed first

    async def _visit(self, user: str, room: str, **connect: object) -> None:
        chance = self._random
        transport = chance.choices(list(COMING), list(COMING.values()))[0]
        going = chance.choice(GOING)
        visitor = await Visitor.enter(self._url, transport)
        self.done[f"came by {transport}"] += 1
        if going == "resume" or connect:
            connect = {"Welcome": True, **connect}
        await visitor.say(packet("connect", user, room, connect))
        shown: dict[str, object] = {}  # what it can resume with
        hearing = asyncio.create_task(self._hear(visitor, shown))
        try:
            for _ in range(chance.randint(2, 8)):
                await self._pause(chance.uniform(0.2, 1.8))
                await self._speak(visitor, user, room)
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
        await self._go(visitor, user, room, going)
        if going == "resume" and shown and not self.enough.is_set():
            self.done["came back"] += 1
            await self._visit(user, room, **shown)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.enough.wait(), seconds)

    async def _hear(self, visitor: Visitor, shown: dict[str, object]) -> None:
        while True:
            polled = visitor.stream
            texts = await visitor.hear()
            if polled is not None and polled is not visitor.stream:
                close_now(polled.wire)
            for text in texts:
                heard = json.loads(text)
                event = heard["Header"]["Event"]
                self.done[f"heard {event}"] += 1
                if event == "welcome":
                    shown["Resume"] = json.loads(heard["Payload"])["Resume"]
            shown["Received"] = visitor.counted

    async def _speak(self, visitor: Visitor, user: str, room: str) -> None:
        dice = self._random.random()
        if dice < 0.03:
            await visitor.say(packet("connect", user, f"{room}-lobby"))
        elif dice < 0.11:
            text = "x" * self._random.choice(SIZES)
            await visitor.say(packet("broadcast", user, room, {"Type": "Ice", "IcePacket": text}))
        else:
            await visitor.say(packet("ping", user, room))
        self.done["said"] += 1

    async def _go(self, visitor: Visitor, user: str, room: str, going: str) -> None:
        if going == "disconnect":
            await visitor.say(packet("disconnect", user, room))
        if going in ("reset", "resume"):
            visitor.wire.reset()
            close_now(visitor.wire)
        else:  # a polling client closes by not polling again
            if visitor.socket is not None and going != "silence":
                visitor.socket.send(b"\x03\xe8", 8)  # 1000
            close_now(visitor.wire)
        self.done[f"left by {going}"] += 1


def close_now(wire: Wire) -> None:
    """Close a connection now: over ten minutes there are too many to keep.

    This does not wait for the close: a visitor cancelled meanwhile would cancel others that wait.
    """
    wire.writer.close()
    if wire in Wire.opened:
        Wire.opened.remove(wire)


async def admin_of(server: Signaller) -> str:
    """Return the URL of the admin port once the process has printed it."""
    while not (  # noqa: ASYNC110  # the output is read elsewhere
        lines := [line for line in server.output if line.startswith(ADMIN)]
    ):
        await asyncio.sleep(0.01)
    return lines[0].removeprefix(ADMIN).removesuffix("/status")


async def soak(
    server: Signaller,
    admin: str,
    seconds: float,
    visitors: int,
    tell: Callable[[object], None],
    *,
    needed: Collection[str] = (),
) -> list[str]:
    """Return the faults: none for a server that leaks nothing.

    Chance decides what visitors do: they go on after `seconds` until each of the actions `needed`,
    as Churn counts them, was done.
    """
    since = time.monotonic()
    before = await sample(admin, since)
    tell(before)
    churn = Churn(server.url.removesuffix("/echo"), visitors)
    running = asyncio.create_task(churn.run())
    samples: list[Sample] = []
    try:
        while not running.done():
            left = seconds - (time.monotonic() - since)
            if left <= 0 and churn.done.keys() >= set(needed):
                break
            await asyncio.wait({running}, timeout=min(10.0, max(1.0, left)))
            samples.append(await sample(admin, since))
            tell(samples[-1])
    finally:
        churn.enough.set()
        await running
        await Wire.hang_up()  # polls that nobody waits for any more
    after = await emptied(lambda: sample(admin, since), before)
    tell(after)
    tell(dict(sorted(churn.done.items())))
    return faults(before, samples, after)


async def emptied(look: Callable[[], Awaitable[Sample]], before: Sample) -> Sample:
    """Return the last sample: when all is as at the start, or after EMPTY_SECONDS."""
    end = time.monotonic() + EMPTY_SECONDS
    while True:
        found = await look()
        if not leaks(before, found) or time.monotonic() > end:
            return found
        await asyncio.sleep(0.2)


def leaks(before: Sample, after: Sample) -> list[str]:
    """Return what there is more of than at the start."""
    names = ("sessions", "rooms", "descriptors", "tasks", "backlog")
    return [
        f"{name}: {getattr(after, name)}, {getattr(before, name)} at the beginning"
        for name in names
        if getattr(after, name) > getattr(before, name)
    ]


def faults(before: Sample, samples: list[Sample], after: Sample) -> list[str]:
    """Return what leaked, and whether memory grew from the second quarter to the last."""
    found = leaks(before, after)
    quarter = len(samples) // 4
    if quarter:
        early = statistics.median(each.memory for each in samples[quarter : 2 * quarter])
        late = statistics.median(each.memory for each in samples[-quarter:])
        if late > early * GROWTH + SPARE:
            found.append(f"memory: {late / 2**20:.1f} MiB, {early / 2**20:.1f} MiB before")
    return found


async def _main(seconds: float, visitors: int) -> int:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        async with signaller(tmp=Path(folder), config=CONFIG) as server:
            wrong = await soak(server, await admin_of(server), seconds, visitors, print)
    print("\n".join(wrong) if wrong else "Nothing leaked.")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--visitors", type=int, default=200)
    options = parser.parse_args()
    sys.exit(asyncio.run(_main(options.seconds, options.visitors)))
