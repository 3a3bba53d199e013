"""The contract end to end: protocol.md, section 1: messages, and where they go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import WSMsgType, web
from fakes import brief, packet
from inprocess import Framing, Server, serving
from patience import WAIT_SECONDS

import videre
from videre.config import Config
from videre.transport import Options

LIMIT = 64 * 1024
both = pytest.mark.parametrize("framing", ["raw", "sockjs"])


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Give a running signaller."""
    async with serving(videre.create_app()) as running:
        yield running


def of_bytes(size: int, event: str = "broadcast", user: str = "a") -> str:
    """Return a packet of this many bytes."""
    empty = packet(event, user, "room", "")
    return packet(event, user, "room", "x" * (size - len(empty)))


async def test_prefixes_are_namespaces() -> None:
    """Two prefixes never share a room or see each other's rooms."""
    async with serving(videre.create_app(Config(prefixes=("/echo", "/deep/er")))) as server:
        one = await server.client(prefix="/echo")
        two = await server.client(prefix="/deep/er")
        assert await one.join("a") == "true"
        assert await two.join("a") == "true"
        assert await one.users() == await two.users() == ["a"]
        await one.send("broadcast", "a", "room")
        await two.quiet()
        await one.close()
        await two.quiet()


async def test_two_applications_share_nothing() -> None:
    """Several in one process share no state, even with the same prefix."""
    site = web.Application()
    site.add_subapp("/one", videre.create_app())
    site.add_subapp("/two", videre.create_app())
    async with serving(site) as server:
        one = await server.client(prefix="/one/echo")
        two = await server.client(prefix="/two/echo")
        assert (await one.join("a"), await two.join("b")) == ("true", "true")
        await one.quiet()


@pytest.mark.parametrize(
    "path", ["/ech", "/echoo", "/websocket", "/000/x/websocket", "/echo/nothing", "/log"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_paths_outside_the_prefix(server: Server, path: str, method: str) -> None:
    """They are a 404, and the server goes on."""
    async with server.http.request(method, server.url + path) as answer:
        assert answer.status == 404
    assert await (await server.client()).join("a") == "true"


@pytest.mark.parametrize("path", ["/echo", "/echo/", "/echo/info"])
async def test_an_upgrade_to_http_2_is_answered_normally(server: Server, path: str) -> None:
    """The request of `curl --http2` is a request like any other."""
    headers = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA",
    }
    async with server.http.get(server.url + path, headers=headers) as answer:
        assert answer.status == 200
        assert await answer.text()


async def test_a_binary_frame_is_read_as_its_text(server: Server) -> None:
    """Its UTF-8 is the packet; answers and forwarded packets are text."""
    a, b = await server.members("a", "b")
    ping = packet("ping", "a", "room")
    await a.socket.send_bytes(ping.encode())
    answer = await a.socket.receive(WAIT_SECONDS)
    assert (answer.type, brief(answer.data)[0]) == (WSMsgType.TEXT, "ping")
    text = json.dumps(
        json.loads(packet("broadcast", "a", "room", "\u00e9\U0001f600")), ensure_ascii=False
    )
    await a.socket.send_bytes(text.encode())
    message = await b.socket.receive(WAIT_SECONDS)
    assert (message.type, message.data) == (WSMsgType.TEXT, text)


async def test_a_binary_frame_that_is_no_text_is_malformed(server: Server) -> None:
    """Invalid UTF-8 gets an error; the sender stays connected."""
    a, b = await server.members("a", "b")
    for data in (
        b"\xff\xfe",
        packet("broadcast", "a", "room", "?").encode().replace(b"?", b"\xed\xa0\x80"),
    ):
        await a.socket.send_bytes(data)
        await a.hears(("error", "a", "room", "malformed-packet"))
    await b.quiet()
    await a.quiet()


async def test_an_empty_frame_is_ignored(server: Server) -> None:
    """Text or binary, raw or in SockJS framing, however many: no error, and no bad packet."""
    raw, sockjs = await server.client("raw"), await server.client("sockjs")
    for _ in range(20):
        await raw.socket.send_str("")
        await raw.socket.send_bytes(b"")
        await sockjs.socket.send_str("")
        await sockjs.socket.send_str("[]")
    await raw.quiet()
    await sockjs.quiet()


async def test_several_messages_in_one_frame(server: Server) -> None:
    """A SockJS frame may have several packets, and a bad one does not affect the others."""
    (b,) = await server.members("b")
    a = await server.client("sockjs")
    await a.socket.send_str(
        json.dumps(
            [packet("connect", "a", "room"), "bad", packet("broadcast", "a", "room"), "worse"]
        )
    )
    await a.hears(("connect", "a", "room", "false"))
    await a.hears(*[("error", "a", "room", "malformed-packet")] * 2)
    await b.hears(("connect", "a", "room", "false"), ("broadcast", "a", "room", "{}"))


# Sizes.


@both
async def test_a_packet_of_the_limit(server: Server, framing: Framing) -> None:
    """64 KiB of UTF-8 pass."""
    (b,) = await server.members("b")
    a = await server.client(framing)
    await a.join("a")
    await b.heard()
    await a.say(of_bytes(LIMIT))
    assert await b.text() == of_bytes(LIMIT)


@both
@pytest.mark.parametrize("size", [LIMIT + 1, 2 * LIMIT, 4 * LIMIT - 100])
async def test_a_packet_over_the_limit(server: Server, framing: Framing, size: int) -> None:
    """One byte more, up to some frames more, is `packet-too-large`; the sender stays connected."""
    (b,) = await server.members("b")
    a = await server.client(framing)
    await a.join("a")
    await b.heard()
    await a.say(of_bytes(size))
    await a.hears(("error", "a", "room", "packet-too-large"))
    await a.send("broadcast", "a", "room")
    await b.hears(("broadcast", "a", "room", "{}"))


async def test_the_limit_is_in_bytes(server: Server) -> None:
    """A character of several bytes counts as these bytes."""
    a, b = await server.members("a", "b")
    form = of_bytes(LIMIT - 2)
    text = form.replace("xxx", "x\u20ac")  # four bytes for three
    assert len(text) < LIMIT < len(text.encode())
    await a.say(text)
    await a.hears(("error", "a", "room", "packet-too-large"))
    text = form.replace("xxx", "\u20ac", 1)
    assert len(text.encode()) == LIMIT - 2
    await a.say(text)
    assert await b.text() == text


@both
async def test_a_frame_far_over_the_limit(server: Server, framing: Framing) -> None:
    """It is not read: the error and the close with 4501 come; others hear a disconnect."""
    (b,) = await server.members("b")
    a = await server.client(framing)
    await a.join("a")
    await b.heard()
    sending = asyncio.create_task(a.say(of_bytes(64 * LIMIT)))
    await a.hears(("error", "a", "room", "packet-too-large"))
    assert await a.closed() == 4501
    await b.hears(("disconnect", "a", "room", ""))
    await asyncio.wait([sending])
    sending.exception()
    await b.quiet()


async def test_a_configured_limit() -> None:
    """`MaxPacketBytes` sets the limit."""
    config = Config(transport=Options(max_packet_bytes=1000))
    async with serving(videre.create_app(config)) as server:
        a, b = await server.members("a", "b")
        await a.say(of_bytes(1001))
        await a.hears(("error", "a", "room", "packet-too-large"))
        await a.say(of_bytes(1000))
        assert await b.text() == of_bytes(1000)


# Polling.


async def test_a_polling_client_meets_a_websocket(server: Server) -> None:
    """All transports share rooms: xhr here, a raw WebSocket there."""
    url = f"{server.url}/echo/000/polling1"

    async def post(what: str, body: str = "") -> str:
        async with server.http.post(f"{url}/{what}", data=body) as answer:
            assert answer.status in (200, 204)
            return await answer.text()

    assert await post("xhr") == "o\n"
    await post("xhr_send", json.dumps([packet("connect", "a", "room")]))
    assert json.loads((await post("xhr"))[1:]) == [packet("connect", "a", "room", "true")]
    b = await server.client()
    assert await b.join("b") == "false"
    frames = json.loads((await post("xhr"))[1:])
    assert [brief(text) for text in frames] == [("connect", "b", "room", "false")]
    await b.send("broadcast", "b", "room", {"sdp": "\u2028"})
    (text,) = json.loads((await post("xhr"))[1:])
    assert text == packet("broadcast", "b", "room", {"sdp": "\u2028"})
    await post(
        "xhr_send",
        json.dumps([packet("broadcast", "a", "room"), packet("disconnect", "a", "room")]),
    )
    await b.hears(("broadcast", "a", "room", "{}"), ("disconnect", "a", "room", ""))
