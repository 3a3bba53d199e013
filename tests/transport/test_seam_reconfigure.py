"""New limits of sizes and backlogs apply to open sessions at once."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from patience import patient
from seam import PREFIX, Seam, Seams
from sockjs_client import ask
from visitors import TRANSPORTS, WEBSOCKETS, Visitor
from websocket_client import CONTINUATION, TEXT, encode, fragment

from videre.errors import CloseCode
from videre.transport import Options

pytest_plugins = ("sockjs_fixtures",)

CHUNK = "x" * 65_536
LIMIT = 256 * 1024  # bytes
MUCH = 64 * 1024 * 1024  # bytes
FLOOD = 320  # chunks, 20 MB: more than the kernel's buffers and the limit together

PACKET = 100  # bytes; a frame may be four times as long
LONG = "y" * (6 * PACKET)  # too long for a frame, unless twice the packet is allowed


def options(server: Seam, **changes: Any) -> Options:
    """Return the server's options with changes."""
    current: Options = server.manager.options
    return dataclasses.replace(current, **changes)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_lower_limit_of_the_backlog(seam: Seams, transport: str) -> None:
    """Whoever holds more than the new limit is dropped with the next message."""
    server = await seam(max_backlog_bytes=MUCH, streaming_limit=1 << 40)
    await Visitor.enter(server.base, transport, receive_buffer=4096)
    (session,) = server.tape.sessions
    for _ in range(FLOOD):
        session.send(CHUNK)
    assert session.backlog > LIMIT
    server.manager.configure(options(server, max_backlog_bytes=LIMIT))
    session.send(CHUNK)
    await server.tape.until("goodbye", within=patient(20.0))  # a silent client has 37.5 s


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_higher_limit_of_the_backlog(seam: Seams, transport: str) -> None:
    """Who reads late gets everything."""
    server = await seam(max_backlog_bytes=LIMIT, streaming_limit=1 << 40)
    visitor = await Visitor.enter(server.base, transport, receive_buffer=4096)
    (session,) = server.tape.sessions
    server.manager.configure(options(server, max_backlog_bytes=MUCH))
    for _ in range(FLOOD):
        session.send(CHUNK)
    heard: list[str] = []
    while len(heard) < FLOOD:
        heard += await visitor.hear()
    assert server.tape.story() == ["open"]


def say(visitor: Visitor, text: str, *, pieces: bool) -> None:
    """Send a text in one frame or in two."""
    message = (text if visitor.transport == "raw" else json.dumps([text])).encode()
    two = fragment(message[:5], TEXT) + encode(message[5:], CONTINUATION)
    visitor.wire.writer.write(two if pieces else encode(message, TEXT))


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_a_higher_limit_of_frames(seam: Seams, transport: str, pieces: bool) -> None:
    """It applies from the next message on."""
    server = await seam(max_packet_bytes=PACKET)
    visitor = await Visitor.enter(server.base, transport)
    say(visitor, "one", pieces=pieces)
    await server.tape.until("message", text="one")
    server.manager.configure(options(server, max_packet_bytes=2 * PACKET))
    say(visitor, LONG, pieces=pieces)
    await server.tape.until("message", text=LONG)


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_a_lower_limit_of_frames(seam: Seams, transport: str, pieces: bool) -> None:
    """A frame that was allowed closes the connection."""
    server = await seam(max_packet_bytes=2 * PACKET)
    visitor = await Visitor.enter(server.base, transport)
    say(visitor, LONG, pieces=pieces)
    await server.tape.until("message", text=LONG)
    server.manager.configure(options(server, max_packet_bytes=PACKET))
    say(visitor, LONG, pieces=pieces)
    assert (await visitor.websocket.goodbye())[0] == CloseCode.TOO_LARGE


async def test_who_may_frame_the_iframe_page(seam: Seams) -> None:
    """A browser that has the page asks whether others may frame it now, and gets the new policy."""
    server = await seam(origins=("https://a.example",))
    path = f"{PREFIX}/iframe.html"
    old = await ask(server.base, "GET", path)
    assert old.headers["Cache-Control"] == "no-cache" and "Expires" not in old.headers
    known = {"If-None-Match": old.headers["ETag"]}
    assert (await ask(server.base, "GET", path, None, known)).status == 304
    server.manager.configure(options(server, origins=("https://b.example",)))
    new = await ask(server.base, "GET", path, None, known)
    assert new.status == 200
    assert new.headers["Content-Security-Policy"] == "frame-ancestors https://b.example"
