"""The bound of a request's head, and of the requests that wait on a connection."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from patience import WAIT_SECONDS
from sockjs_client import Wire
from test_cli_gate import Served, served

from videre.command.http import MAX_HEAD

START = b"GET /health HTTP/1.1\r\nHost: a\r\n"
LONG = 30_000  # bytes of a header, fewer than may be in one


def headers(size: int) -> bytes:
    """Return headers of `size` bytes in all."""
    sizes = [LONG] * (size // LONG) + [size % LONG]
    return b"".join(b"X: " + b"a" * (each - 5) + b"\r\n" for each in sizes)


async def status(site: Served, data: bytes) -> int:
    """Return the status of the answer to what a new connection sends."""
    wire = await Wire.open(site.url)
    wire.writer.write(data)
    return (await wire.answer()).status


@pytest.mark.parametrize("end", [b"\r\n", b""], ids=["whole", "unfinished"])
async def test_a_head_that_is_too_long(end: bytes) -> None:
    """It is refused when it exceeds the bound, even if no end of it has arrived."""
    async with served() as site:
        assert await status(site, START + headers(MAX_HEAD - 1000) + b"\r\n") == 200
        assert await status(site, START + headers(MAX_HEAD) + end) == 400


async def opened(site: Served) -> Wire:
    """Return a connection that has opened the session /echo/0/a."""
    wire = await Wire.open(site.url)
    assert (await wire.ask("POST", "/echo/0/a/xhr", b"")).text == "o\n"
    return wire


async def test_trailers_that_are_too_long() -> None:
    """Those after a chunked body count like a head; the body itself has a bound of its own."""
    chunked = {"Transfer-Encoding": "chunked"}
    async with served() as site:
        wire = await opened(site)
        wire.say("POST", "/echo/0/a/xhr_send", headers=chunked)
        wire.writer.write(b'3\r\n["a\r\n1\r\n \r\n' + b"%x\r\n%b\r\n" % (300_000, b" " * 300_000))
        wire.writer.write(b'2\r\n"]\r\n0\r\n' + headers(LONG) + b"\r\n")
        assert (await wire.answer()).status == 204
        wire.say("POST", "/echo/0/a/xhr_send", headers=chunked)
        wire.writer.write(b'5\r\n["a"]\r\n0\r\n' + headers(4 * MAX_HEAD))
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):  # a RST came first
            assert (await wire.answer()).status == 400


async def test_many_requests_behind_a_poll() -> None:
    """They wait in the client or in the kernel, and are answered in their turn."""
    count = 40
    async with served() as site:
        wire = await opened(site)
        wire.say("POST", "/echo/0/a/xhr", b"")
        wire.writer.write((START + headers(MAX_HEAD // 2) + b"\r\n") * count)
        connection: Any = next(iter(site.gate._connections))
        async with asyncio.timeout(WAIT_SECONDS):
            while not connection._buffer_paused:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
        assert len(connection._messages) < count / 4
        sent = await (await Wire.open(site.url)).ask("POST", "/echo/0/a/xhr_send", b'["x"]')
        assert sent.status == 204
        assert (await wire.answer()).text.startswith("a[")
        assert [(await wire.answer()).status for _ in range(count)] == [200] * count
