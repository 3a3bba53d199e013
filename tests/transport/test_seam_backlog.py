"""A client that does not read, and a handler that hangs or fails, disturb nobody else."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable
from typing import Any

import pytest
from aiohttp import web
from growth import check_async
from patience import eventually, patient
from seam import PREFIX, Script, Seams
from skipping import forward, hurry
from sockjs_client import Stream, fresh, poll, send
from visitors import STREAMS, TRANSPORTS, WEBSOCKETS, Visitor
from websocket_client import TEXT, encode

from videre.reasons import End, LeaveReason
from videre.transport import Options, mount
from videre.transport.clients import Client
from videre.transport.http import HTTPSession
from videre.transport.session import OPEN

pytest_plugins = ("sockjs_fixtures",)

CHUNK = "x" * 65_536
LIMIT = 256 * 1024  # bytes
FLOOD = 320  # chunks, 20 MB: more than the kernel's buffers and the limit together
WITHIN = patient(20.0)  # seconds, less than the 37.5 after which silent clients are given up


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_that_never_reads_is_dropped(seam: Seams, transport: str) -> None:
    """It is dropped at its limit, and all others hear everything (fault 5)."""
    server = await seam(max_backlog_bytes=LIMIT, streaming_limit=1 << 40)
    slow = await Visitor.enter(server.base, transport, receive_buffer=4096)
    brisk = await Visitor.enter(server.base, "raw")
    for number in range(FLOOD):
        for session in server.tape.sessions:
            session.send(CHUNK)
        assert await brisk.hear() == [CHUNK], number
        if server.tape.count("goodbye"):
            break
    await server.tape.until("goodbye", 0, within=WITHIN)
    server.tape.sessions[1].send("well?")
    assert await brisk.hear() == ["well?"]
    await brisk.say("well!")
    await server.tape.until("message", 1, text="well!")
    assert slow.wire is not None
    assert server.tape.story(0) == ["open", "goodbye"]
    assert server.tape.story(1) == ["open", "message well!"]


GIANT = "y" * 16_000_000  # more than the kernel's buffers hold


@pytest.mark.parametrize("corked", [False, True])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_one_packet_of_any_size_passes(seam: Seams, transport: str, corked: bool) -> None:
    """It does not count towards the limit, other packets do; all of them arrive in order."""
    server = await seam(max_backlog_bytes=LIMIT, streaming_limit=1 << 40)
    visitor = await Visitor.enter(server.base, transport)
    (session,) = server.tape.sessions
    for number in range(2):  # now another one may come
        if corked:
            server.manager.shared.cork = []
        session.send(f"before {number}")
        session.send(GIANT)
        server.manager.shared.uncork()
        for _ in range(3):
            session.send(CHUNK)
        heard: list[str] = []
        while len(heard) < 5:
            heard += await visitor.hear()
        assert heard == [f"before {number}", GIANT, CHUNK, CHUNK, CHUNK]
    assert server.tape.story() == ["open"]


@pytest.mark.parametrize("rest", [GIANT, CHUNK])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_waits_beside_one_large_packet_is_limited(
    seam: Seams, transport: str, rest: str
) -> None:
    """A second large one, or more small ones than the limit allows, are too much."""
    server = await seam(max_backlog_bytes=LIMIT, streaming_limit=1 << 40)
    await Visitor.enter(server.base, transport, receive_buffer=4096)
    (session,) = server.tape.sessions
    session.send(GIANT)
    for _ in range(8):
        session.send(rest)
    await server.tape.until("goodbye", within=WITHIN)


async def test_one_large_packet_waits_for_a_poll(seam: Seams) -> None:
    """It may wait between two polls, too; after that, a second one may."""
    server = await seam(max_backlog_bytes=LIMIT)
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    for _ in range(2):
        for text in (GIANT, CHUNK, CHUNK):
            server.tape.sessions[0].send(text)
        assert await poll(server.base, session) == f'a["{GIANT}","{CHUNK}","{CHUNK}"]\n'
    server.tape.sessions[0].send(GIANT)
    server.tape.sessions[0].send(GIANT)
    await server.tape.until("goodbye", within=WITHIN)


async def test_the_limit_after_a_large_packet(seam: Seams) -> None:
    """Once it has been read, a client that stops reading is dropped at its usual limit."""
    server = await seam(max_backlog_bytes=LIMIT)
    visitor = await Visitor.enter(server.base, "raw")
    (session,) = server.tape.sessions
    session.send(GIANT)
    assert await visitor.hear() == [GIANT]
    deaf = session.backlog
    assert deaf <= LIMIT
    visitor.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    most = 0
    while not server.tape.count("goodbye"):
        session.send(CHUNK)
        most = max(most, session.backlog)
        await asyncio.sleep(0)
    assert most <= 2 * LIMIT + len(CHUNK)


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_a_dropped_client_is_cut_off(seam: Seams, transport: str) -> None:
    """Its connection ends soon, even if it does not read the close frame (fault 5)."""
    server = await seam(max_backlog_bytes=LIMIT)
    slow = await Visitor.enter(server.base, transport, receive_buffer=4096)
    for _ in range(FLOOD):
        server.tape.sessions[0].send(CHUNK)
    await server.tape.until("goodbye", within=WITHIN)
    async with asyncio.timeout(WITHIN):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, AssertionError)):
            while True:
                await slow.websocket.text()


@pytest.mark.parametrize("transport", STREAMS)
async def test_a_dropped_streaming_client_is_cut_off(seam: Seams, transport: str) -> None:
    """Its response is aborted if it has not read the close in time."""
    server = await seam(max_backlog_bytes=LIMIT, streaming_limit=1 << 40, heartbeat=600.0)
    await Visitor.enter(server.base, transport, receive_buffer=4096)
    (session,) = server.tape.sessions
    for _ in range(FLOOD):
        session.send(CHUNK)
        await asyncio.sleep(0)
    await server.tape.until("goodbye", within=WITHIN)
    for _ in range(server.manager.shared.goodbye_sweeps):
        session.sweep()
    assert session.is_receiving
    session.sweep()
    assert not session.is_receiving


async def test_a_dropped_polling_client_is_told_why(seam: Seams) -> None:
    """Its next poll gets 4002 (fault 5)."""
    server = await seam(max_backlog_bytes=LIMIT)
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    for _ in range(8):
        server.tape.sessions[0].send(CHUNK)
    await server.tape.until("goodbye", within=WITHIN)
    assert (await poll(server.base, session)).startswith("c[4002,")
    assert server.tape.story() == ["open", "goodbye"]


async def test_a_backlog_below_the_limit_is_kept(seam: Seams) -> None:
    """A polling client gets all waiting messages, in order, as long as they fit."""
    server = await seam(max_backlog_bytes=LIMIT)
    visitor = await Visitor.enter(server.base, "xhr_streaming")
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    texts = [f"{number} {'x' * 1000}" for number in range(100)]
    for text in texts:
        for each in server.tape.sessions:
            each.send(text)
    assert await poll(server.base, session) == f"a{texts}\n".replace("'", '"').replace(", ", ",")
    heard: list[str] = []
    while len(heard) < len(texts):
        heard += await visitor.hear()
    assert heard == texts


@pytest.mark.parametrize("fault", ["hangs", "raises"])
async def test_a_failing_goodbye_delays_no_other(seam: Seams, fault: str) -> None:
    """Handlers that hang or raise at a session's end do not delay the end of others (fault 10)."""
    gate = asyncio.get_running_loop().create_future()

    def closed(session: Any) -> asyncio.Future[None] | None:
        if session is not server.tape.sessions[0]:
            return None
        if fault == "raises":
            raise ValueError("a broken handler")
        return gate

    server = await seam(Script(closed=closed), disconnect_delay=0.5)
    first = await Visitor.enter(server.base, "raw")
    first.wire.reset()
    await server.tape.until("goodbye", 0)
    try:
        second = await Visitor.enter(server.base, "raw")
        second.wire.reset()
        await server.tape.until("goodbye", 1, within=patient(8.0))
        assert await poll(server.base, fresh()) == "o\n"
        await hurry(server.tape.until("goodbye", 2, within=patient(8.0)))
    finally:
        gate.set_result(None)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_hanging_handler_blocks_its_own_session_only(seam: Seams, transport: str) -> None:
    """While one message hangs, only the messages of the same session wait (10)."""
    gate = asyncio.get_running_loop().create_future()

    def received(session: Any, text: str) -> asyncio.Future[None] | None:
        return gate if text == "hang" else session.send(text)

    server = await seam(Script(received=received))
    stuck = await Visitor.enter(server.base, transport)
    other = await Visitor.enter(server.base, transport)
    for text in ("hang", "2", "3"):
        saying = asyncio.ensure_future(stuck.say(text))
        await asyncio.wait({saying}, timeout=0.5)
    await server.tape.until("message", 0, text="hang")
    await other.say("unhindered")
    assert await other.hear() == ["unhindered"]
    assert server.tape.story(0) == ["open", "message hang"]
    gate.set_result(None)
    heard: list[str] = []
    while len(heard) < 2:
        heard += await stuck.hear()
    assert heard == ["2", "3"]


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_a_client_lost_while_its_handler_hangs(seam: Seams, transport: str) -> None:
    """The next ping notices the lost connection although the handler is busy (10)."""
    gate = asyncio.get_running_loop().create_future()
    server = await seam(Script(received=lambda session, text: gate), heartbeat=1.0)
    visitor = await Visitor.enter(server.base, transport)
    await visitor.say("hang")
    await server.tape.until("message")
    visitor.wire.reset()
    try:
        await server.tape.until("goodbye")
    finally:
        gate.set_result(None)
    assert server.tape.story() == ["open", "message hang", "goodbye"]


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_a_live_client_outlives_its_busy_handler(seam: Seams, transport: str) -> None:
    """A slow handler does not make its client count as silent."""
    gate = asyncio.get_running_loop().create_future()
    server = await seam(Script(received=lambda session, text: gate), heartbeat=0.4)
    visitor = await Visitor.enter(server.base, transport)
    await visitor.say("work")
    await server.tape.until("message")
    reading = asyncio.ensure_future(visitor.websocket.text())  # and answering pings
    await forward(1.2, 0.04)
    gate.set_result(None)
    server.tape.sessions[0].send("done")
    assert await reading in ("done", 'a["done"]')
    assert server.tape.story() == ["open", "message work"]


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_a_failing_handler_closes_its_own_session(
    seam: Seams, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """The exception is logged and the session closed with 4000; others go on."""

    async def later() -> None:
        raise ValueError("a broken handler")

    def received(session: Any, text: str) -> Awaitable[None] | None:
        if text == "break":
            if when == "later":
                return later()
            raise ValueError("a broken handler")
        session.send(text)
        return None

    caplog.set_level(logging.ERROR)
    server = await seam(Script(received=received))
    broken = await Visitor.enter(server.base, "websocket")
    other = await Visitor.enter(server.base, "websocket")
    await broken.say("break")
    assert (await broken.goodbye())[0] == 4000
    await other.say("unhindered")
    assert await other.hear() == ["unhindered"]
    assert "a broken handler" in caplog.text


async def test_a_sender_cannot_flood_a_busy_handler(seam: Seams) -> None:
    """Messages that wait for a hanging handler are bounded like those for a client (5)."""
    gate = asyncio.get_running_loop().create_future()
    server = await seam(Script(received=lambda session, text: gate), max_backlog_bytes=LIMIT)
    session = fresh()
    stream = await Stream.open(server.base, "POST", f"{session}/xhr_streaming")
    await stream.until("o\n")
    try:
        for _ in range(16):
            try:
                async with asyncio.timeout(patient(0.5)):
                    answer = await send(server.base, session, CHUNK)
            except TimeoutError:
                break  # not read any further, which is just as good a bound
            if answer.status != 204:
                break
        else:
            pytest.fail(f"1 MB taken for a handler which hangs, at {PREFIX}")
    finally:
        gate.set_result(None)


async def test_messages_waiting_for_all_handlers_are_limited(
    seam: Seams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all handlers hang, a sender of too many is closed with 4001, and the sum stays right."""
    gate = asyncio.get_running_loop().create_future()
    monkeypatch.setattr("videre.transport.session.MAX_WAITING", 3 * len(CHUNK))
    server = await seam(Script(received=lambda session, text: gate))
    patient, hasty = [await Visitor.enter(server.base, "raw") for _ in range(2)]
    await patient.say("first")
    await patient.say(CHUNK)
    await server.tape.until("message", 0)
    await hasty.say("first")
    await server.tape.until("message", 1)
    for _ in range(3):
        await hasty.say(CHUNK)
    assert (await hasty.goodbye())[0] == 4001
    gate.set_result(None)
    await server.tape.until("message", 0, text=CHUNK)
    assert server.tape.story(1) == ["open", "message first", "goodbye"]
    assert server.manager.shared.inboxes.total == 0


async def test_a_handled_message_waits_no_more(seam: Seams) -> None:
    """Others still wait: the sum counts them alone."""
    gates: list[asyncio.Future[None]] = []

    def received(session: Any, text: str) -> asyncio.Future[None]:
        gates.append(asyncio.get_running_loop().create_future())
        return gates[-1]

    server = await seam(Script(received=received))
    await Visitor.enter(server.base, "raw")
    (session,) = server.tape.sessions
    inboxes = server.manager.shared.inboxes
    totals = []
    for _ in range(4):
        session.receive(CHUNK)
        totals.append(inboxes.total)
    while totals:
        assert inboxes.total == totals.pop()
        gates.pop().set_result(None)
        await eventually(lambda: bool(gates) or not totals)


async def test_messages_that_wait_for_a_handler_are_freed(seam: Seams) -> None:
    """As soon as their session is closed for them, even if the handler never returns."""
    gate = asyncio.get_running_loop().create_future()
    server = await seam(Script(received=lambda session, text: gate))
    await Visitor.enter(server.base, "raw")
    (session,) = server.tape.sessions
    session.receive("first")
    text = CHUNK + "1"
    before = sys.getrefcount(text)
    session.receive(text)
    assert sys.getrefcount(text) == before + 1
    session.shed()
    assert sys.getrefcount(text) == before
    gate.set_result(None)


async def test_the_address_with_most_waiting_messages_pays(
    seam: Seams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all handlers hang, a session that fills the limit is closed, not the next sender."""
    gate = asyncio.get_running_loop().create_future()
    monkeypatch.setattr("videre.transport.session.MAX_WAITING", 10 * len(CHUNK))
    server = await seam(Script(received=lambda session, text: gate))
    hoarders = [await Visitor.enter(server.base, "raw") for _ in range(3)]
    modest = await Visitor.enter(server.base, "raw", source="127.0.0.2")
    for number, visitor in enumerate([*hoarders, modest]):
        await visitor.say("first")
        await server.tape.until("message", number)
    for hoarder in hoarders:
        for _ in range(3):
            await hoarder.say(CHUNK)
    await eventually(lambda: server.manager.shared.inboxes.total >= 9 * len(CHUNK))
    await modest.say(CHUNK)
    ended = [asyncio.ensure_future(hoarder.goodbye()) for hoarder in hoarders]
    (first,), _ = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
    assert first.result()[0] == 4001
    assert server.manager.shared.inboxes.total <= 8 * len(CHUNK)
    gate.set_result(None)
    await server.tape.until("message", 3, text=CHUNK)
    assert server.tape.count("goodbye") == 1


@pytest.mark.parametrize(("longest", "waits"), [(len(CHUNK), True), (None, False)])
async def test_the_largest_packet_of_a_session_without_a_seat(
    seam: Seams, longest: int | None, waits: bool
) -> None:
    """It may wait alone, though it exceeds the share; without a limit for packets, it may not."""
    gate = asyncio.get_running_loop().create_future()
    script = Script(received=lambda session, text: gate)
    server = await seam(script, max_backlog_bytes=LIMIT, max_packet_bytes=longest)
    await Visitor.enter(server.base, "raw")
    (session,) = server.tape.sessions
    session.handler.seated = False
    session.receive("first")
    session.receive(CHUNK)
    assert (session.state is OPEN) == waits
    session.receive("x")
    assert session.state is not OPEN
    gate.set_result(None)


async def test_a_session_without_a_seat_has_a_lower_limit(seam: Seams) -> None:
    """It is closed for a fraction of what a member may have waiting."""
    gate = asyncio.get_running_loop().create_future()
    server = await seam(Script(received=lambda session, text: gate), max_packet_bytes=4096)
    member, stranger = [await Visitor.enter(server.base, "raw") for _ in range(2)]
    text = "x" * 4000
    for number, visitor in enumerate((member, stranger)):
        await visitor.say(text)
        await server.tape.until("message", number)
    server.tape.sessions[1].handler.seated = False
    for _ in range(20):
        await member.say(text)
        await stranger.say(text)
    assert (await stranger.goodbye())[0] == 4003
    gate.set_result(None)
    await member.say("last")
    await server.tape.until("message", 0, text="last")
    assert len(server.tape.story(0)) == 23


async def test_waiting_messages_are_moved_once() -> None:
    """The work grows with the messages even if the handler is busy after each one."""
    taken = 0

    class Busy:
        seated = True

        def receive(self, text: str) -> Awaitable[None]:
            nonlocal taken
            taken += 1
            return asyncio.sleep(0)

        def too_large(self) -> None: ...

        def leaving(self) -> None: ...

        def closed(self, end: End) -> None: ...

    manager = mount(
        web.Application(), "/", lambda session: Busy(), options=Options(max_backlog_bytes=None)
    )

    async def work(count: int) -> None:
        nonlocal taken
        taken = 0
        session = HTTPSession("id", manager, Client("a"), "xhr-polling")
        manager.opened(session)
        session.open()
        for _ in range(count):
            session.receive("")
        await asyncio.gather(*manager.shared.jobs.tasks)
        assert taken == count
        session.finish(End(LeaveReason.CLOSED_BY_SERVER))

    try:
        await check_async(int, work, largest=8192, weigh=int)
    finally:
        await manager.stop()
    assert manager.shared.inboxes.total == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_address_with_the_largest_backlog_pays(
    seam: Seams, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If too much waits for all clients together, its largest sessions are closed at a sweep."""
    monkeypatch.setattr("videre.transport.manager.MAX_BACKLOGS", 40_000_000)
    server = await seam(max_backlog_bytes=len(GIANT), streaming_limit=1 << 40)
    for source in ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"):
        await Visitor.enter(server.base, transport, source=source, receive_buffer=4096)
        server.tape.sessions[-1].send(GIANT)
    await asyncio.sleep(0)  # a receiving request writes
    for _ in range(2):
        server.manager._sweep()
    over = [session for session in server.tape.sessions if session.is_over]
    assert {session.address for session in over} == {"127.0.0.1"}
    assert server.manager.tally.slow_consumers == len(over)
    kept = [session.backlog for session in server.tape.sessions if session not in over]
    assert sum(kept) <= 40_000_000


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_the_address_with_most_unfinished_messages_pays(
    seam: Seams, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that were sent in part take memory: the others' messages arrive nevertheless."""
    monkeypatch.setattr("videre.transport.wire.MAX_UNFINISHED", 1_000_000)
    server = await seam()
    incoming = server.manager.shared.incoming
    text = "x" * 240_000
    frame = encode(text.encode() if transport == "raw" else f'["{text}"]'.encode(), TEXT)
    honest = await Visitor.enter(server.base, transport, source="127.0.0.2")
    honest.wire.writer.write(frame[:200_000])
    visitors = [await Visitor.enter(server.base, transport) for _ in range(6)]
    for visitor in visitors:
        visitor.wire.writer.write(frame[:200_000])
    async with asyncio.timeout(WITHIN):
        while incoming.of("127.0.0.2") < 200_000 - 14:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while server.tape.count("goodbye") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert incoming.total <= 1_000_000
    honest.wire.writer.write(frame[200_000:])
    await server.tape.until("message", 0, text=text)
    for number, visitor in enumerate(visitors, 1):
        if "goodbye" in server.tape.story(number):
            assert (await visitor.goodbye())[0] == 4001
