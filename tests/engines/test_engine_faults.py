"""Whatever the library raises when a connection dies, the caller gets an EngineError."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from engine_nodes import Node, nodes_on
from patience import eventually
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import InvalidResponse
from valkey_server import valkey

from videre.engines.redis.pipe import Pipe
from videre.errors import EngineError
from videre.ids import RoomId
from videre.settings import JoinPolicy

pytestmark = pytest.mark.process


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """Give a node with one member in `room`."""
    async with valkey(tmp_path) as server, nodes_on(server.url) as nodes:
        node = await nodes.add()
        await node.join("a")
        await node.hears("joined")
        yield node


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[type[BaseException] | None]:
    """Return the classes of the errors logged with a traceback."""
    return [record.exc_info[0] for record in caplog.records if record.exc_info]


async def goes_on(node: Node) -> None:
    """Check that the node still works."""
    await node.is_ready()
    seat = next(iter(node.engine._node.own))
    await node.keep_publishing(seat, "on we go")
    await node.hears("sent")


async def test_a_closed_transport(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """uvloop raises RuntimeError for a write to a transport that has just closed."""
    flush = Pipe._flush

    class Closed:
        """A transport that has closed."""

        def __init__(self, transport: Any) -> None:
            self.abort = transport.abort

        def write(self, _: bytes) -> None:
            raise RuntimeError("unable to perform operation on <TCPTransport>; it is closed")

    def flushed(pipe: Any) -> None:
        pipe._transport = Closed(pipe._transport)
        flush(pipe)

    with monkeypatch.context() as patch:
        patch.setattr(Pipe, "_flush", flushed)
        with pytest.raises(EngineError):
            await node.engine.join("room", "b", "b1", ("", ""), JoinPolicy())
    assert not tracebacks(caplog)
    await goes_on(node)


async def test_a_connection_of_the_library_fails(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another task closed it while a command was in flight, so redis-py's writer is None."""
    send = AbstractConnection._send_packed_command

    async def closed(connection: Any, command: Any) -> None:
        connection._writer.close()
        connection._writer = None
        await send(connection, command)

    with monkeypatch.context() as patch:
        patch.setattr(AbstractConnection, "_send_packed_command", closed)
        with pytest.raises(EngineError):
            await node.engine.rooms(None, 10)
    assert AttributeError in tracebacks(caplog)
    await goes_on(node)


@pytest.mark.parametrize("kind", [AttributeError, KeyError, ValueError, TypeError, RecursionError])
async def test_the_library_may_raise_anything(
    node: Node,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type[Exception],
) -> None:
    """It is reported as an outage, with a traceback: it may be our own mistake."""

    async def fails(*_: object) -> None:
        raise kind("something is wrong")

    def fails_at_once(*_: object) -> None:
        raise kind("something is wrong")

    with monkeypatch.context() as patch:
        patch.setattr(AbstractConnection, "_send_packed_command", fails)
        patch.setattr(Pipe, "write", fails_at_once)
        for call in (node.engine.members("room"), node.engine.rooms(None, 10)):
            with pytest.raises(EngineError):
                await call
            node.engine._node.sound_since = 0.0  # so that the next one is tried as well
    assert kind in tracebacks(caplog)
    await goes_on(node)


async def test_an_unreadable_answer(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """The connection is given up, and all callers that wait on it get an error."""
    calls = next(iter(node.engine._node.store._servers._found.values()))
    asked = [asyncio.create_task(node.engine.members("room")) for _ in range(3)]
    await asyncio.sleep(0)  # one turn, in which all are sent and none is answered yet
    assert len(calls._waiting) == 3
    assert calls._pipe is not None
    calls._pipe.data_received(b"?what\r\n")
    for each in asked:
        with pytest.raises(EngineError):
            await each
    assert InvalidResponse not in tracebacks(caplog)
    await goes_on(node)


async def test_the_receiver_of_messages_may_fail(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The node subscribes again and misses none of the published messages."""
    heard = node.engine._node.store._heard
    failed: list[Any] = []

    def fails(room: RoomId, message: Any) -> None:
        if not failed:
            failed.append(message)
            raise LookupError("a mistake")
        heard(room, message)

    monkeypatch.setattr(node.engine._node.store, "_heard", fails)
    await node.engine.publish("room", "", "not missed")
    await eventually(lambda: bool(failed))
    await node.is_ready()
    assert (await node.hears("sent"))[0][3] == "not missed"
    assert LookupError in tracebacks(caplog)
    await goes_on(node)


async def test_a_known_loss_has_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A restarted server is one line in the log."""
    async with valkey(tmp_path) as server, nodes_on(server.url) as nodes:
        one = await nodes.add()
        await one.join("a")
        await one.hears("joined")
        await server.stop()
        await eventually(lambda: not one.engine._node.ready)
        await server.start()
        await goes_on(one)
    assert not tracebacks(caplog)
    assert any(record.levelno == logging.WARNING for record in caplog.records)
