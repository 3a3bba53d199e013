"""Any bytes that a stranger may send: each input is refused as documented, or harmless."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import WSMessage, WSMsgType
from fakes import packet
from inprocess import Client, Server, serving
from patience import WAIT_SECONDS
from skipping import hurry
from sockjs_client import Wire, fresh
from websocket_client import BINARY, CLOSE, CONTINUATION, PONG, TEXT, Socket, encode, handshake

import videre
from videre import Config
from videre.transport import Options
from videre.transport.websocket import WebSocketSession

RAW = "/echo/websocket"
LIMIT = 64 * 1024  # bytes of a packet
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}


@dataclass
class Scene:
    """A room with a witness and an attacker that know each other."""

    server: Server
    witness: Client
    attacker: Socket

    async def next_packet(self) -> dict[str, object]:
        """Return the attacker's next packet."""
        opcode, payload = await self.attacker.frame()
        assert opcode == TEXT
        return dict(json.loads(payload))

    async def error(self) -> str:
        """Return the code of the attacker's next error."""
        answer = await self.next_packet()
        return str(json.loads(str(answer["Payload"]))["Code"])

    async def goes_on(self) -> None:
        """Check that the witness has noticed nothing, and that the attacker may go on."""
        await self.witness.quiet()
        self.attacker.send(packet("broadcast", "a", "room", "on"))
        await self.witness.hears(("broadcast", "a", "room", "on"))

    async def ends(self, code: int) -> None:
        """Check that the attacker is closed with a code, and that the witness hears its leave."""
        assert (await self.attacker.goodbye())[0] == code
        await self.witness.hears(("disconnect", "a", "room", ""))
        assert await self.witness.users() == ["w"]


@asynccontextmanager
async def opened(config: Config | None = None) -> AsyncIterator[Scene]:
    """Serve, and let a witness and an attacker join a room."""
    async with serving(videre.create_app(config)) as server:
        (witness,) = await server.members("w")
        attacker = await Socket.open(server.url, RAW)
        assert attacker.head.status == 101
        attacker.send(packet("connect", "a", "room"))
        await witness.hears(("connect", "a", "room", "false"))
        scene = Scene(server, witness, attacker)
        assert (await scene.next_packet())["Payload"] == "false"
        try:
            yield scene
        finally:
            await Wire.hang_up()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Give a room with a witness and an attacker."""
    async with opened() as running:
        yield running


def frame(first: int, payload: bytes = b"") -> bytes:
    """Return a short masked frame with any first byte."""
    return bytes((first, 0x80 | len(payload))) + b"\x00" * 4 + payload


def deflated(data: bytes) -> bytes:
    """Return the payload of a compressed frame."""
    deflate = zlib.compressobj(9, wbits=-15)
    done = deflate.compress(data) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return done.removesuffix(b"\x00\x00\xff\xff")


BROADCAST = '{"Header":{"Event":"broadcast","UserId":"a","RoomId":"room"},"Payload":%s}'

MALFORMED = {
    "bom": "\ufeff" + BROADCAST % "1",
    "deep": BROADCAST % ("[" * 30_000 + "]" * 30_000),
    "deep-objects": BROADCAST % ('{"a":' * 5000 + "1" + "}" * 5000),
    "infinite": BROADCAST % ("1" * 400),
    "huge": BROADCAST % ("1" + "0" * 60_000),
    "exponent": BROADCAST % "1e999",
    "nan": BROADCAST % "NaN",
    "infinity": BROADCAST % "-Infinity",
    "hexadecimal": BROADCAST % "0x10",
    "zeros": BROADCAST % "007",
    "surrogate": BROADCAST % r'"\ud800"',
    "half-escape": BROADCAST % r'"\u00"',
    "nul": BROADCAST % '"\x00"',
    "single-quotes": (BROADCAST % "1").replace('"', "'"),
    "trailing-comma": BROADCAST % "[1,]",
    "comment": BROADCAST % "1/**/",
}


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
async def test_invalid_json(scene: Scene, text: str, opcode: int) -> None:
    """Text that is not JSON, or is nested too deep, is `malformed-packet` and nothing else."""
    scene.attacker.send(text, opcode)
    assert await scene.error() == "malformed-packet"
    await scene.goes_on()


@pytest.mark.parametrize("number", ["1" * 300, "-0", "1e308", "0." + "1" * 20_000, "5E-324"])
async def test_unusual_numbers_are_relayed_unchanged(scene: Scene, number: str) -> None:
    """Numbers are neither rounded nor refused for their length."""
    scene.attacker.send(BROADCAST % number)
    assert await scene.witness.text() == BROADCAST % number


async def test_duplicate_keys_cannot_deceive(scene: Scene) -> None:
    """The last of repeated keys counts, as it does for the receivers."""
    header = '{"Event":"broadcast","UserId":"%s","RoomId":"room"}'
    twice = f'{{"Header":{header % "w"},"Header":{header % "a"},"Payload":1}}'
    scene.attacker.send(twice)
    text = await scene.witness.text()
    assert (text, json.loads(text)["Header"]["UserId"]) == (twice, "a")
    scene.attacker.send(f'{{"Header":{header % "a"},"Header":{header % "w"},"Payload":1}}')
    assert await scene.error() == "wrong-user"
    scene.attacker.send((BROADCAST % 1).replace('"UserId":"a"', '"UserId":"a","UserId":"w"'))
    assert await scene.error() == "wrong-user"
    await scene.goes_on()


async def test_duplicate_payloads_are_not_shown(scene: Scene) -> None:
    """No Payload of a `connect` is shown to others, even if repeated: any may hold a token."""
    connect = '{"Payload":"secret","Header":{"Event":"connect","UserId":"b","RoomId":"room"},'
    second = await Socket.open(scene.server.url, RAW)
    second.send(connect + r'"P\u0061yload":{"Token":"secret"},"Payload":["secret"]}')
    text = await scene.witness.text()
    assert "secret" not in text
    assert json.loads(text)["Payload"] == "false"


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe", b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf5\x80\x80\x80"', b'"\xe2\x82"'],
)
async def test_invalid_utf_8(scene: Scene, data: bytes) -> None:
    """In a binary frame it is `malformed-packet`; in a text frame it closes with 1007."""
    scene.attacker.send(data, BINARY)
    assert await scene.error() == "malformed-packet"
    await scene.goes_on()
    scene.attacker.send(data, TEXT)
    await scene.ends(1007)


async def test_a_character_may_be_cut_by_a_fragment(scene: Scene) -> None:
    """UTF-8 is checked for the whole message, and control frames between fragments are answered."""
    data = (BROADCAST % '"\U0001f600"').encode()
    cut = data.index(b"\xf0") + 2
    write = scene.attacker.wire.writer.write
    write(frame(0x01, data[:cut]) + frame(0x89, b"amid") + frame(0x00))
    assert await scene.attacker.frame() == (PONG, b"amid")
    write(frame(0x8A, b"unasked") + frame(0x80, data[cut:]))
    assert await scene.witness.text() == data.decode()
    await scene.goes_on()


async def test_a_close_amid_fragments(scene: Scene) -> None:
    """A client may leave in the middle of a message, which is not delivered."""
    data = (BROADCAST % 1).encode()
    scene.attacker.wire.writer.write(frame(0x01, data) + frame(0x88, b"\x03\xe8"))
    await scene.ends(1000)


BROKEN = {
    "opcode": frame(0x83, b"x"),
    "control-opcode": frame(0x8B, b"x"),
    "rsv1": frame(0xC1, b"x"),
    "rsv2": frame(0xA1, b"x"),
    "rsv3": frame(0x91, b"x"),
    "control-fragment": frame(0x09, b"x"),
    "control-long": b"\x89\xfe\x00\x7e" + b"\x00" * 130,
    "continuation": frame(0x80, b"x"),
    "amid": frame(0x01, b"x") + frame(0x81, b"x"),
    "close-short": frame(0x88, b"\x03"),
    "close-code": frame(0x88, b"\x03\xec"),
    "close-zero": frame(0x88, b"\x00\x00"),
    "amid-empty": frame(0x01) + frame(0x81, b"x"),
    "amid-fragment": frame(0x01, b"x") + frame(0x02, b"x"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_invalid_frames(scene: Scene, data: bytes) -> None:
    """They close with 1002, and others hear one disconnect."""
    scene.attacker.wire.writer.write(data + encode((BROADCAST % 1).encode(), TEXT))
    await scene.ends(1002)


UNMASKED = {
    "text": b"\x81" + bytes((len(BROADCAST % 1),)) + (BROADCAST % 1).encode(),
    "empty": b"\x81\x00",
    "medium": b"\x81\x7e" + struct.pack("!H", 300) + b"x" * 300,
    "long": b"\x81\x7f" + struct.pack("!Q", 70_000),
    "ping": b"\x89\x02hi",
    "close": b"\x88\x02\x03\xe8",
    "fragment": b"\x01\x01x",
}


@pytest.mark.parametrize("cut", ["whole", "bytes"])
@pytest.mark.parametrize("data", UNMASKED.values(), ids=UNMASKED)
async def test_a_frame_without_a_mask_is_refused(scene: Scene, data: bytes, cut: str) -> None:
    """RFC 6455 (5.1) requires a close; earlier frames of the same chunk are carried out."""
    before = encode((BROADCAST % 1).encode(), TEXT)
    for piece in [before + data] if cut == "whole" else [before, data[:1], data[1:]]:
        scene.attacker.wire.writer.write(piece)
        await asyncio.sleep(0.01 if cut == "bytes" else 0)  # to be read one by one, if possible
    assert await scene.witness.text() == BROADCAST % 1
    await scene.ends(1002)


async def test_a_frame_without_a_mask_behind_the_handshake() -> None:
    """Data in the same chunk as the request is checked as well."""
    async with opened() as scene:
        wire = await Wire.open(scene.server.url)
        lines = "".join(f"{name}: {value}\r\n" for name, value in handshake().items())
        head = f"GET {RAW} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode()
        wire.writer.write(head + UNMASKED["text"])
        assert (await wire.head()).status == 101
        assert (await Socket(wire, None).goodbye())[0] == 1002  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [*range(1004, 1007), 1015, 1016, 999, 2999, 5000, 65535])
async def test_close_codes_that_must_not_be_sent(scene: Scene, code: int) -> None:
    """Some codes must not be on the wire (RFC 6455, 7.4): sending one is an error."""
    scene.attacker.send(struct.pack("!H", code), CLOSE)
    await scene.ends(1002)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1014, 3000, 3999, 4000, 4999])
async def test_close_codes_that_may_be_sent(scene: Scene, code: int) -> None:
    """Others are answered with the same code."""
    scene.attacker.send(struct.pack("!H", code), CLOSE)
    assert (await scene.attacker.goodbye())[0] == code


TINY = {
    "empty": frame(0x00),
    "small": frame(0x00, b"x"),
    "pings": frame(0x89, b"x"),
    "pongs": frame(0x8A),
}


@pytest.mark.parametrize("data", TINY.values(), ids=TINY)
async def test_endless_fragments_are_counted(scene: Scene, data: bytes) -> None:
    """Tiny fragments, or control frames within a message that does not end, are a flood."""
    write = scene.attacker.wire.writer.write
    write(frame(0x01, b"["))
    for _ in range(20):
        write(data * 100)
    assert (await scene.attacker.goodbye())[0] in (4003, 1006)
    await scene.witness.hears(("disconnect", "a", "room", ""))


async def test_a_message_without_an_end() -> None:
    """A client that keeps its connection alive but never ends its message is closed."""
    async with opened() as scene:
        scene.attacker.wire.writer.write(frame(0x01, b"["))
        while (got := await hurry(scene.attacker.frame(), by=0.5))[0] != CLOSE:
            scene.attacker.wire.writer.write(frame(0x8A) + frame(0x00, b" " * 16))
        assert int.from_bytes(got[1][:2], "big") == 1002


@pytest.mark.parametrize("size", [4 * LIMIT + 1, 2**31, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
async def test_a_length_is_refused_before_its_bytes(scene: Scene, size: int) -> None:
    """A frame that declares too many closes with 4501 as soon as its length is read."""
    scene.attacker.wire.writer.write(b"\x81\xff" + struct.pack("!Q", size))
    assert await scene.error() == "packet-too-large"
    await scene.ends(4501)


async def test_fragments_are_counted_together(scene: Scene) -> None:
    """Many small fragments do not get around the limit, nor does a message that never ends."""
    tracemalloc.start()
    try:
        write = scene.attacker.wire.writer.write
        write(frame(0x01, b"["))
        for _ in range(100):
            write(encode(b"[" * 4096, CONTINUATION).replace(b"\x80", b"\x00", 1))
        assert await scene.error() == "packet-too-large"
        await scene.ends(4501)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * LIMIT


@pytest.mark.parametrize("framing", ["raw", "sockjs"])
async def test_a_compression_bomb(framing: str) -> None:
    """50 MB in 50 KB close with 4501 without being inflated; the server hardly grows."""
    config = Config(transport=Options(compression=True))
    bomb = frame(0xC1)[:1] + encode(deflated(b"[" * 50_000_000), TEXT)[1:]
    async with opened(config) as scene:
        path = RAW if framing == "raw" else f"{fresh()}/websocket"
        bomber = await Socket.open(scene.server.url, path, OFFER)
        tracemalloc.start()
        try:
            bomber.wire.writer.write(bomb)
            async with asyncio.timeout(WAIT_SECONDS):
                code = await _close_code(bomber)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert code == 4501
        assert peak < 40 * LIMIT
        await scene.witness.quiet()


@pytest.mark.parametrize("framing", ["raw", "sockjs"])
@pytest.mark.parametrize("fragments", [1, 2])
async def test_many_compression_bombs(
    framing: str, fragments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand in one write, few are inflated: those that close and cut the session."""
    inflated: list[int] = []
    arrived = WebSocketSession.arrived

    def noted(session: WebSocketSession, message: WSMessage) -> None:
        if message.type is WSMsgType.TEXT:
            inflated.append(len(message.data))
        arrived(session, message)

    monkeypatch.setattr(WebSocketSession, "arrived", noted)
    packed = deflated(b"[" + b"[]," * 80_000 + b"[]]")
    first, rest = packed[: len(packed) // fragments], packed[len(packed) // fragments :]
    bomb = encode(first, TEXT)[1:]
    bomb = b"\xc1" + bomb if not rest else b"\x41" + bomb + encode(rest, CONTINUATION)
    async with opened(Config(transport=Options(compression=True))) as scene:
        path = RAW if framing == "raw" else f"{fresh()}/websocket"
        bomber = await Socket.open(scene.server.url, path, OFFER)
        bomber.wire.writer.write(bomb * 1000)
        async with asyncio.timeout(WAIT_SECONDS):
            with contextlib.suppress(ConnectionError):
                await bomber.wire.reader.read()
        await scene.witness.quiet()
    assert 0 < len(inflated) < 40


async def _close_code(socket: Socket) -> int:
    """Return the code of the close frame that follows compressed frames."""
    reader = socket.wire.reader
    while True:
        first, size = await reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
        payload = await reader.readexactly(size)
        if first == 0x88:
            return int.from_bytes(payload[:2], "big")
