"""Attacks with WebSocket frames that no client may send, or that never complete a message."""

from __future__ import annotations

import asyncio
import random
import struct

from attacks_websocket import frame
from target import Target, closed
from websocket_client import CLOSE, PING

#: Close codes that must not be sent (RFC 6455, 7.4), and some that may.
CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535, 1000, 3000, 4999]


async def unmasked(target: Target) -> None:
    """Write frames like a server: a proxy on the path may take them for HTTP."""
    text = b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"
    async with target.member("attack-frames") as (socket, _):
        for first in random.sample([0x81, 0x82, 0x88, 0x89, 0x01], 5):
            socket.wire.writer.write(bytes((first, len(text))) + text)
        target.tally[f"unmasked frames, close {await closed(socket, 1.0)}"] += 1


async def endless_fragments(target: Target) -> None:
    """Send empty or tiny fragments of a message that never ends."""
    piece = random.choice([b"", b"x"])
    async with target.member("attack-frames") as (socket, _):
        socket.wire.writer.write(frame(0x01, piece))
        latest = asyncio.get_running_loop().time() + 3.0
        closing = asyncio.create_task(closed(socket, 4.0))
        while not closing.done() and asyncio.get_running_loop().time() < latest:
            socket.wire.writer.write(frame(0x00, piece) * 500)
            target.tally["endless fragments"] += 500
            await asyncio.wait([closing], timeout=random.choice([0.0, 0.1]))
        target.tally[f"endless fragments, close {await closing}"] += 1


async def close_codes(target: Target) -> None:
    """Close with a code that must not be sent, and go on sending."""
    code = random.choice(CODES)
    async with target.member("attack-frames") as (socket, _):
        socket.send(struct.pack("!H", code), CLOSE)
        socket.send(b"still here", PING)
        answer = await closed(socket, 1.0)
        target.tally[f"close codes, {code} answered with {answer}"] += 1
