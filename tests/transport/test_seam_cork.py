"""The cork: messages sent while a chunk of several frames is handled go out in one write."""

from __future__ import annotations

from typing import Any

import pytest
from seam import Script, Seam
from websocket_client import TEXT, Socket, encode

pytest_plugins = ("sockjs_fixtures",)

FRAMES = 10


class Echo:
    """Answers each message twice; records each write, and whether the cork was on meanwhile."""

    def __init__(self) -> None:
        self.corked: list[bool] = []
        self.writes: list[bytes] = []

    def received(self, session: Any, text: str) -> None:
        """Answer a message."""
        self.corked.append(session.shared.cork is not None)
        session.send(text)
        session.send(text)

    def watch(self, session: Any, patch: pytest.MonkeyPatch) -> None:
        """Record the writes to a session's connection from now on."""
        write = session._tcp.write

        def noted(data: bytes) -> None:
            self.writes.append(data)
            write(data)

        patch.setattr(session._tcp, "write", noted)


async def enter(server: Seam, number: int = 0) -> Socket:
    """Return a client with an open session."""
    client = await Socket.open(server.base, "/echo/websocket")
    await server.tape.until("open", number)
    return client


async def test_answers_to_several_frames_are_one_write(
    seam: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender and each other session get one write; a chunk of one frame needs no cork."""
    echo = Echo()
    server: Seam = await seam(Script(received=echo.received))
    client = await enter(server)
    echo.watch(server.tape.sessions[0], monkeypatch)
    client.send("alone")
    assert [await client.text() for _ in range(2)] == ["alone"] * 2
    assert (echo.corked, len(echo.writes)) == ([False], 2)
    client.wire.writer.write(b"".join(encode(b"%d" % number, TEXT) for number in range(FRAMES)))
    texts = [await client.text() for _ in range(2 * FRAMES)]
    assert texts == [str(number) for number in range(FRAMES) for _ in range(2)]
    assert echo.corked[1:] == [True] * FRAMES
    assert len(echo.writes) == 3


async def test_others_get_one_write_too(seam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A room's members get all messages of a chunk at once."""
    echo = Echo()
    server: Seam = await seam()
    sender, receiver = await enter(server), await enter(server, 1)
    server.script.received = lambda _session, text: server.broadcast(text)
    echo.watch(server.tape.sessions[1], monkeypatch)
    sender.wire.writer.write(b"".join(encode(b"%d" % number, TEXT) for number in range(FRAMES)))
    assert [await receiver.text() for _ in range(FRAMES)] == [str(n) for n in range(FRAMES)]
    assert len(echo.writes) == 1


async def test_the_cork_is_off_afterwards(seam: Any) -> None:
    """Messages sent later, without a frame, go out at once."""
    server: Seam = await seam()
    client = await enter(server)
    client.wire.writer.write(b"".join(encode(b"x", TEXT) for _ in range(FRAMES)))
    await server.tape.until("message")
    assert server.manager.shared.cork is None
    server.broadcast("later")
    assert await client.text() == "later"


@pytest.mark.parametrize(("size", "is_spared"), [(600, False), (1000, False), (1001, True)])
async def test_only_one_packet_is_spared_the_limit(
    seam: Any, monkeypatch: pytest.MonkeyPatch, size: int, is_spared: bool
) -> None:
    """Several that are larger only together are not: they may wait like those written alone."""
    server: Seam = await seam(max_backlog_bytes=1000)
    client = await enter(server)
    session = server.tape.sessions[0]
    head = len(session._frame("")) + 2  # of a frame that is not tiny
    server.script.received = lambda session, _text: session.send("x" * (size - head))
    limits: list[int] = []
    monkeypatch.setattr(session._tcp, "set_write_buffer_limits", lambda high: limits.append(high))
    client.wire.writer.write(3 * encode(b"x", TEXT))
    assert [len(await client.text()) for _ in range(3)] == [size - head] * 3
    assert bool(limits) is is_spared
