"""SockJS over WebSockets, framed and raw."""

from __future__ import annotations

import asyncio
import json

import pytest
from sockjs_client import ask, fresh
from test_sockjs_polling import GO_AWAY
from websocket_client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Socket,
    accept_key,
    encode,
    fragment,
    handshake,
)

pytest_plugins = ("sockjs_fixtures",)


async def opened(base: str, session: str) -> Socket:
    """Open a framed WebSocket and read its open frame."""
    client = await Socket.open(base, f"{session}/websocket")
    assert client.head.status == 101
    assert await client.text() == "o"
    return client


async def test_framed(base: str) -> None:
    """The open frame comes first, then an array for each array of messages."""
    client = await opened(base, fresh())
    client.send("")
    client.send('["a"]')
    assert await client.text() == 'a["a"]'
    client.send('["b","c"]')
    texts: list[str] = []
    while len(texts) < 2:
        texts += json.loads((await client.text())[1:])
    assert texts == ["b", "c"]


async def test_framed_by_the_server_closing(base: str) -> None:
    """The close frame comes as a message, then the connection is closed properly."""
    client = await opened(base, fresh("/close"))
    assert await client.text() == GO_AWAY
    code, _ = await client.goodbye()
    assert code in (1000, 3000)
    assert await client.wire.ended()


@pytest.mark.parametrize("names", ["a.b/c", "a/b.c"])
async def test_a_session_with_a_dot_is_not_found(base: str, names: str) -> None:
    """As with the other transports: neither name may have one."""
    client = await Socket.open(base, f"/echo/{names}/websocket")
    assert client.head.status == 404


async def test_a_clients_close_is_answered(base: str) -> None:
    """A close frame gets a close frame, and the connection ends."""
    client = await opened(base, fresh())
    client.send((1000).to_bytes(2, "big"), CLOSE)
    assert (await client.goodbye())[0] == 1000
    assert await client.wire.ended()


async def test_two_sessions_may_have_one_id(base: str) -> None:
    """WebSocket sessions with the same id in their URLs share nothing."""
    session = fresh()
    first, second = await opened(base, session), await opened(base, session)
    first.send('["a"]')
    assert await first.text() == 'a["a"]'
    second.send('["b"]')
    assert await second.text() == 'a["b"]'
    first.send((1000).to_bytes(2, "big"), CLOSE)
    await first.goodbye()
    third = await opened(base, session)
    third.send('["c"]')
    assert await third.text() == 'a["c"]'
    second.send('["still here"]')
    assert await second.text() == 'a["still here"]'


@pytest.mark.parametrize("broken", ['["a', "[", "nonsense", '{"a":', "\u00e9"])
async def test_broken_json_ends_the_connection(base: str, broken: str) -> None:
    """Invalid data ends a framed connection abruptly, without another message."""
    client = await opened(base, fresh())
    client.send(broken)
    await client.goodbye()
    assert await client.wire.ended()


@pytest.mark.parametrize("key", ["x3JJHMbDL1EzLkh9GBhXDw==", "dGhlIHNhbXBsZSBub25jZQ=="])
@pytest.mark.parametrize("version", ["7", "8", "13"])
@pytest.mark.parametrize("connection", ["Upgrade", "upgrade", "keep-alive, Upgrade"])
async def test_handshake(base: str, version: str, connection: str, key: str) -> None:
    """Every version since hybi-07 is accepted, and Firefox's Connection header too."""
    headers = {
        "Sec-WebSocket-Version": version,
        "Connection": connection,
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Origin": "http://asd",
    }
    client = await Socket.open(base, f"{fresh()}/websocket", headers)
    assert client.head.status == 101
    assert client.head.headers["Sec-WebSocket-Accept"] == accept_key(key)
    assert client.head.headers["Connection"].lower() == "upgrade"
    assert client.head.headers["Upgrade"].lower() == "websocket"
    assert "Content-Length" not in client.head.headers
    assert await client.text() == "o"


@pytest.mark.parametrize("path", ["/echo/0/0/websocket", "/echo/websocket"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upgrade": "WebSocket", "Connection": "close"},
        {"Upgrade": "h2c", "Connection": "Upgrade"},
        {"Upgrade": "websocket", "Connection": "Upgrade"},
        handshake({"Sec-WebSocket-Version": "1"}),
        handshake({"Sec-WebSocket-Key": "short"}),
    ],
    ids=["plain", "connection", "h2c", "no-key", "version", "short-key"],
)
async def test_a_bad_handshake_is_400(base: str, path: str, headers: dict[str, str]) -> None:
    """A request that is no WebSocket handshake is refused (a 426 may list versions)."""
    answer = await ask(base, "GET", path, headers=headers)
    assert answer.status in (400, 426)


async def test_the_version_is_told(base: str) -> None:
    """RFC 6455, 4.4: a client of another version learns which one it may use."""
    socket = await Socket.open(base, "/echo/websocket", {"Sec-WebSocket-Version": "99"})
    assert (socket.head.status, socket.head.headers["Sec-WebSocket-Version"]) == (400, "13")


async def test_pings_are_answered(base: str) -> None:
    """A ping gets a pong with its payload, on both kinds of connection."""
    for client in (await opened(base, fresh()), await Socket.open(base, "/echo/websocket")):
        client.send(b"are you there", PING)
        assert await client.frame() == (PONG, b"are you there")


async def test_a_fragmented_message_is_put_together(base: str) -> None:
    """A message may come in fragments, with a ping in between."""
    client = await opened(base, fresh())
    first, ping, last = fragment(b'["a', TEXT), encode(b"", PING), encode(b'b"]', CONTINUATION)
    client.wire.writer.write(first + ping + last)
    assert await client.frame() == (PONG, b"")
    assert await client.text() == 'a["ab"]'


async def test_raw(base: str) -> None:
    """A raw WebSocket has no open frame and no framing: text in, text out."""
    client = await Socket.open(base, "/echo/websocket")
    assert client.head.status == 101
    for text in ("Hello world!\uffff", '["not", "SockJS"]', "\U0001f600", '"', "a\nb\u2028"):
        client.send(text)
        assert await client.text() == text


async def test_raw_ignores_empty_frames(base: str) -> None:
    """An empty frame is not a message."""
    client = await Socket.open(base, "/echo/websocket")
    client.send("")
    client.send("a")
    assert await client.text() == "a"


async def test_raw_reads_binary_frames_as_text(base: str) -> None:
    """A binary frame is read as UTF-8 text and answered with text."""
    client = await Socket.open(base, "/echo/websocket")
    client.send("caf\u00e9".encode(), BINARY)
    assert await client.frame() == (TEXT, "caf\u00e9".encode())


async def test_raw_by_the_server_closing(base: str) -> None:
    """A raw WebSocket is closed with the exact code and reason (fault 13)."""
    client = await Socket.open(base, "/close/websocket")
    assert await client.goodbye() == (3000, "Go away!")
    assert await client.wire.ended()


@pytest.mark.parametrize("size", [125, 126, 4096, 60_000])
async def test_sizes(base: str, size: int) -> None:
    """Messages of every frame length pass both ways, framed and raw."""
    text = "x" * size
    framed, raw = await opened(base, fresh()), await Socket.open(base, "/echo/websocket")
    framed.send(json.dumps([text]))
    assert json.loads((await framed.text())[1:]) == [text]
    raw.send(text)
    assert await raw.text() == text


async def test_order_is_kept(base: str) -> None:
    """A hundred messages sent at once come back in order."""
    framed, raw = await opened(base, fresh()), await Socket.open(base, "/echo/websocket")
    for number in range(100):
        framed.send(json.dumps([str(number)]))
        raw.send(str(number))
    heard: list[str] = []
    while len(heard) < 100:
        heard += json.loads((await framed.text())[1:])
    assert heard == [str(number) for number in range(100)]
    assert [await raw.text() for _ in range(100)] == heard


async def test_many_connect_at_once(base: str) -> None:
    """Connections opened together each get an open frame."""
    await asyncio.gather(*(opened(base, fresh()) for _ in range(32)))
