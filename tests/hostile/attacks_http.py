"""Attacks below and beside WebSockets: slow, silent, invalid or too many requests."""

from __future__ import annotations

import asyncio
import random
import secrets

from sockjs_client import fresh
from target import PREFIX, REFUSALS, Target, packet
from websocket_client import handshake

GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,  # TLS
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",  # HTTP/2
    b"\x00" * 4096,
    b"GET\r\n\r\n",
    b"GET /echo\r\n\r\n",
    b"GET /echo HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /echo HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /echo HTTP/1.1\r\nHost: a\r\nA\x00B: c\r\n\r\n",
    b"POST /echo/0/0/xhr HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /echo/0/0/xhr HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n"
    b"\r\nffffffffffffffff\r\n",
    b"POST /echo/0/0/xhr HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /echo/%00/%ff/websocket HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
    b"GET /echo/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET http://[::1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET //echo/info?\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n",
]
METHODS = ["HEAD", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "QUERY", "X" * 64]
PATHS = [
    PREFIX,
    f"{PREFIX}/info",
    f"{PREFIX}/iframe.html",
    f"{PREFIX}/websocket",
    f"{PREFIX}/0/0/xhr",
    f"{PREFIX}/0/0/xhr_send",
    f"{PREFIX}/0/0/eventsource",
    f"{PREFIX}/0/0/websocket",
    f"{PREFIX}/0/0/nothing",
    "/",
    "*",
]


async def slow_handshakes(target: Target) -> None:
    """Slow loris: a handshake that never ends, byte by byte."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in handshake().items())
    text = f"GET {PREFIX}/websocket HTTP/1.1\r\nHost: a\r\n{lines}"
    async with target.wire() as wire:
        target.tally["slow handshakes"] += 1
        for character in text.encode():
            wire.writer.write(bytes((character,)))
            if await ended(wire.reader, 0.2):
                return
        wire.writer.write(b"\r\n")


async def slow_bodies(target: Target) -> None:
    """Slow loris: bodies that never end, to a session and to URLs that take none."""
    session = fresh(PREFIX)
    async with target.wire() as wire:
        if (await wire.ask("POST", f"{session}/xhr", b"")).status != 200:
            return
    paths = (f"{session}/xhr_send", f"{session}/xhr", f"{PREFIX}/info", PREFIX)
    async with asyncio.TaskGroup() as group:
        for path in paths:
            group.create_task(_slow_body(target, path))


async def _slow_body(target: Target, path: str) -> None:
    async with target.wire() as wire:
        wire.say("POST", path, headers={"Content-Length": "100000"})
        target.tally["slow bodies"] += 1
        for _ in range(50):
            wire.writer.write(b"[")
            if await ended(wire.reader, 0.2):
                return


async def half_open(target: Target) -> None:
    """Connect and send nothing, a hundred at a time."""
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(_silence(target))


async def _silence(target: Target) -> None:
    async with target.wire(rude=random.random() < 0.5) as wire:
        target.tally["half-open connections"] += 1
        await ended(wire.reader, random.uniform(0.5, 3.0))


async def garbage(target: Target) -> None:
    """Send data that is not HTTP, or barely is."""
    async with target.wire() as wire:
        wire.writer.write(random.choice(GARBAGE))
        target.tally["garbage requests"] += 1
        await ended(wire.reader, 0.5)


async def odd_methods(target: Target) -> None:
    """Request everything by every method."""
    async with target.wire() as wire:
        for _ in range(20):
            body = random.choice([None, b"", b"[]", b"x" * 1000])
            wire.say(random.choice(METHODS), random.choice(PATHS), body)
            target.tally["odd methods"] += 1
        await ended(wire.reader, 0.5)


async def deaf_requests(target: Target) -> None:
    """Request pages endlessly on one connection, and read none of them."""
    async with target.wire(receive_buffer=4096) as wire:
        for _ in range(40):
            wire.writer.write(f"GET {PREFIX}/iframe.html HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 50)
            target.tally["pipelined requests"] += 50
            await asyncio.sleep(0.05)


async def abandoned_polls(target: Target) -> None:
    """Open polling and streaming sessions, send something, and never return."""
    for kind in ("xhr", "xhr_streaming"):
        session = fresh(PREFIX)
        async with target.wire(rude=random.random() < 0.5) as wire:
            wire.say("POST", f"{session}/{kind}", b"")
            head = await wire.head()
            target.tally[f"abandoned sessions, answer {head.status}"] += 1
        async with target.wire() as wire:
            body = random.choice([b"", b"[", b'["{"]', b"[" * 4000, b'["a"' + b" " * 2_000_000])
            if random.random() < 0.5:
                body = f"[{packet('ping', 'a', secrets.token_hex(4))!r}]".encode()
            wire.say("POST", f"{session}/xhr_send", body)
            await ended(wire.reader, 0.5)


async def ended(reader: asyncio.StreamReader, within: float) -> bool:
    """Return whether the server ends the connection `within` this many seconds."""
    try:
        async with asyncio.timeout(within):
            while await reader.read(1 << 16):
                pass
    except TimeoutError:
        return False
    except REFUSALS:
        return True
    return True
