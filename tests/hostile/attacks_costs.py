"""Attacks with few and legal bytes that once cost much: packets, answers, seats, waiting."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from typing import Any

from target import Target, closed, drained, packet, token
from websocket_client import TEXT, encode

DEAREST = 65_000  # bytes: a packet may have 64 KiB


def header(user: str, **more: Any) -> str:
    """Return the text of a header without its closing brace."""
    header = {"Event": "ping", "UserId": user, "RoomId": "attack-costs", **more}
    return json.dumps({"Header": header}, separators=(",", ":"))[:-2]


#: Packets that were expensive to check, by the part that they repeat.
DEAR = {
    "names that are none": lambda user: header(user, To=[1] * 1600) + '},"Payload":1}',
    "names": lambda user: header(user, To=[f"n{n}" for n in range(7000)]) + '},"Payload":1}',
    "header keys": lambda user: f'{header(user)},{keys(DEAREST)}}},"Payload":1}}',
    "brackets": lambda user: header(user) + f'}},"Payload":[{"[]," * (DEAREST // 3)}1]}}',
    "keys": lambda user: f'{header(user)}}},{keys(DEAREST)},"Payload":1}}',
    "payloads": lambda user: header(user) + ',"A":1}' + ',"Payload":""' * (DEAREST // 13) + "}",
}


def keys(size: int) -> str:
    """Return this many bytes of members of an object."""
    return ",".join(f'"k{number}":0' for number in range(size // 10))


async def dear_packets(target: Target) -> None:
    """Send packets that are expensive to check, without a seat, as fast as answers come."""
    kind = random.choice(list(DEAR))
    text = DEAR[kind](secrets.token_hex(4))
    async with target.socket() as socket:
        hearing = asyncio.create_task(drained(socket))
        for _ in range(20):
            socket.send(text)
            target.tally[f"dear packets, {kind}"] += 1
            await asyncio.wait([hearing], timeout=0.05)
            if hearing.done():
                break
        hearing.cancel()


async def waiting_tokens(target: Target) -> None:
    """Show a wrong token, then send as much as may wait behind it, in the smallest frames."""
    behind = encode(b"x", TEXT) * random.choice([500, 2000, 16_000])
    async with target.socket() as socket:
        socket.send(packet("connect", "u", "honest-0", {"Token": "wrong"}))
        await asyncio.sleep(0.05)
        socket.wire.writer.write(behind)
        target.tally["bytes behind wrong tokens"] += len(behind)
        target.tally[f"behind wrong tokens, close {await closed(socket, 4.0)}"] += 1


async def bursts(target: Target) -> None:
    """Send the largest allowed burst to a room that reads as slowly as a bad line."""
    room = f"attack-burst-{random.randrange(3)}"
    async with target.member(room, receive_buffer=32768) as (socket, user):
        text = packet("broadcast", user, room, "b" * 60_000)
        for _ in range(5):
            for _ in range(random.randrange(3)):
                socket.send(text)
                target.tally["bytes in bursts"] += len(text)
            if await closed(socket, 0.3) != -1:
                break
            await asyncio.sleep(0.5)


async def ghosts(target: Target) -> None:
    """Take seats that outlive their connections, with the longest names, and disconnect."""
    for _ in range(5):
        async with target.socket(rude=True) as socket:
            user = secrets.token_hex(4) + "\U0001f600" * 30
            pass_ = {"Token": token(user, "attack-*"), "Welcome": True}
            socket.send(packet("connect", user, "attack-ghosts", pass_))
            await closed(socket, 0.1)
            target.tally["ghosts"] += 1


async def crowded_answers(target: Target) -> None:
    """Ping a crowded room again and again, and address many absent users."""
    async with target.member("attack-ghosts") as (socket, user):
        hearing = asyncio.create_task(drained(socket))
        absent = [f"nobody-{number:05d}" for number in range(64)]
        head = {"Event": "broadcast", "UserId": user, "RoomId": "attack-ghosts", "To": absent}
        text = json.dumps({"Header": head, "Payload": 1})
        for _ in range(20):
            socket.send(packet("ping", user, "attack-ghosts"))
            socket.send(text)
            target.tally["questions to a crowded room"] += 2
            await asyncio.wait([hearing], timeout=0.1)
            if hearing.done():
                break
        hearing.cancel()
