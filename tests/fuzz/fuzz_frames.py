"""Invariant: no bytes that a WebSocket client sends raise an exception.

The other members of its room get valid packets from it, or nothing. When it has gone, so have its
session and its seat.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import struct
import zlib
from typing import Any

from aiohttp import web

from videre import Config
from videre.app import Namespace, setup
from videre.settings import Limits, Options
from videre.transport.clients import Client
from videre.transport.websocket import WebSocketSession
from videre.transport.wire import Wire

SOCKJS, DEFLATE = 1, 2  # bits of an input's first byte; the others say how to cut the rest
LIMIT = 1024  # bytes of a packet
WITNESS = secrets.token_hex(8)  # nobody can take the seat of a user whose name cannot be guessed


class FakeTransport:
    """A connection that accepts everything; after abort or close it is closing."""

    def __init__(self) -> None:
        self.closing = False
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        """See asyncio.Transport.write."""
        assert not self.closing, "written to a closed connection"
        self.written += data

    def writelines(self, pieces: list[bytes]) -> None:
        """See asyncio.WriteTransport.writelines."""
        self.write(b"".join(pieces))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.WriteTransport.set_write_buffer_limits."""

    def get_write_buffer_size(self) -> int:
        """See asyncio.WriteTransport.get_write_buffer_size."""
        return 0

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport.is_closing."""
        return self.closing

    def abort(self) -> None:
        """See asyncio.WriteTransport.abort."""
        self.closing = True

    close = abort


class Complaints(logging.Handler):
    """Keeps records of failures: each one is a bug."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler.emit."""
        self.texts.append(logging.Formatter().format(record))


class Witness:
    """The other member of the room; `take` returns the packets it has heard."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def send(self, text: str) -> None:
        """See Connection.send."""
        self.heard.append(text)

    def close(self, code: int, reason: str) -> None:
        """See Connection.close."""

    def take(self) -> list[str]:
        """Return what was heard since the last call."""
        heard, self.heard = self.heard, []
        return heard


class World:
    """A namespace with one member in the room `r`, and an event loop to run it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        options = Options(max_packet_bytes=LIMIT, compression=True)
        limits = Limits(packets_per_second=None, bytes_per_second=None)
        logger = logging.Logger("fuzz", logging.ERROR)
        self.namespace: Namespace = setup(
            web.Application(), config=Config(transport=options, limits=limits), logger=logger
        )
        rooms = self.namespace.rooms
        self.loop.run_until_complete(rooms.start())
        self.witness = Witness()
        joining = rooms.join(WITNESS, "r", self.witness, ('{"Payload":', "}"))
        self.loop.run_until_complete(joining)
        self.witness.take()
        self.complaints = Complaints()
        logging.getLogger("videre.transport").addHandler(self.complaints)
        self.options = options

    def close(self) -> None:
        """Close the event loop."""
        logging.getLogger("videre.transport").removeHandler(self.complaints)
        self.loop.run_until_complete(self.namespace.sessions.stop())
        self.loop.close()

    async def visit(self, data: bytes) -> bytes:
        """Let a client send `data` and leave; return the packets that it got."""
        flags, rest = data[0], data[1:]
        sessions, tcp = self.namespace.sessions, FakeTransport()
        deflate = bool(flags & DEFLATE)
        session = WebSocketSession(
            sessions,
            Client("192.0.2.1"),
            tcp,  # type: ignore[arg-type]
            sockjs_framing=bool(flags & SOCKJS),
            deflate=deflate,
        )
        session.start()
        assert sessions.open_sessions == 1
        gone: list[bool] = []
        wire = Wire(session, lambda: gone.append(True), deflate=deflate)
        for piece in pieces(rest, flags >> 2):
            wire.data_received(piece)
            if tcp.closing:
                break
        wire.connection_lost(None)
        assert sessions.shared.cork is None
        assert gone == [True] and not session.is_receiving
        while sessions.shared.jobs.tasks:
            await asyncio.wait(sessions.shared.jobs.tasks)
        return bytes(tcp.written)

    def check(self) -> None:
        """Check that nothing of any client remains, and that the witness heard packets only."""
        assert not self.complaints.texts, self.complaints.texts[0]
        sessions, rooms = self.namespace.sessions, self.namespace.rooms
        assert sessions.open_sessions == 0
        assert not sessions.websockets and not sessions.admission._addresses
        assert not sessions.shared.incoming.total
        assert len(rooms) == 1
        assert rooms.users_here("r") == json.dumps(json.dumps([WITNESS]))
        for text in self.witness.take():
            header: Any = json.loads(text.encode())["Header"]
            assert header["Event"] in ("connect", "broadcast", "disconnect"), text


def pieces(data: bytes, size: int) -> list[bytes]:
    """Cut data as a network may, into pieces of this many bytes; 0 means none."""
    if not size:
        return [data]
    return [data[at : at + size] for at in range(0, len(data), size)]


_worlds: list[World] = []


def one_input(data: bytes) -> None:
    """Check the invariant: the first byte chooses framing and cutting, the rest is the data."""
    if not data:
        return
    if not _worlds:
        _worlds.append(World())
        greeting = _worlds[0].loop.run_until_complete(_worlds[0].visit(SEEDS[0]))
        assert b'"Payload":"false"' in greeting, "nothing gets through: there is nothing to fuzz"
    world = _worlds[0]
    world.loop.run_until_complete(world.visit(data))
    world.check()


def end() -> None:
    """Release what one_input keeps between two inputs."""
    while _worlds:
        _worlds.pop().close()


def frame(payload: bytes, first: int = 0x81, mask: bytes | None = b"\x00\x00\x00\x00") -> bytes:
    """Return a frame, by default masked with zeros, which keeps it legible."""
    masked, size = (0, len(payload)) if mask is None else (0x80, len(payload))
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    else:
        head = struct.pack("!BBH", first, masked | 126, size)
    return head + (mask or b"") + payload


def packet(event: str, payload: str = '"{}"') -> bytes:
    """Return a packet of the user `a` in the room `r`."""
    header = f'{{"Event":"{event}","UserId":"a","RoomId":"r"}}'
    return f'{{"Header":{header},"Payload":{payload}}}'.encode()


def deflated(payload: bytes) -> bytes:
    """Return the payload of a compressed frame."""
    deflate = zlib.compressobj(wbits=-15)
    data = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(b"\x00\x00\xff\xff")


_JOIN = frame(packet("connect"))
_ARRAY = json.dumps([packet("connect").decode(), packet("ping").decode()]).encode()
SEEDS = [
    b"\x00" + _JOIN + frame(packet("broadcast")) + frame(packet("disconnect")),
    b"\x1c" + _JOIN + frame(packet("ping")) + frame(b"\x03\xe8", 0x88),
    b"\x00" + _JOIN * 2 + frame(b"ping", 0x89) + frame(b"pong", 0x8A) + frame(b"", 0x82),
    b"\x00" + frame(packet("connect"), 0x82) + frame(b"\xff\xfe", 0x82) + frame(b"\xff", 0x81),
    b"\x00" + frame(b'{"Head', 0x01) + frame(b"ping", 0x89) + frame(b'er":1}', 0x80),
    b"\x00" + frame(b"a", 0x01) + frame(b"b", 0x81),
    b"\x00" + frame(b"continued", 0x80),
    b"\x00" + _JOIN + frame(b"", 0x83) + _JOIN,
    b"\x00" + _JOIN + frame(b"reserved", 0xC1),
    b"\x00" + _JOIN + frame(b"ping", 0x09),
    b"\x00" + _JOIN + frame(b"x" * 126, 0x89),
    b"\x00" + _JOIN + frame(b"\x03", 0x88),
    b"\x00" + _JOIN + frame(b"\x03\xec", 0x88),
    b"\x00" + _JOIN + b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x00" + _JOIN + b"\x81\xff\x00\x00\x00\x00\x00\x01\x00\x00abcd",
    b"\x00" + frame(packet("connect"), mask=None) + frame(b"x" * 5000),
    b"\x00" + frame(packet("connect"), mask=b"abcd"),
    b"\x01" + frame(_ARRAY) + frame(b"[]") + frame(b'["bad"]'),
    b"\x01" + frame(_ARRAY, 0x82) + frame(b"[1]"),
    b"\x02" + frame(deflated(packet("connect")), 0xC1) + frame(packet("broadcast")),
    b"\x03" + frame(deflated(_ARRAY), 0xC1) + frame(deflated(b"\x00" * 100_000), 0xC1),
    b"\x02" + frame(deflated(b"{" * 100_000), 0xC1),
    b"\x02" + frame(b"\xff\xff no deflate", 0xC1),
    b"\x00" + frame(b"nonsense") * 11 + _JOIN,
]
