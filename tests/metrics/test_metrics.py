"""Metrics of packets, rooms and engines: real traffic changes each by the exact amount."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fakes import brief, packet
from inprocess import Client
from metering import Meter, metered
from skipping import skip
from sockjs_client import fresh, poll, send
from tokens import SECRET, token
from valkey_server import valkey
from websocket_client import TEXT, encode

from videre.auth import TokenAuth, secret_key
from videre.config import Config
from videre.engines.redis.leases import BEATS
from videre.settings import Limits, Process
from videre.tally import TIMED
from videre.transport import Options

ROOM = "room"


class Ear:
    """A client, and the packets and bytes that it received, by event."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.packets: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    async def hears(self, *events: str) -> None:
        """Receive the next packets, which must have these events."""
        for event in events:
            text = await self.client.text()
            assert brief(text)[0] == event, text
            self.packets[event] += 1
            self.bytes[event] += len(text.encode())


@pytest.mark.parametrize("framing", ["raw", "sockjs"])
async def test_packets_and_bytes_by_event_and_direction(framing: Any) -> None:
    """Packets from clients and to each of them, in any framing and script."""
    async with metered() as meter:
        a, b, c = [Ear(await meter.server.client(framing)) for _ in range(3)]
        said: Counter[str] = Counter()
        sizes: Counter[str] = Counter()

        async def say(ear: Ear, text: str, event: str) -> None:
            said[event] += 1
            sizes[event] += len(text.encode())
            await ear.client.say(text)

        before = await meter.values()
        await say(a, packet("connect", "ä", ROOM, {"Welcome": True}), "connect")
        await a.hears("connect", "welcome")
        await say(b, packet("connect", "b", ROOM, {"Welcome": True}), "connect")
        await b.hears("connect", "welcome")
        await a.hears("connect")
        await say(c, packet("connect", "c", ROOM), "connect")
        for each in (a, b, c):
            await each.hears("connect")
        for payload in ("ascii", "€ and 😀", {"a": [1]}, "again"):
            text = json.dumps(
                json.loads(packet("broadcast", "b", ROOM, payload)), ensure_ascii=False
            )
            await say(b, text, "broadcast")
            for each in (a, c):
                await each.hears("broadcast")
        await say(b, packet("broadcast", "b", ROOM, "one", To="c"), "broadcast")
        await c.hears("broadcast")
        for _ in range(3):
            await say(c, packet("ping", "c", ROOM), "ping")
            await c.hears("ping")
        await say(c, packet("ping", "c", "elsewhere"), "ping")
        await c.hears("ping")
        await say(c, packet("ice", "c", ROOM), "ice")
        await c.hears("ice")
        await say(c, packet("connect", "c", ROOM), "connect")  # again: it alone is told
        await c.hears("connect")
        await say(a, packet("disconnect", "ä", ROOM), "disconnect")
        await b.hears("disconnect", "connect")
        await c.hears("disconnect")
        await say(b, packet("disconnect", "b", ROOM), "disconnect")
        await c.hears("disconnect", "connect")
        for text in ("nonsense", packet("welcome", "c", ROOM), packet("x" * 99, "c", ROOM)):
            await say(c, text, "other")
            await c.hears("error")
        await say(c, packet("broadcast", "c", "elsewhere"), "broadcast")
        await c.hears("error")
        after = await meter.values()
        heard = sum((each.packets for each in (a, b, c)), Counter())
        heard_bytes = sum((each.bytes for each in (a, b, c)), Counter())
        assert moved(before, after, "packets_total") == directed(said, heard)
        assert moved(before, after, "packet_bytes_total") == directed(sizes, heard_bytes)


def directed(received: Counter[str], sent: Counter[str]) -> dict[str, float]:
    """Return the expected values by direction and event."""
    found = {f"received {event}": float(count) for event, count in received.items()}
    return found | {f"sent {event}": float(count) for event, count in sent.items()}


def moved(before: dict[str, float], after: dict[str, float], name: str) -> dict[str, float]:
    """Return the changes of one metric, by label values."""
    return {
        key.removeprefix(f"{name} "): value - before[key]
        for key, value in after.items()
        if key.startswith(f"{name} ") and value != before[key]
    }


async def test_a_role_packet_and_a_promotion() -> None:
    """Clients with a welcome hear of the new initiator; the promotion counts once."""
    async with metered() as meter:
        first, heir = await meter.server.members("first", "heir")
        guest = await meter.server.client()
        await guest.send("connect", "guest", ROOM, {"Welcome": True})
        for event in ("connect", "welcome"):
            assert (await guest.heard())[0] == event
        await first.heard()
        await heir.heard()
        async with meter.moves(
            promotions_total=1,
            packets_total={"received disconnect": 1, "sent disconnect": 2}
            | {"sent connect": 1, "sent role": 1},
        ):
            await first.send("disconnect", "first", ROOM)


async def test_a_missed_packet_counts_when_it_is_sent() -> None:
    """Packets kept for a lost member count only when it comes back."""
    async with metered() as meter:
        a = await meter.server.client()
        secret = await welcomed(a, "a")
        (b,) = await meter.server.members("b")
        await a.heard()
        a.reset()
        await meter.log.until("lost", user="a")
        async with meter.moves(
            packets_total={"received broadcast": 1, "received ping": 1, "sent ping": 1}
        ):
            await b.send("broadcast", "b", ROOM, "missed")
            await b.quiet()
        async with meter.moves(
            packets_total={"received connect": 1, "sent connect": 1, "sent welcome": 1}
            | {"sent broadcast": 1},
            resumes_total={"resumed": 1},
            joins_total=0,
        ):
            back = await meter.server.client()
            await back.send("connect", "a", ROOM, {"Resume": secret, "Received": 1})


async def welcomed(client: Client, user: str, **options: Any) -> str:
    """Enter the room, and return the resume secret."""
    await client.send("connect", user, ROOM, {"Welcome": True, **options})
    while (heard := await client.heard())[0] != "welcome":
        pass
    return str(json.loads(heard[3])["Resume"])


async def test_resumes_by_result() -> None:
    """A resumed seat, one with a gap, one that is gone, and a wrong secret."""
    limits = Limits(packets_per_second=None, join_timeout=None, grace=60, max_resume_bytes=2000)
    async with metered(limits=limits) as meter:
        a = await meter.server.client()
        secret = await welcomed(a, "a")
        (b,) = await meter.server.members("b")

        async with meter.moves(resumes_total={"refused": 1}, errors_total={"unauthorized": 1}):
            thief = await meter.server.client()
            await thief.send("connect", "a", ROOM, {"Resume": "wrong", "Received": 0})
        async with meter.moves(resumes_total={"resumed": 1}, leaves_total={}):
            a.reset()
            await meter.log.until("lost", user="a")
            a = await meter.server.client()
            secret = await welcomed(a, "a", Resume=secret, Received=0)
        async with meter.moves(
            resumes_total={"gap": 1}, joins_total=1, leaves_total={"replaced": 1}
        ):
            a.reset()
            await meter.log.until("lost", user="a")
            for _ in range(4):
                await b.send("broadcast", "b", ROOM, "x" * 1000)
            await b.quiet()
            a = await meter.server.client()
            secret = await welcomed(a, "a", Resume=secret, Received=0)
        async with meter.moves(
            resumes_total={"gone": 1}, joins_total=1, leaves_total={"disconnect": 1}
        ):
            await a.send("disconnect", "a", ROOM)
            await meter.log.until("leave", user="a", reason="disconnect")
            await welcomed(await meter.server.client(), "a", Resume=secret, Received=0)


async def test_rooms_and_their_members() -> None:
    """Rooms are counted, and sorted by their number of members."""
    async with metered() as meter:
        async with meter.moves(rooms=3, room_members_gcount=3, room_members_gsum=6, joins_total=6):
            await meter.server.members("a", room="one")
            await meter.server.members("a", "b", room="two")
            await meter.server.members("a", "b", "c", room="three")
        assert buckets(await meter.text(), "videre_room_members_bucket")[:5] == [1, 2, 3, 3, 3]
        async with meter.moves(rooms=-1, room_members_gcount=-1, room_members_gsum=-1):
            await meter.namespace.rooms.kick("one", "a")


def buckets(text: str, name: str) -> list[float]:
    """Return the counts of a histogram's buckets."""
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
    return [float(line.rpartition(" ")[2]) for line in lines]


async def test_joins_and_leaves_by_reason() -> None:
    """Each way out of a room has a name; close codes chosen by clients never become labels."""
    async with metered() as meter:
        server, rooms = meter.server, meter.namespace.rooms
        async with meter.moves(joins_total=2, leaves_total={"moved": 1, "disconnect": 1}):
            (a,) = await server.members("a")
            await a.join("a", "elsewhere")
            await a.send("disconnect", "a", "elsewhere")
        async with meter.moves(joins_total=3, leaves_total={"closed-by-client": 3}):
            for user, code in (("b", 1000), ("c", 3999), ("d", 4999)):
                (client,) = await server.members(user, room=user)
                await client.close(code)
        async with meter.moves(joins_total=1, leaves_total={"connection-lost": 1}):
            (lost,) = await server.members("e")
            lost.reset()
        async with meter.moves(joins_total=3, leaves_total={"replaced": 1, "removed": 1}):
            await server.members("f")
            await server.members("f")
            assert await rooms.kick(ROOM, "f", "disconnect")  # the words do not count
            await server.members("g")
        async with meter.moves(
            leaves_total={"closed-by-server": 1}, errors_total={"malformed-packet": 10}
        ):
            (bad,) = await server.members("h", room="h")
            for _ in range(10):
                await bad.say("nonsense")


async def test_a_seat_whose_grace_is_over() -> None:
    """It counts as given up then."""
    limits = Limits(packets_per_second=None, join_timeout=None, grace=0.05)
    async with (
        metered(limits=limits) as meter,
        meter.moves(joins_total=1, leaves_total={"grace-over": 1}),
    ):
        client = await meter.server.client()
        await welcomed(client, "a")
        client.reset()


async def test_errors_by_code() -> None:
    """Each error packet counts under its code."""
    auth = TokenAuth([secret_key(SECRET)], required=False)
    limits = Limits(
        packets_per_second=0.001, packet_burst=40, join_timeout=None, room_capacity=2, grace=60
    )
    config = Config(
        auth=auth, limits=limits, duplicate="reject", transport=Options(max_packet_bytes=2000)
    )
    async with metered(config) as meter:
        a, _ = await meter.server.members("a", "b")
        stranger = await meter.server.client()
        cases = [
            (stranger, "malformed-packet", "[]"),
            (stranger, "invalid-packet", packet("hello", "c", ROOM)),
            (stranger, "packet-too-large", packet("ping", "c", ROOM, "x" * 3000)),
            (stranger, "not-in-room", packet("broadcast", "c", ROOM)),
            (stranger, "user-taken", packet("connect", "a", ROOM)),
            (stranger, "room-full", packet("connect", "c", ROOM)),
            (stranger, "unauthorized", packet("connect", "c", "x", {"Token": "no"})),
            (
                stranger,
                "token-expired",
                packet("connect", "c", "x", {"Token": token("c", "x", exp=1)}),
            ),
            (a, "wrong-user", packet("broadcast", "b", ROOM)),
            (a, "no-such-user", packet("broadcast", "a", ROOM, To="nobody")),
        ]
        for client, code, text in cases:
            async with meter.moves(errors_total={code: 1}):
                await client.say(text)
                assert (await client.heard())[3] == code
        async with meter.moves(errors_total={"rate-limited": 1}):
            for _ in range(45):
                await stranger.say(packet("ping", "c", ROOM))


async def test_a_frame_too_large_to_be_read() -> None:
    """It counts as an error, not as a packet."""
    async with metered(transport=Options(max_packet_bytes=1000)) as meter:
        client = await meter.server.client()
        async with meter.moves(
            errors_total={"packet-too-large": 1}, packets_total={"sent error": 1}
        ):
            await client.say("x" * 5000)
            assert (await client.heard())[0] == "error"


async def test_the_time_of_relays() -> None:
    """Of one in 64 chunks: each broadcast in it counts; pings and refused packets do not."""
    async with metered() as meter:
        a, b = await meter.server.members("a", "b")
        chunks = 0
        meter.namespace.tally.relays.left = TIMED  # members have joined before
        async with meter.moves(relay_seconds_count=3, engine_step_seconds_count={}):
            while chunks < 3 * TIMED:
                await a.send("broadcast", "a", ROOM, chunks)
                await b.heard()
                chunks += 1
        async with meter.moves(relay_seconds_count=0):
            for _ in range(TIMED - 1):
                await a.send("broadcast", "a", ROOM, chunks)
                await b.heard()
            await a.send("broadcast", "a", "elsewhere")
            await a.heard()
            for _ in range(TIMED):
                await a.quiet()


async def test_the_time_of_relays_from_who_polls() -> None:
    """A request body is a chunk too, and all its broadcasts count."""
    async with metered() as meter:
        (b,) = await meter.server.members("b")
        session = fresh()
        assert await poll(meter.url, session) == "o\n"
        await send(meter.url, session, packet("connect", "a", ROOM))
        await b.heard()
        meter.namespace.tally.relays.left = 1
        async with meter.moves(relay_seconds_count=5):
            text = packet("broadcast", "a", ROOM)
            await send(meter.url, session, *[text] * 5)


@pytest.mark.process
async def test_a_store_s_steps(tmp_path: Path) -> None:
    """Each step is timed."""
    async with valkey(tmp_path) as store, metered(engine=store.url) as meter:
        server, rooms = meter.server, meter.namespace.rooms
        client = await server.client()
        async with meter.moves(engine_step_seconds_count={"join": 2, "renew": 1}):
            await welcomed(client, "a")
            secret = await welcomed(client, "a")  # a fresh one
            (b,) = await server.members("b")
        async with meter.moves(engine_step_seconds_count={"leave": 1}):
            await b.send("disconnect", "b", ROOM)
        async with meter.moves(engine_step_seconds_count={"resume": 1}):
            client.reset()
            await meter.log.until("lost", user="a")
            await welcomed(await server.client(), "a", Resume=secret, Received=0)
        async with meter.moves(engine_step_seconds_count={"members": 1, "rooms": 1, "publish": 1}):
            assert await rooms.members(ROOM) == ["a"]
            assert await rooms.rooms() == [ROOM]
            await rooms.send(ROOM, "hello")


@pytest.mark.process
async def test_a_store_that_fails(tmp_path: Path) -> None:
    """All steps are timed; failed ones are counted, and the engine is not ready."""
    async with valkey(tmp_path) as store, metered(engine=store.url) as meter:
        a, b = await meter.server.members("a", "b")
        meter.namespace.tally.relays.left = 2
        async with meter.moves(
            engine_step_seconds_count={"publish": 4}, relay_seconds_count=1, engine_ready=0
        ):
            for _ in range(4):
                await a.send("broadcast", "a", ROOM)
                await b.heard()
        async with meter.moves(
            engine_ready=-1,
            engine_step_failures_total={"publish": 1},
            engine_step_seconds_count={},
            errors_total={"unavailable": 1},
        ):
            await store.stop()
            await a.send("broadcast", "a", ROOM)
            assert (await a.heard())[3] == "unavailable"
        async with meter.moves(engine_ready=1):
            await store.start()
            skip(Process.node_timeout / BEATS)  # to the next attempt


@pytest.mark.process
async def test_relays_that_wait_are_timed_from_their_arrival(tmp_path: Path) -> None:
    """While the first goes to the store, later broadcasts of the chunk wait: all count."""
    async with valkey(tmp_path) as store, metered(engine=store.url) as meter:
        a, b = await meter.server.members("a", "b")
        connection = a.socket._response.connection
        assert connection is not None and connection.transport is not None
        frames = b"".join(
            encode(packet("broadcast", "a", ROOM, number).encode(), TEXT) for number in range(5)
        )
        meter.namespace.tally.relays.left = 1
        async with meter.moves(relay_seconds_count=5):
            connection.transport.write(frames)
            for number in range(5):
                assert (await b.heard())[3] == number


async def test_nothing_that_a_client_chooses_is_a_label() -> None:
    """Hostile events, names, codes and addresses create no series."""
    limits = Limits(join_timeout=None, grace=0)  # who closes with any code leaves at once
    async with metered(limits=limits) as meter:

        async def series(meter: Meter = meter) -> set[str]:
            return set(await meter.values())

        before = await series()
        for number in range(30):
            client = await meter.server.client()
            mark = f"hostile{number}"
            for event in (mark, 'x"} 1\nvidere_evil 1', "__proto__", "", None):
                await client.say(packet(event, mark, mark))  # type: ignore[arg-type]
                await client.heard()
            resume = {"Resume": mark, "Received": number}
            await client.send("connect", mark, f"room-{mark}", resume)
            await client.heard()
            await client.heard()
            await client.send("broadcast", mark, f"room-{mark}", mark, To=mark + "?")
            await client.heard()
            await client.close(4000 + number)
        for number in range(30):
            await meter.log.until("leave", user=f"hostile{number}")
        assert await series() == before
        assert "hostile" not in await meter.text()
