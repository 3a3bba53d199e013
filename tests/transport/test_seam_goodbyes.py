"""Every session ends once, on time, and after its opening and its messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import pytest
from patience import WAIT_SECONDS, patient
from seam import STOCK, Script, Seam, Seams
from skipping import at_once, forward, hurry
from sockjs_client import fresh, poll, send
from visitors import STREAMS, TRANSPORTS, WEBSOCKETS, Visitor
from websocket_client import CLOSE, CONTINUATION, PING, PONG, TEXT, encode, fragment

from videre.errors import CloseCode
from videre.transport.websocket import IDLE_BYTES

pytest_plugins = ("sockjs_fixtures",)

SOON = patient(6.0)  # seconds; the limit for a client that polls or streams
BRIEF = {"heartbeat": 1.0, "disconnect_delay": 0.5}
TICK = 0.05  # seconds by which the clock is moved: a sweep of BRIEF, and a message of `chatter`
ABRUPT = ("fin", "rst")  # without a byte
SILENT = patient(5.0)  # seconds; with BRIEF the limit is 1.5 or 2

RUDE = {
    "reserved opcode": bytes([0x83, 0x80, 0, 0, 0, 0]),
    "reserved bits": bytes([0xF1, 0x80, 0, 0, 0, 0]),
    "no UTF-8": encode(b"\xff\xfe", TEXT),
    "half a close code": encode(b"\x03", CLOSE),
    "long ping": encode(b"x" * 126, PING),
    "too large": encode(b"x" * (5 << 20), TEXT),
    "broken JSON": encode(b'["a', TEXT),
    "no array": encode(b"5", TEXT),
}
FRAMING = ("broken JSON", "no array")  # which a raw WebSocket does not have


async def misbehave(visitor: Visitor, how: str) -> None:
    """End a WebSocket in one of the impolite ways."""
    if how == "fin":
        await visitor.wire.close()
    elif how == "rst":
        visitor.wire.reset()
    else:
        visitor.wire.writer.write(RUDE[how])
        with contextlib.suppress(ConnectionError):
            await visitor.wire.writer.drain()


@contextlib.asynccontextmanager
async def chatter(seam: Seam) -> AsyncIterator[None]:
    """Keep every session's room busy meanwhile: a message every 50 ms."""

    async def talk() -> None:
        while True:
            for session in seam.tape.sessions:
                session.send("chatter")
            await asyncio.sleep(0.05)

    task = asyncio.create_task(talk())
    try:
        yield
    finally:
        task.cancel()


@pytest.mark.parametrize(
    ("transport", "how"),
    [
        *(("websocket", how) for how in (*ABRUPT, *RUDE)),
        *(("raw", how) for how in (*ABRUPT, *RUDE) if how not in FRAMING),
    ],
)
async def test_a_broken_websocket_ends_at_once(seam: Seams, transport: str, how: str) -> None:
    """The handler hears of it at once, in whatever way it breaks (fault 2)."""
    server = await seam()
    visitor = await Visitor.enter(server.base, transport)
    await visitor.say("hello")
    await server.tape.until("message")
    await misbehave(visitor, how)
    await at_once(server.tape.until("goodbye"))
    story = [event.kind for event in server.tape.events if event.kind != "too large"]
    assert story == ["open", "message", "goodbye"]


@pytest.mark.parametrize("transport", WEBSOCKETS)
@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_closed_websocket_ends_at_once(seam: Seams, transport: str, code: int) -> None:
    """The handler hears of a close frame at once (fault 2)."""
    server = await seam()
    visitor = await Visitor.enter(server.base, transport)
    visitor.websocket.send(code.to_bytes(2, "big"), CLOSE)
    await at_once(server.tape.until("goodbye"))
    await visitor.websocket.goodbye()
    assert server.tape.story() == ["open", "goodbye"]


@pytest.mark.parametrize("transport", ["xhr", *STREAMS])
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_lost_http_client_ends_soon(seam: Seams, transport: str, how: str) -> None:
    """A client whose receiving connection breaks is gone within 6 s (fault 2)."""
    server = await seam()
    visitor = await Visitor.enter(server.base, transport)
    await visitor.say("hello")
    await misbehave(visitor, how)
    await hurry(server.tape.until("goodbye", within=SOON))
    assert server.tape.story() == ["open", "message hello", "goodbye"]


async def test_a_client_that_stops_polling_ends_soon(seam: Seams) -> None:
    """It ends after 5 s and within 6 s (fault 1)."""
    server = await seam()
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    opened = await server.tape.until("open")
    gone = await hurry(server.tape.until("goodbye", within=SOON + 1))
    assert 4.0 < gone.at - opened.at < SOON + 0.5
    assert (await send(server.base, session, "a")).status == 404
    assert server.tape.story() == ["open", "goodbye"]


async def test_sessions_that_stop_polling_leave_nothing(seam: Seams) -> None:
    """The handler hears the end of a hundred that polled once, and all are forgotten (fault 1)."""
    server = await seam(**BRIEF)
    await asyncio.gather(*(poll(server.base, fresh()) for _ in range(100)))
    for number in range(100):
        await hurry(server.tape.until("goodbye", number, within=SOON), TICK)
    assert not server.manager.sessions


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_silent_client_in_a_busy_room_ends(seam: Seams, transport: str) -> None:
    """A client that neither reads nor answers ends, however busy its room is (fault 6)."""
    server = await seam(**BRIEF)
    await Visitor.enter(server.base, transport)
    async with chatter(server):
        await hurry(server.tape.until("goodbye", within=SILENT), TICK)
    assert server.tape.story() == ["open", "goodbye"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_live_client_in_a_busy_room_stays(seam: Seams, transport: str) -> None:
    """A client that only listens and answers pings outlives many heartbeats."""
    server = await seam(heartbeat=0.3, disconnect_delay=0.5)
    visitor = await Visitor.enter(server.base, transport)
    async with chatter(server):
        for _ in range(25):
            assert set(await hurry(visitor.hear(), TICK)) == {"chatter"}
    assert server.tape.story() == ["open"]


@pytest.mark.parametrize("transport", ["xhr", *STREAMS])
async def test_heartbeats_by_http(seam: Seams, transport: str) -> None:
    """An idle client gets h, or the end of its response, and stays."""
    server = await seam(heartbeat=0.3, disconnect_delay=0.5)
    visitor = await Visitor.enter(server.base, transport)
    for _ in range(5):
        frame = await hurry(visitor.frame(), TICK)
        assert frame in ("h", "")
        if not frame:
            await visitor.connect()
    assert server.tape.story() == ["open"]


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_heartbeats_by_websocket(seam: Seams, transport: str) -> None:
    """An idle WebSocket gets pings, and stays while it answers."""
    server = await seam(heartbeat=0.4, disconnect_delay=0.5)
    visitor = await Visitor.enter(server.base, transport)
    for _ in range(3):
        opcode, payload = await hurry(visitor.websocket.frame(), TICK)
        assert opcode == PING
        visitor.websocket.send(payload, PING + 1)
    assert server.tape.story() == ["open"]


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_sending_does_not_postpone_the_ping(seam: Seams, transport: str) -> None:
    """Only received data delays a ping, however much is sent (fault 6)."""
    server = await seam(**BRIEF)
    visitor = await Visitor.enter(server.base, transport)
    async with chatter(server):
        for _ in range(60):
            if (await hurry(visitor.websocket.frame(), TICK))[0] == PING:
                break
        else:
            pytest.fail("60 messages in 3 s, and no ping")


IDLE = {
    "ping": 6 * encode(b"", PING),
    "pong": 6 * encode(b"", PONG),
    "empty": 6 * encode(b"", TEXT),
    "tiny fragment": fragment(b"x", TEXT) + 5 * fragment(b"x", CONTINUATION),
    "no messages": 6 * encode(b"[]", TEXT),
    "padding": 2 * encode(b"[" + 2 * IDLE_BYTES * b" " + b"]", TEXT),
    "a padded message": 2 * encode(b'["x"' + 2 * IDLE_BYTES * b" " + b"]", TEXT),
}


SOCKJS_ONLY = ("no messages", "padding", "a padded message")


@pytest.mark.parametrize(
    ("kind", "transport"),
    [
        (kind, transport)
        for kind, transport in product(IDLE, WEBSOCKETS)
        if transport == "websocket" or kind not in SOCKJS_ONLY  # a raw WebSocket gets messages
    ],
)
async def test_frames_without_a_message_are_limited(
    seam: Seams, transport: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One too many between two sweeps ends the session; messages are not counted."""
    monkeypatch.setattr("videre.transport.websocket.MAX_IDLE_FRAMES", 5)
    server = await seam(heartbeat=3600.0)
    visitor = await Visitor.enter(server.base, transport)
    for number in range(10):
        await visitor.say(str(number))
    await server.tape.until("message", text="9")
    visitor.wire.writer.write(IDLE[kind])
    heard = [(TEXT, b"")]
    while heard[-1][0] != CLOSE:  # the answers to pings come first
        heard.append(await visitor.websocket.frame())
    raw = int.from_bytes(heard[-1][1][:2], "big")
    code = raw if transport == "raw" else json.loads(heard[-2][1][1:])[0]
    assert code == CloseCode.TOO_MANY_PACKETS
    assert server.tape.story()[-1] == "goodbye"


async def test_frames_with_messages_are_not_limited(
    seam: Seams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither large messages count, nor small ones between blanks."""
    monkeypatch.setattr("videre.transport.websocket.MAX_IDLE_FRAMES", 5)
    server = await seam(heartbeat=3600.0)
    visitor = await Visitor.enter(server.base, "websocket")
    large, quotes = "x" * 2 * IDLE_BYTES, r"\"" * IDLE_BYTES
    for text in (f'["{large}"]', f'["{quotes}"]', f'["x"{100 * " "}]'):
        visitor.wire.writer.write(10 * encode(text.encode(), TEXT))
    await visitor.say("last")
    await server.tape.until("message", text="last")
    assert server.tape.count("message") == 31


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_a_close_frame_without_a_code(seam: Seams, transport: str) -> None:
    """It is a normal end."""
    server = await seam()
    visitor = await Visitor.enter(server.base, transport)
    visitor.websocket.send(b"", CLOSE)
    assert (await server.tape.until("goodbye")).text == "clean"
    assert (await visitor.websocket.goodbye())[0] == 1000


STOPPABLE = """
import socket, sys
wire = socket.create_connection((sys.argv[1], int(sys.argv[2])))
wire.sendall(b"GET /echo/websocket HTTP/1.1\\r\\nHost: x\\r\\nUpgrade: websocket\\r\\n"
    b"Connection: Upgrade\\r\\nSec-WebSocket-Version: 13\\r\\n"
    b"Sec-WebSocket-Key: c2l4dGVlbiBieXRlcyBvaw==\\r\\n\\r\\n")
while data := wire.recv(65536):
    if b"\\x89\\x00" in data:
        wire.sendall(b"\\x8a\\x80\\0\\0\\0\\0")
        print("alive", flush=True)
"""


@pytest.mark.process
async def test_a_stopped_process_ends(seam: Seams) -> None:
    """A client process that answers pings and is then stopped by SIGSTOP ends (fault 6)."""
    server = await seam()
    host, port = server.runner.addresses[0][:2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", STOPPABLE, host, str(port), stdout=asyncio.subprocess.PIPE
    )
    try:
        await server.tape.until("open")
        await forward(26)  # to the ping; the process has the real 12 s until it counts as lost
        async with asyncio.timeout(WAIT_SECONDS):
            assert process.stdout and await process.stdout.readline() == b"alive\n"
        assert server.tape.story() == ["open"]
        process.send_signal(signal.SIGSTOP)
        async with chatter(server):
            await hurry(server.tape.until("goodbye", within=45), by=0.5)
    finally:
        process.kill()
        await process.communicate()
    assert server.tape.story() == ["open", "goodbye"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_servers_close_ends_a_session_once(seam: Seams, transport: str) -> None:
    """close() causes one end, even if the client leaves as well (fault 11)."""

    def received(session: Any, text: str) -> None:
        session.close(3001, "Enough")
        session.close(3002, "Twice")

    server = await seam(Script(received=received))
    visitor = await Visitor.enter(server.base, transport)
    await visitor.say("enough")
    assert await visitor.goodbye() == (3001, "Enough")
    await visitor.wire.close()
    await at_once(server.tape.until("goodbye"))
    await server.stop()
    assert [event.kind for event in server.tape.events] == ["open", "message", "goodbye"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_close_without_a_reason(seam: Seams, transport: str) -> None:
    """It has that of SockJS."""
    server = await seam(Script(received=lambda session, _text: session.close()))
    visitor = await Visitor.enter(server.base, transport)
    await visitor.say("enough")
    assert await visitor.goodbye() == (3000, "Go away!")


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_the_last_words_of_a_client_are_heard(seam: Seams, transport: str) -> None:
    """Messages sent right before a client's close are delivered, however slow the handler (11)."""
    gate = asyncio.get_running_loop().create_future()
    server = await seam(Script(received=lambda session, text: gate))
    visitor = await Visitor.enter(server.base, transport)
    for text in ("first", "second", "last"):
        await visitor.say(text)
    visitor.websocket.send((1000).to_bytes(2, "big"), CLOSE)
    await server.tape.until("leaving")  # the handler hears of it, so that it need not wait
    gate.set_result(None)
    await at_once(server.tape.until("goodbye"))
    story = ["message first", "leaving", "message second", "message last", "goodbye"]
    assert server.tape.story() == ["open", *story]


@pytest.mark.skipif(STOCK, reason="the stock plugin does not tell")
@pytest.mark.parametrize("transport", WEBSOCKETS)
@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("1000", "clean"),
        ("1001", "clean"),
        ("fin", "lost"),
        ("rst", "lost"),
        ("too large", "clean"),  # the same packet would be too large again
    ],
)
async def test_a_handler_hears_how_its_session_ended(
    seam: Seams, transport: str, how: str, word: str
) -> None:
    """A close is a clean end, and a break is a loss, after which the client may resume."""
    server = await seam()
    visitor = await Visitor.enter(server.base, transport)
    if how.isdigit():
        visitor.websocket.send(int(how).to_bytes(2, "big"), CLOSE)
    else:
        await misbehave(visitor, how)
    assert (await at_once(server.tape.until("goodbye"))).text == word


@pytest.mark.skipif(STOCK, reason="the stock plugin does not tell")
@pytest.mark.parametrize("transport", WEBSOCKETS)
@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_close_is_clean_while_the_handler_is_busy(
    seam: Seams, transport: str, code: int
) -> None:
    """Even if the connection ends before it can be answered, as when a page is left."""
    gate = asyncio.get_running_loop().create_future()
    server = await seam(Script(received=lambda session, text: gate))
    visitor = await Visitor.enter(server.base, transport)
    await visitor.say("work")
    await server.tape.until("message")
    visitor.websocket.send(code.to_bytes(2, "big"), CLOSE)
    await visitor.wire.close()
    assert (await at_once(server.tape.until("goodbye"))).text == "clean"
    gate.set_result(None)
