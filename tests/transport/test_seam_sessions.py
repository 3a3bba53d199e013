"""A session belongs to its opener, hears what it should, and keeps messages sent to it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest
from seam import STOCK, Script, Seam, Seams
from sockjs_client import FORM, Stream, array, ask, fresh, poll, send
from visitors import TRANSPORTS, WEBSOCKETS, Visitor
from websocket_client import handshake

pytest_plugins = ("sockjs_fixtures",)

ELSEWHERE = "127.0.0.2"
SECOND_RECEIVER = 'c[2010,"Another connection still open"]'


@pytest.mark.parametrize("transport", ["xhr", "xhr_streaming", "eventsource"])
async def test_a_second_receiver_leaves_the_first_alone(seam: Seams, transport: str) -> None:
    """A refused receiver, such as a proxy's retry, does not harm the session (fault 3)."""
    server = await seam()
    visitor = await Visitor.enter(server.base, transport)
    for _ in range(3):
        assert await poll(server.base, visitor.session) == f"{SECOND_RECEIVER}\n"
    await visitor.say("still here")
    await server.tape.until("message", text="still here")
    server.tape.sessions[0].send("so am I")
    assert await visitor.hear() == ["so am I"]
    assert server.tape.story() == ["open", "message still here"]


@pytest.mark.parametrize("url", ["xhr_send", "jsonp_send"])
async def test_nobody_sends_into_a_websocket_session(seam: Seams, url: str) -> None:
    """Knowing its URL is not enough (fault 4)."""
    server = await seam(jsonp=True)
    visitor = await Visitor.enter(server.base, "websocket")
    intruder = await ask(server.base, "POST", f"{visitor.session}/{url}", array("injected"))
    assert intruder.status == 404
    await visitor.say("mine")
    await server.tape.until("message", text="mine")
    assert server.tape.story() == ["open", "message mine"]


async def test_nobody_listens_to_a_websocket_session(seam: Seams) -> None:
    """A poll at its URL is a session of its own, and disturbs nothing (fault 4)."""
    server = await seam()
    visitor = await Visitor.enter(server.base, "websocket")
    assert await poll(server.base, visitor.session) == "o\n"
    assert await send(server.base, visitor.session, "the other's")
    await visitor.say("mine")
    await server.tape.until("message", text="mine")
    assert server.tape.story(0) == ["open", "message mine"]
    assert server.tape.story(1) == ["open", "message the other's"]


async def test_nobody_inherits_a_lost_websocket(seam: Seams) -> None:
    """Messages for a WebSocket that broke are not given to anyone at its URL (fault 4)."""
    server = await seam()
    visitor = await Visitor.enter(server.base, "websocket")
    visitor.wire.reset()
    server.tape.sessions[0].send("a secret")
    assert await poll(server.base, visitor.session) == "o\n"
    server.tape.sessions[-1].send("nothing secret")
    assert await poll(server.base, visitor.session) == 'a["nothing secret"]\n'


async def test_a_session_belongs_to_its_address(seam: Seams) -> None:
    """Another address can neither receive nor send at this URL (fault 4)."""
    server = await seam(jsonp=True)
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    for method, url in (
        ("POST", "xhr"),
        ("POST", "xhr_send"),
        ("POST", "xhr_streaming"),
        ("GET", "eventsource"),
        ("GET", "jsonp?c=x"),
        ("POST", "jsonp_send"),
    ):
        answer = await ask(server.base, method, f"{session}/{url}", array("x"), source=ELSEWHERE)
        assert answer.status == 404, url
    assert (await send(server.base, session, "mine")).status == 204
    server.tape.sessions[0].send("yours")
    assert await poll(server.base, session) == 'a["yours"]\n'
    assert server.tape.story() == ["open", "message mine"]


async def test_a_session_outlives_a_reload_of_the_proxies(seam: Seams) -> None:
    """Its client is still known by the address that it had; another one is not let in."""
    server = await seam()
    session, headers = fresh(), {"X-Forwarded-For": "203.0.113.9"}
    assert (await ask(server.base, "POST", f"{session}/xhr", b"", headers)).text == "o\n"
    server.manager.configure(replace(server.manager.options, trusted_proxies=("127.0.0.1",)))
    answer = await ask(server.base, "POST", f"{session}/xhr_send", array("mine"), headers)
    assert answer.status == 204
    server.tape.sessions[0].send("yours")
    answer = await ask(server.base, "POST", f"{session}/xhr", b"", headers, source=ELSEWHERE)
    assert answer.status == 404
    answer = await ask(server.base, "POST", f"{session}/xhr", b"", headers)
    assert answer.text == 'a["yours"]\n'


async def test_no_disconnect_delay(seam: Seams) -> None:
    """A server that allows no pause between polls still serves (fault 8)."""
    server = await seam(disconnect_delay=0)
    answer = await ask(server.base, "POST", f"{fresh()}/xhr", b"")
    assert (answer.status, answer.text) == (200, "o\n")


async def test_a_last_message_waits_for_the_poll(seam: Seams) -> None:
    """A message sent before a close is polled first, then the code and the reason (fault 9)."""

    def received(session: Any, text: str) -> None:
        session.send("last words")
        session.close(4500, "bye")

    server = await seam(Script(received=received))
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    assert (await send(server.base, session, "leave")).status == 204
    assert await poll(server.base, session) == 'a["last words"]\n'
    for _ in range(2):
        assert await poll(server.base, session) == 'c[4500,"bye"]\n'


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_last_message_is_heard_before_the_close(seam: Seams, transport: str) -> None:
    """On every transport the last message comes, then the code and the reason (fault 9)."""

    def received(session: Any, text: str) -> None:
        session.send("last words")
        session.close(4500, "bye")

    server = await seam(Script(received=received))
    visitor = await Visitor.enter(server.base, transport)
    await visitor.say("leave")
    assert await visitor.hear() == ["last words"]
    assert await visitor.goodbye() == (4500, "bye")


async def test_a_message_cannot_open_a_session(seam: Seams) -> None:
    """A POST to the receiving jsonp URL delivers nothing before the opening (fault 11)."""
    server = await seam(jsonp=True)
    body = b"d=%5B%22early%22%5D"
    answer = await ask(server.base, "POST", f"{fresh()}/jsonp", body, FORM)
    assert answer.status == 405
    assert server.tape.events == []


async def test_a_slow_opening_lets_no_second_receiver_in(seam: Seams) -> None:
    """The session is taken before its handler runs, however long that takes (fault 11)."""
    gate = asyncio.get_running_loop().create_future()
    server = await seam(Script(opened=lambda session: gate))
    session = fresh()
    first = await Stream.open(server.base, "POST", f"{session}/xhr_streaming")
    await server.tape.until("open")
    try:
        assert await poll(server.base, session) == f"{SECOND_RECEIVER}\n"
    finally:
        gate.set_result(None)
    await first.until()
    assert await first.until() == "o\n"


async def test_no_message_after_the_close(seam: Seams) -> None:
    """Messages after the server's close are not delivered (fault 11)."""
    server = await seam(Script(received=lambda session, text: session.close(3000, "bye")))
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    await ask(server.base, "POST", f"{session}/xhr_send", array("leave", "and one more"))
    await send(server.base, session, "late")
    assert await poll(server.base, session) == 'c[3000,"bye"]\n'
    assert server.tape.story() == ["open", "message leave", "goodbye"]


async def test_no_message_after_the_close_of_a_websocket(seam: Seams) -> None:
    """Frames in flight when the server closed are not delivered (fault 11)."""
    server = await seam(Script(received=lambda session, text: session.close(3000, "bye")))
    visitor = await Visitor.enter(server.base, "raw")
    for text in ("leave", "late", "later"):
        visitor.websocket.send(text)
    await visitor.goodbye()
    await server.tape.until("goodbye")
    assert server.tape.story() == ["open", "message leave", "goodbye"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_session_that_is_over_is_silent(seam: Seams, transport: str) -> None:
    """send and close have no effect on an ended session, and never raise."""
    server = await seam(disconnect_delay=0.5)
    visitor = await Visitor.enter(server.base, transport)
    visitor.wire.reset()
    await server.tape.until("goodbye")
    for _ in range(3):
        server.tape.sessions[0].send("into the void")
        server.tape.sessions[0].close(3000, "Go away!")
    assert server.tape.story() == ["open", "goodbye"]


async def test_the_limit_of_sessions_in_all(seam: Seams) -> None:
    """Above it all transports get a 503; open sessions stay, and an ended one frees its place."""
    server = await seam(max_connections=2)
    first = await Visitor.enter(server.base, "raw")
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    await assert_full(server)
    assert (await send(server.base, session, "a")).status == 204
    assert server.tape.count("open") == 2
    first.wire.reset()
    await server.tape.until("goodbye", 0)
    await Visitor.enter(server.base, "websocket")
    await assert_full(server)


async def test_the_limit_of_an_address(seam: Seams) -> None:
    """Above it that address gets a 503, and others do not."""
    server = await seam(max_connections_per_address=1)
    await Visitor.enter(server.base, "websocket")
    await assert_full(server)
    await Visitor.enter(server.base, "websocket", source=ELSEWHERE)
    await assert_full(server, source=ELSEWHERE)
    assert server.tape.count("open") == 2


async def assert_full(server: Seam, source: str | None = None) -> None:
    """Check that every transport is refused."""
    for method, path in (
        ("POST", f"{fresh()}/xhr"),
        ("POST", f"{fresh()}/xhr_streaming"),
        ("GET", f"{fresh()}/eventsource"),
        ("GET", f"{fresh()}/websocket"),
        ("GET", "/echo/websocket"),
    ):
        headers = handshake() if path.endswith("websocket") else None
        body = b"" if method == "POST" else None
        answer = await ask(server.base, method, path, body, headers, source=source)
        assert answer.status == 503, path


@pytest.mark.parametrize("transport", [*WEBSOCKETS, "xhr"])
@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ((), "203.0.113.9", "127.0.0.1"),
        (("10.0.0.0/8",), "203.0.113.9", "127.0.0.1"),
        (("127.0.0.1",), "203.0.113.9", "203.0.113.9"),
        (("127.0.0.0/8",), "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        (("127.0.0.0/8", "10.0.0.0/8"), "6.6.6.6, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        (("127.0.0.1",), "nonsense", "127.0.0.1"),
    ],
)
async def test_the_clients_address(
    seam: Seams, transport: str, trusted: tuple[str, ...], forwarded: str, address: str
) -> None:
    """Only a trusted proxy's X-Forwarded-For counts, and only the part that proxies vouch for."""
    server = await seam(trusted_proxies=trusted)
    headers = {"X-Forwarded-For": forwarded}
    if transport == "xhr":
        await ask(server.base, "POST", f"{fresh()}/xhr", b"", headers)
    else:
        path = "/echo/websocket" if transport == "raw" else f"{fresh()}/websocket"
        await ask(server.base, "GET", path, headers=handshake(headers))
    await server.tape.until("open")
    assert server.tape.sessions[0].address == address


async def test_session_ids_are_not_logged(seam: Seams, caplog: pytest.LogCaptureFixture) -> None:
    """No log line has a whole session id, so readers of logs cannot take sessions (fault 4)."""
    caplog.set_level(logging.DEBUG)

    def received(session: Any, text: str) -> None:
        logging.getLogger("test").info("%s %r", session, session)
        raise ValueError("a broken handler")

    server = await seam(Script(received=received))
    visitors = [await Visitor.enter(server.base, transport) for transport in TRANSPORTS]
    for number, visitor in enumerate(visitors):
        await visitor.say("break")
        await server.tape.until("message", number)
        visitor.wire.reset()
    await server.stop()
    for visitor in visitors:
        assert visitor.session.rsplit("/", 1)[1] not in caplog.text


@pytest.mark.skipif(STOCK, reason="the stock plugin has none of this")
async def test_a_session_has_its_transports_name(seam: Seams) -> None:
    """A handler can see which transport carries its session."""
    server = await seam()
    for transport in TRANSPORTS:
        await Visitor.enter(server.base, transport)
    names = [session.transport for session in server.tape.sessions]
    assert len(set(names)) == len(TRANSPORTS)
