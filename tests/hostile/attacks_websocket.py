"""Attacks over WebSockets: floods, crowds, frozen readers, broken frames, packets and tokens."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import struct
import zlib
from typing import Any

import jwt
from target import Target, closed, drained, packet, token
from websocket_client import BINARY, CONTINUATION, PING, PONG, TEXT, encode

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_no_context_takeover"}


def bomb(size: int) -> bytes:
    """Return this many bytes deflated, as a client sends them in a frame."""
    deflate = zlib.compressobj(9, wbits=-15)
    data = deflate.compress(b"[" * size) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(b"\x00\x00\xff\xff")


def frame(first: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a masked frame with any first byte and any declared length."""
    size = len(payload) if length is None else length
    head = struct.pack("!BBQ", first, 0xFF, size) if size > 125 else bytes((first, 0x80 | size))
    return head + b"\x00" * 4 + payload


BOMB = bomb(50_000_000)
FRAMES = {
    "an opcode that is none": frame(0x83, b"x"),
    "another that is none": frame(0x8F, b"x"),
    "a reserved bit": frame(0xA1, b"{}"),
    "a reserved bit more": frame(0x91, b"{}"),
    "a fragmented control frame": frame(0x09, b"x"),
    "a long control frame": b"\x89\xfe\x00\x80" + b"\x00" * 132,
    "a continuation of nothing": frame(0x80, b"x"),
    "a message amid fragments": frame(0x01, b"{") + frame(0x81, b"}"),
    "a ping amid fragments": frame(0x01, b"{") + frame(0x89, b"p") + frame(0x80, b"}"),
    "fragments without end": frame(0x01, b"[") + frame(0x00, b"[" * 100) * 5000,
    "a length of 2**63": frame(0x81, b"x", length=2**63),
    "a length of 2**40": frame(0x81, b"x", length=2**40),
    "a length that never comes": frame(0x81, b"x", length=200_000),
    "no mask": b"\x81\x02{}",
    "invalid UTF-8": frame(0x81, b"\xff\xfe\xfd"),
    "a surrogate in UTF-8": frame(0x81, b'{"a":"\xed\xa0\x80"}'),
    "a close of one byte": frame(0x88, b"\x03"),
    "a close without sense": frame(0x88, b"\x00\x01"),
    "a close that is not UTF-8": frame(0x88, b"\x03\xe8\xff"),
    "a bomb": frame(0xC1, BOMB),
    "what does not inflate": frame(0xC1, b"\xff" * 100),
}

_CALL = '{"Header":{"Event":"broadcast","UserId":"%s","RoomId":"attack-packets"},"Payload":%s}'
PACKETS = [
    "",
    "null",
    "[" * 60_000,
    '{"Header":' * 5000 + "1" + "}" * 5000,
    "\ufeff{}",
    _CALL % ("%s", "NaN"),
    _CALL % ("%s", "-Infinity"),
    _CALL % ("%s", '"\\ud800"'),
    _CALL % ("%s", "1" * 60_000),
    _CALL % ("%s", "1e999999"),
    _CALL % ("%s", "1") + "x",
    '{"Header":{},"Header":{},"Payload":1,"Payload":2}',
    '{"Header":{"Event":"connect","UserId":"%s","RoomId":"r\\u0000"},"Payload":1}',
    '{"Header":{"Event":["connect"],"UserId":{"a":1},"RoomId":1e400},"Payload":1}',
    json.dumps({"Header": {f"k{n}": n for n in range(3000)}, "Payload": 1}),
    '{"__proto__":{"Header":1},"constructor":{"prototype":{}}}',
    packet("welcome", "%s", "attack-packets", {"Token": {"a": ["b"]}}),
    packet("connect", "u" * 200, "r" * 300),
    packet("disconnect", "%s", "elsewhere"),
    "x" * 70_000,
]


async def churn(target: Target) -> None:
    """Join and leave rooms, in every way of leaving."""
    room = f"attack-churn-{random.randrange(20)}"
    rude = random.random() < 0.5
    async with target.member(room, rude=rude) as (socket, user):
        for _ in range(5):
            room = f"attack-churn-{random.randrange(20)}"
            socket.send(packet("connect", user, room, {"Token": token(user, "attack-*")}))
            if random.random() < 0.5:
                socket.send(packet("disconnect", user, room))
            target.tally["joins and leaves"] += 1
        await closed(socket, random.uniform(0.0, 0.2))


async def crowd(target: Target) -> None:
    """Open as many sessions as allowed, and send nothing."""
    async with target.socket() as socket:
        target.tally["silent sessions"] += 1
        target.tally[f"silent sessions, close {await closed(socket)}"] += 1


async def giant_room(target: Target) -> None:
    """Sit in one room with all other attackers, and send as much as allowed."""
    async with target.member("attack-giant") as (socket, user):
        hearing = asyncio.create_task(drained(socket))
        for _ in range(100):
            socket.send(packet("broadcast", user, "attack-giant", "chatter" * 20))
            target.tally["chatter"] += 1
            await asyncio.wait([hearing], timeout=random.uniform(0.5, 1.5))
            if hearing.done():
                break
        hearing.cancel()


async def frozen(target: Target) -> None:
    """Join a busy room and never read."""
    room = f"attack-frozen-{random.randrange(3)}"
    async with target.member(room, receive_buffer=4096) as (socket, _):
        socket.wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        target.tally["frozen readers"] += 1
        await asyncio.sleep(8.0)


async def speech(target: Target) -> None:
    """Send to the frozen readers as fast as allowed."""
    room = f"attack-frozen-{random.randrange(3)}"
    async with target.member(room) as (socket, user):
        hearing = asyncio.create_task(drained(socket))
        text = packet("broadcast", user, room, "s" * 20_000)
        for _ in range(200):
            socket.send(text)
            target.tally["bytes for the frozen"] += len(text)
            await asyncio.wait([hearing], timeout=0.03)
            if hearing.done():
                break
        hearing.cancel()


async def broken_frames(target: Target) -> None:
    """Send an invalid frame."""
    name = random.choice(list(FRAMES))
    async with target.member("attack-frames", headers=OFFER) as (socket, _):
        socket.wire.writer.write(FRAMES[name])
        target.tally["broken frames"] += 1
        code = await closed(socket, 0.5)
        target.tally[f"broken frames, close {code}"] += 1


async def random_frames(target: Target) -> None:
    """Send noise instead of frames."""
    async with target.member("attack-frames", rude=True) as (socket, _):
        socket.wire.writer.write(random.randbytes(random.randrange(1, 3000)))
        target.tally["random frames"] += 1
        await closed(socket, 0.2)


async def bad_packets(target: Target) -> None:
    """Send invalid packets until the server closes."""
    async with target.member("attack-packets") as (socket, user):
        for text in random.sample(PACKETS, len(PACKETS)):
            opcode = BINARY if random.random() < 0.3 else TEXT
            socket.send(text.replace("%s", user), opcode)
            target.tally["bad packets"] += 1
        target.tally[f"bad packets, close {await closed(socket, 2.0)}"] += 1


async def flood(target: Target) -> None:
    """Send valid packets, pings and control frames far too fast."""
    async with target.member("attack-flood") as (socket, user):
        texts = [packet(event, user, "attack-flood") for event in ("broadcast", "ping")]
        data = b"".join(encode(text.encode(), TEXT) for text in texts) + encode(b"p", PING)
        hearing = asyncio.create_task(drained(socket))
        for _ in range(40):
            socket.wire.writer.write(data * 20)
            target.tally["flooding packets"] += 40
            await asyncio.wait([hearing], timeout=0.02)
            if hearing.done():
                target.tally[f"floods, close {hearing.result()}"] += 1
                break
        hearing.cancel()


async def idle_flood(target: Target) -> None:
    """Send empty pings, pongs and messages as fast as a connection takes them."""
    kind = random.choice([PING, PONG, TEXT, BINARY])
    async with target.member("attack-flood") as (socket, _):
        data = encode(b"", kind) * 2000
        hearing = asyncio.create_task(drained(socket))
        latest = asyncio.get_running_loop().time() + 2.0
        while not hearing.done() and asyncio.get_running_loop().time() < latest:
            socket.wire.writer.write(data)
            target.tally["idle frames"] += 2000
            await asyncio.wait([asyncio.create_task(socket.wire.writer.drain())], timeout=0.5)
            await asyncio.sleep(0)
        hearing.cancel()


async def deaf_ears(target: Target) -> None:
    """Get closed, ignore it, and go on sending."""
    async with target.member("attack-deaf") as (socket, user):
        for number in range(60):
            socket.send("nonsense" if number < 12 else packet("ping", user, "attack-deaf"))
            socket.send(b"p", CONTINUATION if number == 40 else PING)
            await asyncio.sleep(0.1)
        target.tally["deaf ears"] += 1


async def wrong_tokens(target: Target) -> None:
    """Try to join others' rooms with forged, expired or stolen tokens."""
    user = secrets.token_hex(4)
    other = token("somebody", "honest-*")
    claims: dict[str, Any] = {"sub": user, "room": "*", "exp": 2**40}
    forged = [
        None,
        1,
        "",
        "a.b.c",
        other,
        other[:-2],
        token(user, "honest-0", ttl=-3600),
        token(user, "attack-*"),
        jwt.encode(claims, "k" * 40, "HS256"),
        jwt.encode(claims, None, "none"),  # type: ignore[arg-type]
        jwt.encode({**claims, "exp": "soon"}, "k" * 40, "HS256"),
        "a" * 60_000,
        "." * 8000,
    ]
    async with target.socket() as socket:
        for each in random.sample(forged, len(forged)):
            room = f"honest-{random.randrange(10)}"
            socket.send(packet("connect", user, room, {"Token": each}))
            socket.send(packet("ping", user, room))
            target.tally["wrong tokens"] += 1
        target.tally[f"wrong tokens, close {await closed(socket, 4.0)}"] += 1
