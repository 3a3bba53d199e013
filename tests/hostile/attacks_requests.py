"""Attacks by requests: compressed bodies, deep paths, idle connections, and the admin port."""

from __future__ import annotations

import random
import zlib

from attacks_http import ended
from sockjs_client import fresh
from target import PREFIX, Target
from websocket_client import handshake

CROSS_SITE = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}


def packed(size: int) -> bytes:
    """Return this many zeros as an unfinished gzip stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(bytes(size)) + packer.flush(zlib.Z_SYNC_FLUSH)


FLOOD, HELD = packed(64 * 2**20), packed(2**20 - 1024)


async def compressed_flood(target: Target) -> None:
    """Send bodies whose bytes inflate a thousandfold, to any path."""
    path = random.choice(["/nowhere", PREFIX, f"{PREFIX}/info", f"{PREFIX}/0/0/xhr_send"])
    async with target.wire() as wire:
        wire.say("POST", path, FLOOD, {"Content-Encoding": "gzip"})
        target.tally["compressed bytes"] += len(FLOOD)
        await ended(wire.reader, 2.0)


async def compressed_hold(target: Target) -> None:
    """Send compressed bodies to your own sessions, and never end them."""
    session = fresh(PREFIX)
    async with target.wire() as wire, target.wire() as sender:
        if (await wire.ask("POST", f"{session}/xhr", b"")).status != 200:
            return
        headers = {"Content-Encoding": "gzip", "Content-Length": "100000"}
        sender.say("POST", f"{session}/xhr_send", headers=headers)
        sender.writer.write(HELD)
        target.tally["compressed bodies that are held"] += 1
        await ended(sender.reader, 5.0)


async def idle_connections(target: Target) -> None:
    """Hold more connections than one address may have, each after a request or without one."""
    async with target.wire() as wire:
        if random.random() < 0.5:
            wire.say("GET", "/health")
        target.tally["idle connections"] += 1
        await ended(wire.reader, random.uniform(5.0, 15.0))


DEEP = ["/a" * 3900, "/a" + "/" * 7900, f"{PREFIX}{'/a' * 3900}", "/.." * 2600, "/%2f" * 1900]


async def deep_paths(target: Target) -> None:
    """Request paths with thousands of parts, ten requests at a time."""
    async with target.wire() as wire:
        for _ in range(5):
            for _ in range(10):
                wire.say(random.choice(["GET", "POST", "OPTIONS"]), random.choice(DEEP))
            target.tally["deep paths"] += 10
            if await ended(wire.reader, 0.1):
                break


def _oddities() -> list[bytes]:
    upgrade = "".join(f"{name}: {value}\r\n" for name, value in handshake().items()).encode()
    ask = b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n"
    post = b"POST /echo/0/odd/%b HTTP/1.1\r\nHost: a\r\n%b\r\n"
    hosts = [b"[", b"[::", b"a@b:c", b"localhost:99999999", b"\xff", b""]
    headers = [
        *(b"Origin: \xff\xfe\r\n", b"Origin: http://\xe9\r\n", b"Cookie: JSESSIONID=\xff\r\n"),
        *(b'Cookie: JSESSIONID="a\\015\\012X: 1"\r\n', b"If-None-Match: \xff\r\n"),
        *(b"X-Forwarded-For: \xff, 1.2.3.4:5\r\n", b"X: a\r\n b\r\n", b"X: a\rb\r\n"),
        *(b"X: a\0b\r\n", b"Expect: 200-maybe\r\n", b"Connection: \xff\xfe\r\n"),
    ]
    bodies = [
        *(b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", b"Content-Length: +1\r\n\r\na"),
        *(b"Content-Length: 99999999999999999999\r\n\r\na", b"Transfer-Encoding: identity\r\n"),
        *(b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",),
        *(b"Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n",),
        *(b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",),
        *(b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",),
        *(b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",),
        *(b"Content-Type: text/plain; charset=\xff\r\nContent-Length: 3\r\n\r\nabc",),
    ]
    upgrades = [
        *(b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        *(
            b"Sec-WebSocket-Protocol: \xff\r\n",
            b"Sec-WebSocket-Protocol: " + b"a," * 3000 + b"\r\n",
        ),
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99, \xff\r\n",
    ]
    paths = [b"/echo/0/\xff/xhr", b"/echo/0/%00/xhr", b"/echo/%2e%2e/x/xhr", b"/echo/0/a%2fb/xhr"]
    return [
        *(ask % (b"/echo/info", host, b"") for host in hosts),
        *(ask % (path, b"a", b"") for path in (*paths, b"http://[/echo", b"http://a:b/echo")),
        *(ask % (path, b"a", header) for header in headers for path in (b"/echo/info", b"/echo")),
        *(post % (b"xhr", header) for header in headers),
        *(post % (b"xhr_send", body) for body in bodies),
        *(ask % (b"/echo/websocket", b"a", upgrade + more) for more in upgrades),
        ask % (b"/health", b"a", upgrade) + b"\x81\x80\0\0\0\0" * 5,
        ask % (b"/nowhere", b"a", upgrade) + b"GET /health HTTP/1.1\r\n\r\n",
    ]


ODDITIES = _oddities()


async def oddities(target: Target) -> None:
    """Send requests that HTTP forbids, or that parsers read differently."""
    for data in random.sample(ODDITIES, 10):
        async with target.wire() as wire:
            wire.writer.write(data)
            target.tally["odd requests"] += 1
            await ended(wire.reader, 0.2)


HEAD = f"GET {PREFIX}/websocket HTTP/1.1\r\nHost: a\r\n".encode()
UPGRADE = "".join(f"{name}: {value}\r\n" for name, value in handshake().items()).encode()
POST = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
#: Beginnings of requests, and what follows byte by byte.
WAYS = [
    (b"", b""),
    (HEAD, b""),
    (HEAD, b"X-A: b\r\n" * 99),
    (b"G", b"ET /" + b"a" * 999),
    (POST % b"/nowhere" + b"Content-Length: 9999\r\n\r\n", b"a" * 999),
    (POST % b"/nowhere" + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 99),
    (HEAD + UPGRADE + b"\r\n\x81\xfe\xff\xff\0\0\0\0", b"a" * 999),
    (POST % b"/api/v1/packets?room=a" + b"Content-Length: 9999\r\n\r\n", b"[" * 999),
]


async def slow_ways(target: Target) -> None:
    """Send slowly, each connection in its own way."""
    await _dawdle(target, *random.choice(WAYS))


async def _dawdle(target: Target, first: bytes, trickle: bytes) -> None:
    async with target.wire() as wire:
        wire.writer.write(first)
        target.tally["slow ways"] += 1
        for number in range(40):
            wire.writer.write(trickle[number : number + 1])
            if await ended(wire.reader, 0.5):
                return


# The admin port, which has no token here: `target` is that port.


async def admin_slow_ways(target: Target) -> None:
    """Send slowly there, too."""
    await _dawdle(target, *random.choice(WAYS))


QUERIES = ["&".join(f"a{number}" for number in range(1300)), "a&" * 3900, "room=" + "%41" * 2600]


async def admin_queries(target: Target) -> None:
    """Request as a page of another site does through a browser, and as a program may."""
    path = random.choice(["/api/v1/prefixes", "/api/v1/rooms", "/api/v1/members", "/status"])
    async with target.wire() as wire:
        for query in QUERIES:
            headers = random.choice([{}, CROSS_SITE])
            answer = await wire.ask("GET", f"{path}?{query}", headers=headers)
            target.tally[f"admin queries, answer {answer.status}"] += 1


async def admin_bodies(target: Target) -> None:
    """Send bodies that are expensive to check."""
    keys = b",".join(b'"k%d":0' % number for number in range(6000))
    body = random.choice(
        [b"{%b}" % keys, b"[" * 60_000, b'{"Payload":1,"To":[%b1]}' % (b"1," * 30_000)]
    )
    async with target.wire() as wire:
        headers = {"Content-Type": "application/json", **random.choice([{}, CROSS_SITE])}
        answer = await wire.ask("POST", "/api/v1/packets?room=a", body, headers)
        target.tally[f"admin bodies, answer {answer.status}"] += 1


async def room_lists(target: Target) -> None:
    """List all rooms and the members of each, as an operator may, and read the metrics."""
    async with target.wire() as wire:
        for path in ("/api/v1/rooms", "/api/v1/members?room=attack-giant", "/metrics", "/status"):
            answer = await wire.ask("GET", path)
            target.tally[f"admin reads, answer {answer.status}"] += 1
