"""An upgraded connection is ours alone: all that `transport.handover` relies on in aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.helpers import DEFAULT_CHUNK_SIZE
from alive import Alive
from patience import WAIT_SECONDS
from seam import PREFIX, Script, Seam
from skipping import hurry
from sockjs_client import Wire
from visitors import WEBSOCKETS, Visitor
from websocket_client import TEXT, Socket, encode, handshake

from videre.transport.upgrade import Upgrade

RAW = f"{PREFIX}/websocket"
ECHO = Script(received=lambda session, text: session.send(text))

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def hosted(*middlewares: Any, **runner: Any) -> AsyncIterator[Seam]:
    """Run an echo on a site with these middlewares, in an AppRunner with these options."""
    server = Seam(ECHO, 1.0, {})
    server.app.middlewares.extend(middlewares)
    options = {"access_log": None, "shutdown_timeout": 1.0, **runner}
    server.runner = web.AppRunner(server.app, **options)
    await server.start()
    try:
        yield server
    finally:
        await Wire.hang_up()
        await server.stop()


def request_with(base: str, *texts: str) -> bytes:
    """Return a handshake followed at once by messages."""
    host = base.removeprefix("http://")
    lines = [f"GET {RAW} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in handshake().items()]
    frames = b"".join(encode(text.encode(), TEXT) for text in texts)
    return "\r\n".join([*lines, "", ""]).encode() + frames


async def test_a_client_that_leaves_during_the_handshake(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """This is no fault of the server: it logs nothing."""
    original = web.StreamResponse.prepare

    async def prepare(answer: web.StreamResponse, request: web.BaseRequest) -> Any:
        prepared = await original(answer, request)
        while isinstance(answer, Upgrade) and request.transport is not None:
            request.transport.abort()
            await asyncio.sleep(0)  # until aiohttp has noticed
        return prepared

    monkeypatch.setattr(web.StreamResponse, "prepare", prepare)
    async with hosted() as server:
        wire = await Wire.open(server.base)
        wire.writer.write(request_with(server.base))
        assert (await wire.head()).status == 101
        assert await wire.ended()
    assert caplog.records == []


@pytest.mark.parametrize("size", [10, DEFAULT_CHUNK_SIZE])
async def test_messages_sent_with_the_request_arrive(size: int) -> None:
    """Messages sent before the answer arrive in order, even more than aiohttp buffers.

    A slow middleware makes aiohttp buffer them, and stop reading if there are many.
    """
    passed = asyncio.Event()

    @web.middleware
    async def slow(request: web.Request, handler: Handler) -> web.StreamResponse:
        if size == DEFAULT_CHUNK_SIZE:
            async with asyncio.timeout(WAIT_SECONDS):
                while not request.protocol._buffer_paused:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.01)
        passed.set()
        return await handler(request)

    texts = [str(number).ljust(1000, "-") for number in range(max(3, size // 500))]
    async with hosted(slow) as server:
        wire = await Wire.open(server.base)
        wire.writer.write(request_with(server.base, *texts))
        socket = Socket(wire, await wire.head())
        assert socket.head.status == 101 and passed.is_set()
        assert [await socket.text() for _ in texts] == texts
        socket.send("later")
        assert await socket.text() == "later"


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_aiohttp_keeps_nothing_of_an_upgraded_connection(transport: str) -> None:
    """No task, connection, request or parser remains, even without garbage collection."""
    async with hosted() as server:
        await Wire.hang_up()
        tasks = len(asyncio.all_tasks())
        alive = Alive(_is_of_a_request)
        gc.disable()
        try:
            visitors = [await Visitor.enter(server.base, transport) for _ in range(5)]
            async with asyncio.timeout(WAIT_SECONDS):
                while server.runner.server.connections:  # type: ignore[union-attr]  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.01)
            assert server.manager.open_sessions == len(visitors)
            left = alive()
        finally:
            gc.enable()
        assert left == []
        assert len(asyncio.all_tasks()) == tasks


def _is_of_a_request(kind: type) -> bool:
    names = ("RequestHandler", "Request", "HttpRequestParser", "StreamWriter", "Upgrade")
    return kind.__name__ in names and kind.__module__.startswith(("aiohttp", "videre"))


@pytest.mark.parametrize("how", ["raises", "refuses", "answers"])
async def test_a_middleware_cannot_write_into_a_session(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it does after the handler, the session goes on and its client sees only frames."""

    @web.middleware
    async def other(request: web.Request, handler: Handler) -> web.StreamResponse:
        await handler(request)
        if how == "raises":
            raise RuntimeError("a fault of the site")
        if how == "refuses":
            raise web.HTTPForbidden
        return web.Response(text="instead")

    async with hosted(other) as server:
        socket = await Socket.open(server.base, RAW)
        for text in ("one", "two"):
            socket.send(text)
            assert await socket.text() == text
        assert server.manager.open_sessions == 1
    errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(errors) == (how == "raises")


@pytest.mark.parametrize("cancelling", [False, True])
async def test_a_middleware_runs_to_its_end(cancelling: bool) -> None:
    """It may wait for something after the upgrade, even where aiohttp cancels handlers."""
    steps: list[str] = []
    done = asyncio.Event()

    @web.middleware
    async def recording(request: web.Request, handler: Handler) -> web.StreamResponse:
        steps.append("before")
        response = await handler(request)
        steps.append(f"status {response.status}")
        await asyncio.sleep(0.01)
        steps.append("after")
        done.set()
        return response

    async with hosted(recording, handler_cancellation=cancelling) as server:
        socket = await Socket.open(server.base, RAW)
        async with asyncio.timeout(WAIT_SECONDS):
            await done.wait()
        socket.send("still here")
        assert await socket.text() == "still here"
    assert steps == ["before", "status 101", "after"]


async def test_the_access_log_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """Each upgrade has one, with the client's address, written when the session starts."""
    caplog.set_level(logging.INFO, "aiohttp.access")
    async with hosted(access_log=logging.getLogger("aiohttp.access")) as server:
        socket = await Socket.open(server.base, RAW)
        socket.send("heard")
        assert await socket.text() == "heard"
        (line,) = [each.getMessage() for each in caplog.records if each.name == "aiohttp.access"]
    assert line.startswith("127.0.0.1 ") and f'"GET {RAW} HTTP/1.1" 101' in line


async def test_an_idle_session_outlives_keep_alive() -> None:
    """aiohttp's timer for idle connections does not apply to it."""
    async with hosted(keepalive_timeout=20.0) as server:  # no heartbeat comes before
        socket = await Socket.open(server.base, RAW)
        other = await Wire.open(server.base)
        assert await hurry(other.ended(), by=1.0)  # the timer does run for others
        socket.send("still here")
        assert await socket.text() == "still here"


async def test_a_sites_shutdown_closes_sessions() -> None:
    """aiohttp no longer knows them, but they get their close code all the same."""
    async with hosted() as server:
        socket = await Socket.open(server.base, RAW)
        stopping = asyncio.create_task(server.stop())
        assert (await socket.goodbye())[0] == 1001
        await stopping
        assert await socket.wire.ended()


def test_what_aiohttp_keeps_of_a_connection() -> None:
    """A new version of aiohttp with other fields or arguments must be reviewed first.

    Before you widen the range of versions, compare `hand_over` with the new fields, and update this
    list.
    """
    fields = {*BaseProtocol.__slots__, *web.RequestHandler.__slots__}
    assert {each for each in fields if "parser" in each or "transport" in each} == {
        "_parser",
        "_payload_parser",
        "transport",
    }
    assert {each for each in fields if each.endswith(("_task_handler", "_handle", "_waiter"))} == {
        "_drain_waiter",
        "_handler_waiter",
        "_keepalive_handle",
        "_task_handler",
        "_waiter",
    }
    assert [*inspect.signature(web.RequestHandler.set_parser).parameters] == [
        "self",
        "parser",
        "data_received_cb",
    ]
