"""Time and ends: sessions use the loop's clock, losses are silent, shutdowns are quick."""

from __future__ import annotations

import asyncio
import logging

import pytest
from seam import PREFIX, Script, Seam, Seams, nothing
from skipping import forward, hurry
from sockjs_client import Wire, ask, fresh, poll
from visitors import TRANSPORTS, WEBSOCKETS, Visitor
from websocket_client import CLOSE

from videre.settings import Options
from videre.tally import Tally
from videre.transport import manager
from videre.transport.shared import GOODBYE, Shared

pytest_plugins = ("sockjs_fixtures",)

#: Seconds that a shutdown waits for answers in the tests with `slow`. With a clock that they move,
#: they tell that from QUICK, for a shutdown that waits for nobody, on however busy a machine.
SLOW, QUICK = 100.0, 50.0
#: No sweep comes in time, and aiohttp would wait for longer.
OTHERWISE = {"heartbeat": 6000.0, "disconnect_delay": 6000.0, "stop_within": 1000.0}


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shutdown wait for its clients' answers for SLOW seconds instead of one."""
    assert GOODBYE == 1.0
    monkeypatch.setattr(manager, "GOODBYE", SLOW)


async def seconds_to_stop(server: Seam) -> float:
    """Return how many seconds the server takes to stop."""
    started = asyncio.get_running_loop().time()
    await server.stop()
    return asyncio.get_running_loop().time() - started


async def test_an_unanswered_close_frame(seam: Seams) -> None:
    """Shutdown itself cuts the connection after a second: the next sweep may be far off."""
    server = await seam(heartbeat=600, disconnect_delay=600)
    silent = await Visitor.enter(server.base, "raw")
    assert silent.socket is not None
    shutdown = asyncio.create_task(server.manager.shutdown(1001, "Server is going away"))
    assert (await silent.socket.frame())[0] == CLOSE
    await hurry(shutdown)
    assert server.tape.sessions[0].is_cut
    assert await silent.wire.ended()


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_shutdown_says_goodbye(seam: Seams, transport: str) -> None:
    """A shutdown takes no time, and every client gets a close frame with 1001 (fault 7)."""
    server = await seam(**OTHERWISE)
    visitors = [await Visitor.enter(server.base, transport) for _ in range(3)]
    stopping = asyncio.create_task(seconds_to_stop(server))
    codes = []
    for visitor in visitors:
        codes.append((await visitor.goodbye())[0])
        if transport in WEBSOCKETS:
            assert await visitor.wire.ended()
        await visitor.wire.close()
    assert codes == [1001] * 3
    assert await hurry(stopping, by=1.0) < QUICK
    for number in range(3):
        kinds = [event.kind for event in server.tape.events if event.session == number]
        assert kinds == ["open", "goodbye"]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_shutdown_after_losses(seam: Seams, transport: str, how: str) -> None:
    """Clients that have just left are not waited for (fault 7)."""
    server = await seam(**OTHERWISE)
    for _ in range(3):
        wire = (await Visitor.enter(server.base, transport)).wire
        if how == "rst":
            wire.reset()
        else:
            await wire.close()
    assert await hurry(seconds_to_stop(server), by=1.0) < QUICK
    assert server.tape.count("goodbye") == 3


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_shutdown_waits_a_second_at_most(seam: Seams, transport: str) -> None:
    """Clients that do not answer their close frame delay it no longer (fault 7)."""
    server = await seam(**OTHERWISE)
    for _ in range(3):
        await Visitor.enter(server.base, transport)
    assert await hurry(seconds_to_stop(server), by=1.0) < SLOW + QUICK
    assert server.tape.count("goodbye") == 3


async def test_shutdown_refuses_new_sessions(seam: Seams) -> None:
    """A close during a shutdown is final: the session hears it once, no new one opens (fault 7)."""
    server = await seam()
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    wire = await Wire.open(server.base)
    await server.stop()
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await wire.ask("POST", f"{fresh()}/xhr", b"")
    with pytest.raises(ConnectionError):
        await ask(server.base, "POST", f"{session}/xhr", b"")
    assert server.tape.story() == ["open", "goodbye"]


async def test_no_session_opens_while_others_are_closed(seam: Seams) -> None:
    """A site's connections may last longer than its shutdown takes."""
    server = await seam()
    silent = await Visitor.enter(server.base, "raw")  # the shutdown waits for its answer
    shutdown = asyncio.create_task(server.manager.shutdown(1001, "Server is going away"))
    assert silent.socket is not None
    assert (await silent.socket.frame())[0] == CLOSE
    assert (await ask(server.base, "POST", f"{fresh()}/xhr", b"")).status == 503
    assert (await ask(server.base, "GET", f"{PREFIX}/info")).status == 503
    await hurry(shutdown)


@pytest.mark.parametrize("transport", ["raw", "xhr_streaming"])
async def test_a_stop_without_a_shutdown(seam: Seams, transport: str) -> None:
    """It cuts every connection."""
    server = await seam()
    visitor = await Visitor.enter(server.base, transport)
    await server.manager.stop()
    assert await visitor.wire.ended()
    assert server.tape.story() == ["open", "goodbye"]


async def test_a_stopped_server_sweeps_no_more(
    seam: Seams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its application's event loop may go on without it."""
    sweeps: list[manager.Manager] = []
    monkeypatch.setattr(manager.Manager, "_sweep", lambda kept: sweeps.append(kept))
    server = await seam(**OTHERWISE)
    await Visitor.enter(server.base, "raw")
    await server.stop()
    await forward(2 * server.manager.shared.interval)
    assert sweeps == []


async def test_timers_are_monotonic(seam: Seams) -> None:
    """Sessions end by the event loop's clock, not by the wall clock (fault 19)."""
    server = await seam()
    assert await poll(server.base, fresh()) == "o\n"
    await forward(7.0)
    assert server.tape.story() == ["open", "goodbye"]


async def test_a_silent_websocket_is_gone_by_default_within_40_seconds(seam: Seams) -> None:
    """With the default heartbeat, a dead peer in a busy room is gone in 40 s (fault 6)."""
    loop = asyncio.get_running_loop()
    server = await seam()
    await Visitor.enter(server.base, "raw")
    started = loop.time()
    while not server.tape.count("goodbye") and loop.time() - started < 60:
        server.tape.sessions[0].send("chatter")
        await forward(0.5)
    assert 25 < loop.time() - started <= 40


async def test_leaving_clients_log_nothing(seam: Seams, caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves, politely or not, causes no error and no traceback."""
    caplog.set_level(logging.WARNING)
    server = await seam(disconnect_delay=0.5)
    visitors = [await Visitor.enter(server.base, each) for each in TRANSPORTS * 2]
    for visitor in visitors[::2]:
        visitor.wire.reset()
    for visitor in visitors[1::2]:
        await visitor.wire.close()
    for session in server.tape.sessions:
        session.send("too late")
    for number in range(len(visitors)):
        await server.tape.until("goodbye", number)
    await server.stop()
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize(
    ("heartbeat", "delay", "sweeps"), [(25, 5, (0.5, 50, 75, 10)), (2, 60, (0.2, 10, 15, 300))]
)
def test_the_sweeps_of_each_time(heartbeat: float, delay: float, sweeps: tuple[float, ...]) -> None:
    """A ping after a heartbeat of silence, the end after half a heartbeat more."""
    options = Options(heartbeat=heartbeat, disconnect_delay=delay)
    shared = Shared(options, Tally(lambda: 0.0), nothing)  # type: ignore[arg-type]
    found = (shared.heartbeat_sweeps, shared.lost_sweeps, shared.absent_sweeps)
    assert (shared.interval, *found) == sweeps


async def test_a_drain_waits_for_the_open_sessions(seam: Seams) -> None:
    """Until they have ended, or its time is over."""
    server = await seam(heartbeat=600, disconnect_delay=600)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await server.manager.drained(100)
    assert loop.time() < started + 100
    visitors = [await Visitor.enter(server.base, "raw") for _ in range(2)]
    await hurry(server.manager.drained(100), by=10)
    assert loop.time() >= started + 100
    draining = asyncio.create_task(server.manager.drained(600))
    for number, visitor in enumerate(visitors):
        await asyncio.sleep(0)
        assert not draining.done()
        await visitor.wire.close()
        await server.tape.until("goodbye", number)
    await draining
    assert loop.time() < started + 600


@pytest.mark.parametrize(("seconds", "end"), [(0.9, "done"), (5.0, "cancelled")])
async def test_a_shutdown_waits_for_the_ends_of_sessions(
    seam: Seams, seconds: float, end: str
) -> None:
    """A handler has a second for its last work, and no more."""
    told: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(seconds)
            told.append("done")
        except asyncio.CancelledError:
            told.append("cancelled")
            raise

    server = await seam(Script(closed=lambda _session: work()))
    visitor = await Visitor.enter(server.base, "raw")
    visitor.wire.reset()
    await server.tape.until("goodbye")
    await hurry(server.stop())
    assert told == [end]
