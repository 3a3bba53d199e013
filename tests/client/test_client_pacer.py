"""The Python client keeps to the server's limits, and repeats packets that are still dropped."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from inprocess import serving
from patience import patient
from scripted import Scripted, scripted
from skipping import skip

import videre
from videre.client import Client, Joined, Message, wire
from videre.client import pacer as pacer_module
from videre.client.again import KEPT, Seen
from videre.client.pacer import DEFAULTS, LONGEST, SHARE, SHORTEST, Pacer
from videre.config import Config
from videre.settings import Limits

SECONDS = patient(30)
LIMITS = {"PacketsPerSecond": 10, "PacketBurst": 20, "BytesPerSecond": 1000, "ByteBurst": 4000}


def pacer(limits: dict[str, Any] | None) -> Pacer:
    """Return a pacer whose connection starts at 100 s."""
    found = Pacer()
    found.begin(limits, 100.0)
    return found


def passed(found: Pacer, size: int, now: float) -> int:
    """Count how many packets of this size may be sent at once."""
    count = 0
    while not found.wait(size, now):
        found.take(size)
        count += 1
    return count


def test_packets_and_bytes_are_counted() -> None:
    """Three quarters of the burst at once, then nine tenths of the rate, of whichever is lower."""
    found = pacer(LIMITS)
    assert passed(found, 0, 100.0) == 15
    assert passed(found, 0, 101.0) == 10 * SHARE
    assert passed(pacer(LIMITS), 1000, 100.0) == 3
    assert pacer({"BytesPerSecond": 10, "ByteBurst": 10}).wait(10**9, 100.0) == 0.0  # once, if full


def test_how_long_to_wait() -> None:
    """It is exactly until there is enough."""
    found = pacer(LIMITS)
    passed(found, 0, 100.0)
    wait = found.wait(0, 100.0)
    assert 0 < wait <= 1 / (10 * SHARE)
    assert found.wait(0, 100.0 + wait) == pytest.approx(0.0, abs=1e-9)


def test_missing_limits() -> None:
    """A welcome without limits means the old defaults, and a single missing limit means none."""
    assert passed(pacer(None), 0, 100.0) == DEFAULTS["PacketBurst"] * 3 / 4
    assert pacer({}).wait(10**9, 100.0) == 0.0
    assert pacer({"PacketsPerSecond": None, "BytesPerSecond": "x"}).wait(1, 100.0) == 0.0


def test_answers_are_counted() -> None:
    """The server charges their bytes, but no packets."""
    found = pacer(LIMITS)
    found.take(2500, packets=0)
    assert passed(found, 100, 100.0) == 5
    assert passed(pacer({**LIMITS, "BytesPerSecond": None}), 100, 100.0) == 15


def test_a_refusal_pauses() -> None:
    """Until the server's buckets are full again, then half the rate until the connection ends."""
    found = pacer({"PacketsPerSecond": 10, "PacketBurst": 20})
    found.refused(100.0)
    pause = found.wait(0, 100.0)
    assert pause == pytest.approx(2.0)
    assert passed(found, 0, 102.0) == 7  # of 7.5
    found.begin({"PacketsPerSecond": 10, "PacketBurst": 40}, 200.0)
    assert passed(found, 0, 200.0) == 30
    assert passed(found, 0, 201.0) == 10 * SHARE
    for limits, pause in (({}, SHORTEST), ({"PacketsPerSecond": 1, "PacketBurst": 99}, LONGEST)):
        found = pacer(limits)
        found.refused(100.0)
        assert found.wait(0, 100.0) == pause


def broadcast(user: str, **header: Any) -> wire.Packet:
    """Return a broadcast as a client receives it."""
    return wire.read(wire.write("broadcast", user, "room", "", **header))


def test_repeated_packets_are_recognised() -> None:
    """By the id of the first attempt and the user; those of users that left are forgotten."""
    seen = Seen()
    assert [seen.before(broadcast("a", Id=number)) for number in (1, 2)] == [False, False]
    assert seen.before(broadcast("a", Id=4, Again=2))
    assert not seen.before(broadcast("a", Id=5, Again=3))
    assert seen.before(broadcast("a", Id=6, Again=3))
    assert not seen.before(broadcast("b", Id=4, Again=2))
    assert not seen.before(broadcast("a", Id="x", Again="x"))
    seen.forget("a")
    assert not seen.before(broadcast("a", Id=4, Again=2))
    for number in range(10, 10 + KEPT):
        seen.before(broadcast("a", Id=number))
    assert not seen.before(broadcast("a", Id=999_999, Again=2))


@pytest.mark.parametrize(
    "limits",
    [
        {"packets_per_second": 100, "packet_burst": 150},
        {"bytes_per_second": 40_000, "byte_burst": 60_000},
        {"packets_per_second": None, "bytes_per_second": None},
    ],
    ids=str,
)
async def test_a_burst_arrives_once_and_in_order(limits: dict[str, Any]) -> None:
    """It exceeds the server's limit of packets or bytes, but none is lost."""
    count = 300
    app = videre.create_app(Config(limits=Limits(**limits)))
    async with asyncio.timeout(SECONDS), serving(app) as server:
        url = f"{server.url}/echo"
        async with (
            Client(url, user="a", room="room") as a,
            Client(url, user="b", room="room") as b,
        ):
            jobs = [
                asyncio.create_task(a.broadcast([number, "x" * 300], to="b"))
                for number in range(count)
            ]
            heard: list[Any] = []
            again = False  # refused all the same: on a machine that stalls for a while
            async for event in b:
                if isinstance(event, Message):
                    again = again or "Again" in event.packet["Header"]
                    heard.append(event.payload[0])
                    if len(heard) == count:
                        break
            ids = await asyncio.gather(*jobs)
            assert (sorted(heard) if again else heard) == list(range(count))
            assert ids == sorted(set(ids))
            assert await a.ping() == ["a", "b"]


async def test_a_mesh_of_eight_starts() -> None:
    """Each of seven gets an answer and 40 candidates at once, under the default limits."""
    others = [f"p{number}" for number in range(7)]
    signals = [{"Type": "Ice Answer", "sdp": "x" * 3000}]
    signals += [{"Type": "Ice Candidate", "candidate": f"{n} {'y' * 200}"} for n in range(40)]
    async with (
        asyncio.timeout(SECONDS),
        serving(videre.create_app()) as server,
        AsyncExitStack() as stack,
    ):
        url = f"{server.url}/echo"
        rooms = [
            await stack.enter_async_context(Client(url, user=user, room="room"))
            for user in (*others, "me")
        ]

        async def heard(room: Client) -> list[Any]:
            found: list[Any] = []
            async for event in room:
                found += [event.payload] if isinstance(event, Message) else []
                if len(found) == len(signals):
                    break
            return found

        hearing = [asyncio.create_task(heard(room)) for room in rooms[:-1]]
        for signal in signals:
            await asyncio.gather(*(rooms[-1].broadcast(signal, to=user) for user in others))
        assert await asyncio.gather(*hearing) == [signals] * len(others)


async def seated(server: Scripted) -> tuple[Client, Any]:
    """Return a client in a room, and the server's end of its connection."""
    client = Client(server.url, user="me", room="room")
    entering = asyncio.create_task(client.__aenter__())
    link = await server.link()
    await link.seat("me", Limits={"PacketsPerSecond": 1000, "PacketBurst": 1000})
    await entering
    return client, link


@pytest.mark.parametrize("code", ["rate-limited", "unavailable"])
async def test_a_refused_packet_is_sent_again(code: str) -> None:
    """With all later ones, before any new one; the application does not notice."""
    async with asyncio.timeout(SECONDS), scripted() as server:
        client, link = await seated(server)
        ids = [await client.broadcast(number) for number in range(4)]
        packets = [await link.hears("broadcast") for _ in range(4)]
        await link.refuse(packets[1], code, retry=True)
        again = [await link.hears("broadcast")]
        later = asyncio.create_task(client.broadcast("later"))
        again += [await link.hears("broadcast") for _ in range(3)]
        assert [each["Payload"] for each in again] == [1, 2, 3, "later"]
        assert [each["Header"].get("Again") for each in again] == [*ids[1:], None]
        numbers = [each["Header"]["Id"] for each in (*packets, *again)]
        assert numbers == sorted(set(numbers))
        assert await later == numbers[-1]
        # A refusal for another reason is reported with the id that its sender knows.
        await link.refuse(again[0], "no-such-user")
        with pytest.raises(videre.VidereError) as refused:
            await client.receive()
        assert getattr(refused.value, "packet_id") == ids[1]  # noqa: B009
        await leave(client, link)


async def test_a_store_that_is_away() -> None:
    """What it refuses is sent again until it is back, at an undiminished rate."""
    async with asyncio.timeout(SECONDS), scripted() as server:
        client, link = await seated(server)
        ids = [await client.broadcast(number) for number in range(3)]
        for _ in range(2):
            heard = [await link.hears("broadcast") for _ in range(3)]
            for packet in heard:  # each has an answer, which must not reach the application
                await link.refuse(packet, "unavailable", retry=True)
        heard = [await link.hears("broadcast") for _ in range(3)]
        assert [each["Payload"] for each in heard] == [0, 1, 2]
        assert [each["Header"]["Again"] for each in heard] == ids
        assert client._sender._pacer._share == SHARE
        asking = asyncio.create_task(client.ping())  # a request has an answer of its own
        await link.refuse(await link.hears("ping"), "unavailable", retry=True)
        with pytest.raises(videre.errors.Unavailable):
            await asking
        await link.say("connect", "b", "false")
        assert await client.receive() == Joined("b")
        await leave(client, link)


async def test_a_refused_request_loses_no_broadcast() -> None:
    """The server drops the broadcasts after a refused `ping` silently; each is sent again."""
    async with asyncio.timeout(SECONDS), scripted() as server:
        client, link = await seated(server)
        await client.broadcast("before")
        asking = asyncio.create_task(client.ping())
        assert (await link.hears("broadcast"))["Payload"] == "before"
        ping = await link.hears("ping")
        ids = [await client.broadcast(number) for number in range(3)]
        for _ in range(3):
            await link.hears("broadcast")
        await link.refuse(ping, "rate-limited", retry=True)
        with pytest.raises(videre.errors.RateLimited):
            await asking
        again = [await link.hears("broadcast") for _ in range(3)]
        assert [each["Payload"] for each in again] == [0, 1, 2]
        assert [each["Header"]["Again"] for each in again] == ids
        await leave(client, link)


async def test_waiting_packets_use_the_next_connection() -> None:
    """A pause ends with its connection, and packets to be repeated are repeated on the next one."""
    async with asyncio.timeout(SECONDS), scripted() as server:
        client, link = await seated(server)
        await client.broadcast("first")
        packet = await link.hears("broadcast")
        await link.refuse(packet, "rate-limited", retry=True)
        later = asyncio.create_task(client.broadcast("later"))
        link.cut()
        link = await server.link()
        await link.seat("me", secret="s2", Resumed=True, LastId=None)
        heard = [(await link.hears("broadcast"))["Payload"] for _ in range(2)]
        assert heard == ["first", "later"]
        await later
        await leave(client, link)


@pytest.mark.parametrize("sent", [0, 1])
async def test_a_ping_confirms_no_packet_sent_after_it(
    sent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those to be repeated after a pause are not lost if the connection breaks meanwhile."""
    pause = SECONDS / 3
    monkeypatch.setattr(pacer_module, "SHORTEST", pause)
    async with asyncio.timeout(SECONDS), scripted() as server:
        client, link = await seated(server)
        for number in range(2):
            await client.broadcast(number)
        first, _ = [await link.hears("broadcast") for _ in range(2)]
        await link.refuse(first, "rate-limited", retry=True)
        await link.say("connect", "b", "false")
        assert await client.receive() == Joined("b")  # so the client knows of the refusal, too
        asking = asyncio.create_task(client.ping())
        ping = await link.hears("ping")  # not paused
        if sent:
            skip(pause)
        for _ in range(2 * sent):
            await link.hears("broadcast")
        await link.answer(ping, ["me", "b"])
        assert await asking == ["me", "b"]
        link.cut()
        link = await server.link()
        await link.seat("me", secret="s2", Resumed=True, LastId=None)
        assert [(await link.hears("broadcast"))["Payload"] for _ in range(2)] == [0, 1]
        await leave(client, link)


async def test_a_packet_that_was_refused_for_good_is_not_sent_again() -> None:
    """A resume repeats what the server has not got, but not what it does not want."""
    async with asyncio.timeout(SECONDS), scripted() as server:
        client, link = await seated(server)
        number = await client.broadcast("too large")
        await client.broadcast("lost")
        packet, _ = [await link.hears("broadcast") for _ in range(2)]
        await link.refuse(packet, "packet-too-large")
        with pytest.raises(videre.errors.PacketTooLarge) as refused:
            await client.receive()
        assert refused.value.packet_id == number
        link.cut()
        link = await server.link()
        await link.seat("me", secret="s2", Resumed=True, LastId=None)
        assert (await link.hears("broadcast"))["Payload"] == "lost"
        await leave(client, link)


async def leave(client: Client, link: Any) -> None:
    """Leave a room of a scripted server."""
    leaving = asyncio.create_task(client.__aexit__(None, None, None))
    while await link.ended() is None:
        pass
    await leaving
