"""Connections that the command closes: clients that read no answer, or send no request."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from aiohttp import web
from patience import WAIT_SECONDS
from sockjs_client import Wire

from videre.app import create_app
from videre.command import http, listening, server
from videre.command.certificates import Certificates
from videre.config import Config

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux gives up who takes nothing"
)

LOCAL = Config(host="127.0.0.1", port=0)
SOON_MS = 500  # instead of the 60 s of the command
PAGE = b"GET /echo/iframe.html HTTP/1.1\r\nHost: a\r\n\r\n"


def test_connections_have_the_timeout_of_the_listener() -> None:
    """The kernel passes it on, so that no code sets it for each connection."""
    with listening.listen(LOCAL).public as opened, socket.create_connection(opened.getsockname()):
        accepted, _ = opened.accept()
        with accepted:
            told = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert told == listening.UNREAD_MS == 60_000


@pytest.fixture
async def runner(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[web.AppRunner]:
    """Give a server on the command's own socket, with a short timeout."""
    monkeypatch.setattr(listening, "UNREAD_MS", SOON_MS)
    running = web.AppRunner(create_app(LOCAL), access_log=None, shutdown_timeout=1.0)
    await running.setup()
    try:
        await web.SockSite(running, listening.listen(LOCAL).public).start()
        yield running
    finally:
        await Wire.hang_up()
        await running.cleanup()


async def until(true: Callable[[], bool]) -> bool:
    """Return whether a condition becomes true within WAIT_SECONDS."""
    for _ in range(int(WAIT_SECONDS / 0.05)):
        if true():
            return True
        await asyncio.sleep(0.05)
    return False


async def test_a_client_that_reads_no_answer(runner: web.AppRunner) -> None:
    """It asks for pages and does not read: its connection ends; a client that only waits stays."""
    base = "http://{}:{}".format(*runner.addresses[0][:2])
    assert runner.server is not None
    patient = await Wire.open(base)
    assert (await patient.ask("GET", "/echo/info")).status == 200
    deaf = await Wire.open(base, receive_buffer=4096)
    deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
    assert await until(lambda: len(runner.server.connections) == 2)  # type: ignore[union-attr]
    transport = deaf.writer.transport
    # Until the server stops reading, too; it may end the connection before we notice.
    while not transport.get_write_buffer_size() and not transport.is_closing():
        transport.write(PAGE * 500)
        await asyncio.sleep(0)
    assert await until(lambda: len(runner.server.connections) == 1), "an unread answer is kept"  # type: ignore[union-attr]
    assert (await patient.ask("GET", "/echo/info")).status == 200


async def test_a_client_that_sends_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed after the command's own keep-alive time; aiohttp would wait for an hour."""
    monkeypatch.setattr(http, "http_logger", lambda: logging.Logger("aiohttp.server"))
    monkeypatch.setattr(server.speedups, "tune_garbage_collection", lambda: None)  # type: ignore[attr-defined]
    config = dataclasses.replace(LOCAL, keep_alive=SOON_MS / 1000)
    opened = listening.listen(config)
    base = "http://{}:{}".format(*opened.public.getsockname())
    serving = asyncio.create_task(
        server.serve(config, Certificates(config), opened, cast(Any, None), lambda: config)
    )
    try:
        silent = await Wire.open(base)
        slow = await Wire.open(base)
        slow.writer.write(b"GET /echo/websocket HTTP/1.1\r\nHost: ")
        assert await silent.ended() and await slow.ended()
    finally:
        await Wire.hang_up()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
