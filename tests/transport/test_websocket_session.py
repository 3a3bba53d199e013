"""A WebSocket session from one sweep to the next; the tests sweep themselves."""

from __future__ import annotations

import asyncio

import pytest
from patience import eventually
from seam import Script, Seam, Seams
from visitors import WEBSOCKETS, Visitor
from websocket_client import CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, encode, fragment

from videre.errors import CloseCode
from videre.transport.websocket import LEAST_FRAGMENT, WebSocketSession

pytestmark = pytest.mark.parametrize("transport", WEBSOCKETS)
pytest_plugins = ("sockjs_fixtures",)


async def enter(
    seam: Seams, transport: str, script: Script | None = None
) -> tuple[Seam, WebSocketSession, Visitor]:
    """Return a server, an open session, and its client."""
    server = await seam(script, heartbeat=600, disconnect_delay=600)
    visitor = await Visitor.enter(server.base, transport)
    session = server.tape.sessions[0]
    assert isinstance(session, WebSocketSession)
    return server, session, visitor


async def test_pings(seam: Seams, transport: str) -> None:
    """The first comes after a heartbeat of silence, and the next a heartbeat after its answer."""
    server, session, visitor = await enter(seam, transport)
    for number in range(3):
        for _ in range(server.manager.shared.heartbeat_sweeps - 1):
            session.sweep()
        session.send(str(number))
        session.sweep()
        assert await visitor.hear() == [str(number)]
        assert await visitor.websocket.frame() == (PING, b"")
        visitor.websocket.send(b"", PONG)
        await eventually(lambda: session.silent == 0)


async def test_a_silent_client_is_given_up(seam: Seams, transport: str) -> None:
    """After one and a half heartbeats, and not before."""
    server, session, _ = await enter(seam, transport)
    for _ in range(server.manager.shared.lost_sweeps - 1):
        session.sweep()
    assert server.tape.story() == ["open"]
    session.sweep()
    assert server.tape.events[-1].text == "lost" and session.is_cut


async def test_an_unanswered_close(seam: Seams, transport: str) -> None:
    """The connection is cut when the time for the answer is over."""
    server, session, visitor = await enter(seam, transport)
    server.manager.shared.goodbye_sweeps = 3
    session.close(3001, "Enough")
    session.close(3002, "Twice")
    if transport == "websocket":
        assert await visitor.websocket.frame() == (TEXT, b'c[3001,"Enough"]')
    assert await visitor.websocket.frame() == (CLOSE, (3001).to_bytes(2, "big") + b"Enough")
    for _ in range(2):
        session.sweep()
    assert not session.is_cut
    session.sweep()
    assert session.is_cut
    assert await visitor.wire.ended()


@pytest.mark.parametrize(
    ("code", "how"),
    [(3001, "clean"), (4001, "lost"), (CloseCode.GOING_AWAY, "lost"), (4503, "clean")],
)
async def test_a_close_that_asks_for_a_return_is_no_clean_end(
    seam: Seams, transport: str, code: int, how: str
) -> None:
    """The client's seat is kept for its return."""
    server, session, _ = await enter(seam, transport)
    session.close(code, "")
    assert (await server.tape.until("goodbye")).text == how


async def test_a_message_must_be_finished(seam: Seams, transport: str) -> None:
    """Its client may live, but has one and a half heartbeats; the next message has them anew."""
    server, session, visitor = await enter(seam, transport)
    sweeps = server.manager.shared.lost_sweeps
    for last in (False, True):
        visitor.wire.writer.write(fragment(b'"x', TEXT))
        await eventually(lambda: session.unfinished)
        for _ in range(sweeps - 1):
            session.sweep()
            session.silent = 0
        assert server.tape.count("goodbye") == 0
        if not last:
            visitor.websocket.send(b'"', CONTINUATION)
            await server.tape.until("message")
            session.sweep()
    session.sweep()
    assert await visitor.websocket.goodbye() == (1002, "Message not finished in time")


async def test_fragments_are_counted_if_they_are_tiny(
    seam: Seams, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may send any number of larger ones."""
    monkeypatch.setattr("videre.transport.websocket.MAX_IDLE_FRAMES", 5)
    server, session, visitor = await enter(seam, transport)
    for size in (LEAST_FRAGMENT, LEAST_FRAGMENT - 1):
        visitor.wire.writer.write(fragment(b'"' + b"x" * LEAST_FRAGMENT, TEXT))
        visitor.wire.writer.write(10 * fragment(b"x" * size, CONTINUATION))
        if size == LEAST_FRAGMENT:
            visitor.websocket.send(b'"', CONTINUATION)
            await server.tape.until("message")
            session.sweep()
    assert (await visitor.goodbye())[0] == CloseCode.TOO_MANY_PACKETS


async def test_a_flood_after_the_close(
    seam: Seams, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut at once: a client that answers does not send this much."""
    monkeypatch.setattr("videre.transport.websocket.MAX_IDLE_FRAMES", 5)
    _, session, visitor = await enter(seam, transport)
    session.close(3001, "Enough")
    visitor.wire.writer.write(5 * encode(b'"x"', TEXT) + encode(b"", PING))
    await eventually(lambda: session.is_cut)


async def test_what_was_on_its_way_at_the_close(
    seam: Seams, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client learns why it was closed, although it had sent 90 large messages more."""
    cuts: list[WebSocketSession] = []
    monkeypatch.setattr(WebSocketSession, "cut", cuts.append)
    _, session, visitor = await enter(seam, transport)
    session.close(4003, "Enough")
    visitor.wire.writer.write(90 * encode(b'"' + 60_000 * b"x" + b'"', TEXT))
    visitor.websocket.send((1000).to_bytes(2, "big"), CLOSE)
    assert await visitor.goodbye() == (4003, "Enough")
    assert await visitor.wire.ended()
    assert cuts == []


async def test_what_waits_goes_with_its_session(seam: Seams, transport: str) -> None:
    """It is not kept until a handler that hangs has returned."""
    gate = asyncio.get_running_loop().create_future()
    server, _, visitor = await enter(seam, transport, Script(received=lambda *_: gate))
    inboxes = server.manager.shared.inboxes
    for text in ("hang", "wait"):
        await visitor.say(text)
    await eventually(lambda: inboxes.total > 0)
    visitor.wire.reset()
    await server.tape.until("goodbye")
    assert inboxes.total == 0
    gate.set_result(None)


@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
async def test_a_clients_close_code_is_answered(seam: Seams, transport: str, code: int) -> None:
    """With the same code (RFC 6455, 5.5.1)."""
    _, _, visitor = await enter(seam, transport)
    visitor.websocket.send(code.to_bytes(2, "big"), CLOSE)
    assert (await visitor.websocket.goodbye())[0] == code


@pytest.mark.parametrize("code", [1, 999, 1004, 1006, 1015, 1016, 2999, 5000, 65_535])
async def test_a_close_code_that_nobody_may_send(seam: Seams, transport: str, code: int) -> None:
    """It breaks the protocol (RFC 6455, 7.4)."""
    _, _, visitor = await enter(seam, transport)
    visitor.websocket.send(code.to_bytes(2, "big"), CLOSE)
    assert (await visitor.websocket.goodbye())[0] == 1002


async def test_a_lost_client_is_not_waited_for(seam: Seams, transport: str) -> None:
    """A shutdown waits for the answers of the others only."""
    server, session, visitor = await enter(seam, transport)
    assert session.is_receiving
    visitor.wire.reset()
    await server.tape.until("goodbye")
    assert not session.is_receiving


async def test_a_handler_that_cannot_be_made(
    seam: Seams, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its session is closed with 4000, and the log has the one reason."""
    server = await seam(Script(opened=lambda _: 1 / 0))
    visitor = Visitor(server.base, transport, None, 0)
    await visitor.connect()
    if transport == "websocket":
        assert await visitor.frame() == "o"
    assert (await visitor.goodbye())[0] == CloseCode.INTERNAL_ERROR
    (record,) = caplog.records
    assert record.exc_info is not None and record.exc_info[0] is ZeroDivisionError


async def test_the_sessions_of_an_address_are_counted(seam: Seams, transport: str) -> None:
    """Until the last has ended; then nothing is left of it."""
    server, *_, first = await enter(seam, transport)
    second = await Visitor.enter(server.base, transport)
    addresses = server.manager.admission._addresses
    assert addresses == {"127.0.0.1": 2}
    first.wire.reset()
    await server.tape.until("goodbye", 0)
    assert addresses == {"127.0.0.1": 1}
    second.wire.reset()
    await server.tape.until("goodbye", 1)
    assert addresses == {}


async def test_the_backlog_is_measured(
    seam: Seams, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the sum of what waits for each client, in slices or at once."""
    monkeypatch.setattr("videre.transport.manager.COUNTED_AT_ONCE", 2)
    server, _, _ = await enter(seam, transport)
    for _ in range(4):
        await Visitor.enter(server.base, transport)
    manager = server.manager
    assert await manager.measure_backlog() == manager.backlog == 0
    for waiting, session in enumerate(server.tape.sessions, 1):
        monkeypatch.setattr(session._tcp, "get_write_buffer_size", lambda waiting=waiting: waiting)
    assert await manager.measure_backlog() == manager.backlog == 15


BAD = {
    "reserved": bytes([FIN | 3]) + encode(b"", PING)[1:],
    "compressed": bytes([FIN | 0x40 | PING]) + encode(b"", PING)[1:],
    "unmasked": bytes([FIN | TEXT, 1]) + b"x",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_frames_before_a_bad_one_are_heard(seam: Seams, transport: str, bad: bytes) -> None:
    """Even if all come at once."""
    server, _, visitor = await enter(seam, transport)
    visitor.wire.writer.write(encode(b"", PING) + encode(b'"x"', TEXT) + bad + encode(b'"y"', TEXT))
    assert await visitor.websocket.frame() == (PONG, b"")
    assert (await visitor.websocket.goodbye())[0] == 1002
    said = "x" if transport == "websocket" else '"x"'
    assert server.tape.story() == ["open", f"message {said}", "goodbye"]
