"""The status as JSON: what it counts, what it remembers, and what it keeps secret."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from admin import Admin, administered, conforms
from fakes import FakeConnection
from patience import WAIT_SECONDS

from videre.admin import samples as sampling
from videre.admin.faults import KEPT, Faults
from videre.admin.latency import WINDOW, Quantile
from videre.admin.samples import Samples
from videre.config import Config
from videre.logs import EventLog, Journal
from videre.logs.formatters import shortened
from videre.reasons import LeaveReason
from videre.tally import Histogram
from videre.transport import Options
from videre.version import __version__


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    """Run the admin port of a server."""
    async with administered() as client:
        yield client


async def status_of(admin: Admin) -> dict[str, Any]:
    """Return the status."""
    answer = await admin.get("/status.json")
    assert answer.status == 200
    body: dict[str, Any] = answer.body
    return body


async def until(admin: Admin, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the status once a condition is true of it."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not true(found := await status_of(admin)):
            pass
    return found


async def test_what_runs(admin: Admin) -> None:
    """The version, since when, and the engine."""
    found = await status_of(admin)
    assert (found["Version"], found["Engine"], found["Ready"]) == (__version__, "memory://", True)
    assert 0 <= found["Uptime"] < 60
    assert found["Started"].endswith("+00:00")


async def test_who_is_there(admin: Admin) -> None:
    """Sessions by transport, rooms, members; the largest rooms by the first characters of ids."""
    await admin.signaller.members("anna-of-the-hill", "b", "c", room="long-room-id")
    (other,) = await admin.signaller.members("d", room="other-room")
    await admin.signaller.client("sockjs")
    found = await status_of(admin)
    assert (found["Sessions"], found["Rooms"], found["Members"]) == (5, 2, 4)
    assert found["Transports"]["websocket-raw"] == 4
    assert found["Transports"]["websocket"] == 1
    assert found["LargestRooms"] == [
        {"Prefix": "/echo", "Room": "long-r", "Members": 3},
        {"Prefix": "/echo", "Room": "other", "Members": 1},
    ]
    assert "anna" not in json.dumps(found) and "long-ro" not in json.dumps(found)
    await other.close()
    await until(admin, lambda found: found["Members"] == 3)


async def test_who_was_turned_away() -> None:
    """Refused requests by reason."""
    config = Config(transport=Options(max_connections=1))
    async with administered(config) as admin:
        await admin.signaller.client()
        for _ in range(3):
            with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
                await admin.signaller.client()
        found = await status_of(admin)
        assert {reason: n for reason, n in found["Refused"].items() if n} == {"connections": 3}
        assert found["SlowConsumers"] == {"Count": 0, "Last": None}


async def test_slow_consumers(admin: Admin) -> None:
    """Their number, and the time of the last one."""
    admin.namespaces[0].tally.slow_consumers += 2
    found = await until(admin, lambda found: found["SlowConsumers"]["Count"] == 2)
    assert found["SlowConsumers"]["Last"].endswith("+00:00")


async def test_it_has_a_history(admin: Admin) -> None:
    """The page shows the past at once, whether or not anybody was looking."""
    clients = await admin.signaller.members("a", "b")
    await clients[0].send("broadcast", "a", "room")
    await clients[1].heard()
    found = await until(admin, lambda found: found["History"]["Members"][-1] == 2)
    history = found["History"]
    assert max(history["Received"]) > 0
    assert len({len(values) for name, values in history.items() if name != "Interval"}) == 1


def test_a_rate_is_what_came_in_the_time_that_passed() -> None:
    """Even if a sample was late; the first sample has no rate."""
    samples = Samples()
    assert samples.history() == {}
    for now, rooms, joins in ((10.0, 1, 7), (11.0, 2, 12), (13.0, 3, 17), (13.0, 3, 18)):
        samples.take(now, {"Rooms": rooms}, {"Joins": joins})
    assert samples.history() == {"Rooms": [1, 2, 3, 3], "Joins": [0.0, 5.0, 2.5, 0.0]}


def test_samples_are_kept_for_two_minutes() -> None:
    """And no longer."""
    samples = Samples()
    for second in range(1000):
        samples.take(float(second), {"Rooms": second}, {"Joins": second * 2})
    history = samples.history()
    assert history["Rooms"] == list(range(880, 1000))
    assert history["Joins"] == [2.0] * sampling.KEPT


def test_a_day_is_kept_in_peaks() -> None:
    """The highest value of each five minutes, of one day and no longer."""
    samples = Samples()
    assert samples.day() == {}
    for second in range(0, 3 * 86_400, 60):
        rooms = second // 300 + (second % 300 == 120)  # highest in the middle
        samples.take(float(second), {"Rooms": rooms}, {"Joins": 0})
    assert samples.day()["Rooms"] == [n + 1 for n in range(2 * 288, 3 * 288)]
    assert samples.history()["Rooms"][-1] == 3 * 288 - 1


async def test_a_day_on_request(admin: Admin) -> None:
    """The same names, in five minutes; any other span is refused."""
    await until(admin, lambda found: "Lag" in found["History"])
    body = (await admin.get("/status.json", history="day")).body
    recent = (await status_of(admin))["History"]
    assert body["History"].keys() == recent.keys()
    assert (body["History"]["Interval"], recent["Interval"]) == (300, 1)
    assert len(body["History"]["Rooms"]) == 1
    assert (await admin.get("/status.json", history="year")).status == 400


def test_a_percentile_of_the_last_minute() -> None:
    """The bound that 99 of 100 values do not exceed; what is older than a minute is forgotten."""
    quantile, histogram = Quantile(), Histogram((1.0, 2.0, 4.0))
    assert quantile.sample([]) == quantile.sample([histogram]) == 0
    histogram.observe(0.5, times=99)
    histogram.observe(3, times=1)
    assert quantile.sample([histogram]) == 1
    histogram.observe(3, times=1)
    assert quantile.sample([histogram]) == 4
    other = Histogram((1.0, 2.0, 4.0))
    other.observe(9, times=100)
    assert quantile.sample([histogram, other]) == 4  # the largest bound stands for all above
    for _ in range(WINDOW):
        last = quantile.sample([histogram, other])
    assert last == 0


async def test_latencies(admin: Admin) -> None:
    """The event loop's, a store's steps and relayed packets, in seconds."""
    tally = admin.namespaces[0].tally
    await until(admin, lambda found: "Lag" in found["History"])  # later values count as new
    tally.relays.seconds.observe(0.2)
    tally.steps["join"].observe(0.04)
    admin.namespaces[0].lag.seconds.observe(0.9, times=1000)
    found = await until(admin, lambda found: found["History"]["RelayLatency"][-1] > 0)
    latest = {name: values[-1] for name, values in found["History"].items() if name != "Interval"}
    assert latest["RelayLatency"] == 0.25
    assert latest["EngineLatency"] == 0.05
    assert latest["Lag"] == 1.0


@pytest.mark.parametrize("batched", [True, False])
def test_faults_of_the_log_are_kept_by_kind(batched: bool) -> None:
    """Latest first, without the users they concern."""
    logger = logging.getLogger(f"videre-test-faults-{batched}")
    faults = Faults()
    logger.addHandler(faults)
    log = EventLog(Journal(logger, batched=batched), "/echo")
    for code in ("wrong-user", "rate-limited", "wrong-user"):
        log("error", code=code, user="anna", room="long-room-id")
    log("join", user="anna", room="long-room-id")
    try:
        raise ZeroDivisionError("a secret")
    except ZeroDivisionError:
        logger.exception("a handler failed")
    logger.warning("lost the subscription to the store: %s", "a secret")
    kinds = [(fault.level, fault.event, fault.code, fault.count) for fault in faults.recent()]
    assert kinds == [
        ("warning", "lost the subscription to the store: ...", "", 1),
        ("error", "a handler failed", "ZeroDivisionError", 1),
        ("warning", "error", "wrong-user", 2),
        ("warning", "error", "rate-limited", 1),
    ]
    assert "secret" not in str(faults.recent())


async def test_faults_of_asyncio_show_no_values() -> None:
    """It writes them into the message: a callback's arguments, a task and its exception."""
    loop, logger, faults = asyncio.get_running_loop(), logging.getLogger("asyncio"), Faults()

    def fail(_secret: str) -> None:
        raise ZeroDivisionError("a secret")

    async def fail_too() -> None:
        fail("a secret")

    logger.addHandler(faults)
    try:
        loop.call_soon(fail, "a secret")
        task = loop.create_task(fail_too())
        await asyncio.wait([task])
        del task
    finally:
        logger.removeHandler(faults)
    found = [(fault.level, fault.code, fault.count) for fault in faults.recent()]
    assert found == [("error", "ZeroDivisionError", 1)] * 2
    assert faults.recent()[0].event == "Task exception was never retrieved"
    assert "secret" not in str(faults.recent())


def test_so_many_kinds_are_kept() -> None:
    """The kind not seen for longest is dropped first."""
    logger = logging.getLogger("videre-test-kinds")
    faults = Faults()
    logger.addHandler(faults)
    for number in range(KEPT + 10):
        logger.error(f"fault {number}")
        logger.error("fault 0")
    events = {fault.event for fault in faults.recent()}
    assert len(events) == KEPT and {"fault 0", f"fault {KEPT + 9}"} <= events


async def test_faults_are_shown_while_the_admin_port_is_open() -> None:
    """Its log handler is removed with it."""
    before = list(logging.getLogger("videre").handlers)
    async with administered() as admin:
        (client,) = await admin.signaller.members("a")
        await client.say("nonsense")
        await client.text()
        (fault,) = (await status_of(admin))["RecentErrors"]
        assert (fault["Level"], fault["Event"]) == ("warning", "error")
        assert (fault["Code"], fault["Count"]) == ("malformed-packet", 1)
    assert logging.getLogger("videre").handlers == before


async def test_the_largest_rooms_are_few(admin: Admin) -> None:
    """Only the largest ones, largest first; members that left no longer count."""
    rooms = admin.namespaces[0].rooms
    seats = {
        (room, user): await rooms.join(f"u{user}", f"{room:02}", FakeConnection(), ("", ""))
        for room in range(20)
        for user in range(1 + room % 15)
    }
    body = await status_of(admin)
    assert (body["Rooms"], body["Members"]) == (20, len(seats))
    sizes = [each["Members"] for each in body["LargestRooms"]]
    assert sizes == [15, 14, 13, 12, 11, 10, 9, 8, 7, 6]
    assert body["LargestRooms"][0]["Room"] == shortened("14")
    for user in range(15):
        await rooms.leave(seats[14, user], LeaveReason.OTHER)
    body = await status_of(admin)
    assert (body["Rooms"], body["Members"]) == (19, len(seats) - 15)
    assert body["LargestRooms"][0] == {
        "Prefix": "/echo",
        "Room": shortened("13"),
        "Members": 14,
    }


def test_a_schema_is_looked_at() -> None:
    """The comparison with the document does find faults."""
    with pytest.raises(Exception, match="is not of type"):
        conforms({"Status": 5}, {"$ref": "#/components/schemas/Health"})
