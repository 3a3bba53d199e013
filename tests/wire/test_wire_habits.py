"""What clients of sockjs-node rely on: slashes, bare strings, large cookies and URLs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import aiohttp
import pytest
from fakes import brief, packet
from inprocess import serving
from patience import WAIT_SECONDS
from process import ROOT, signaller

import videre
from videre.config import Config
from videre.transport.framing import messages_of_frame


@pytest.mark.parametrize("prefix", ["/echo", "/deep/er", ""])
async def test_a_trailing_slash(prefix: str) -> None:
    """Each path works with one, as in sockjs-node, and not with two."""
    async with serving(videre.create_app(Config(prefixes=(prefix,)))) as server:
        for path, status in (
            ("/info", 200),
            ("/iframe.html", 200),
            ("/iframe-1.6.1.html", 200),
            ("/websocket", 400),  # no upgrade
            ("/000/a/websocket", 400),
            ("/000/b/eventsource", 200),
            ("/000/c/nothing", 404),
        ):
            for end in ("", "/"):
                async with server.http.get(f"{server.url}{prefix}{path}{end}") as answer:
                    assert answer.status == status, path + end
            async with server.http.get(f"{server.url}{prefix}{path}//") as answer:
                assert answer.status == 404, path
        for path in ("/websocket/", "/000/s/websocket/"):
            async with server.http.ws_connect(f"{server.url}{prefix}{path}") as socket:
                assert not socket.closed
        session = f"{server.url}{prefix}/000/polls"
        async with server.http.post(f"{session}/xhr/") as answer:
            assert (answer.status, await answer.text()) == (200, "o\n")
        sent = json.dumps([packet("ping", "a", "room")])
        async with server.http.post(f"{session}/xhr_send/", data=sent) as answer:
            assert answer.status == 204
        async with server.http.post(f"{session}/xhr/") as answer:
            (told,) = json.loads((await answer.text())[1:])
            assert brief(told)[:2] == ("ping", "a")


@pytest.mark.parametrize("kind", ["raw", "sockjs"])
async def test_numeric_ids(kind: Literal["raw", "sockjs"]) -> None:
    """The original took them. Here their sender is told which, and stays (docs/moving.md)."""
    (row,) = [
        line
        for line in (ROOT / "docs/moving.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| numeric ids")
    ]
    assert "`invalid-packet`" in row and "are strings" in row
    async with serving(videre.create_app(Config())) as server:
        client = await server.client(kind)
        for user, room, wrong in ((5, "5", "UserId"), ("5", 5, "RoomId"), (5.5, "5", "UserId")):
            for event in ("connect", "broadcast", "ping", "disconnect"):
                header = {"Event": event, "UserId": user, "RoomId": room}
                await client.say(json.dumps({"Header": header, "Payload": "{}"}))
                told = json.loads(await client.text())
                assert told["Header"]["Event"] == "error"
                error = json.loads(told["Payload"])
                assert error["Code"] == "invalid-packet"
                assert error["Message"].startswith(f"Header.{wrong}: ")
            await client.send("connect", "5", "5")  # ten bad ones in a row would close it
            while (await client.heard())[0] != "connect":
                pass


@pytest.mark.parametrize("binary", [False, True])
async def test_a_bare_string(binary: bool) -> None:
    """In a SockJS WebSocket frame it is a message, like an array of one; others hear it."""
    async with serving(videre.create_app(Config())) as server:
        one = await server.client("sockjs")
        other, raw = await server.client("sockjs"), await server.client()
        text = packet("connect", "a", "room")

        async def send(text: str) -> None:
            if binary:
                await one.socket.send_bytes(text.encode())
            else:
                await one.socket.send_str(text)

        await send(json.dumps(text))
        assert (await one.heard())[0] == "connect"
        await other.join("b")
        await raw.join("c")
        said = json.dumps(packet("broadcast", "a", "room", "hello"))
        await send(said)
        assert await raw.heard() == ("broadcast", "a", "room", "hello")
        assert brief(await other.text())[:2] == ("connect", "c")
        assert await other.heard() == ("broadcast", "a", "room", "hello")


@pytest.mark.parametrize(
    ("frame", "messages"),
    [
        ('"a"', ["a"]),
        ('"a" ', ["a"]),
        (b'"\xc3\xa9"', ["é"]),
        ('["a","b"]', ["a", "b"]),
        ("[]", []),
        ('""', [""]),
    ],
)
def test_frames(frame: str | bytes, messages: list[str]) -> None:
    """An array of strings, or one string."""
    assert messages_of_frame(frame) == messages


@pytest.mark.parametrize(
    "frame", ['"a","b"', '"a"]["b"', '"a', '"a"b', "'a'", "5", "null", "{}", "[1]", b'"\xff"']
)
async def test_an_invalid_frame(frame: str | bytes) -> None:
    """It is refused with 1002."""
    with pytest.raises(ValueError):
        messages_of_frame(frame)
    async with serving(videre.create_app(Config())) as server:
        client = await server.client("sockjs")
        if isinstance(frame, bytes):
            await client.socket.send_bytes(frame)
        else:
            await client.socket.send_str(frame)
        assert await client.closed() == 1002


@pytest.mark.process
async def test_large_cookies_and_urls(tmp_path: Path) -> None:
    """They may have 32 KiB each; larger ones are refused, and the log has the reason only."""
    large, too_large = "s" * 32_000, "s" * 33_000
    config = {"LogFile": "debug.log", "LogLevel": "info"}
    async with signaller(tmp=tmp_path, config=config) as running, aiohttp.ClientSession() as http:
        for headers, query, status in (
            ({"Cookie": f"a={large}"}, "", 200),
            ({}, large, 200),
            ({"Authorization": large, "X-Other": large}, "", 200),
            ({"Cookie": f"a={too_large}"}, "", 400),
        ):
            url = f"{running.url}/info?{query}"
            async with http.get(url, headers=headers) as answer:
                assert answer.status == status, (query[:1], [*headers])
        headers = {"Cookie": f"a={large}"}
        async with http.ws_connect(f"{running.url}/websocket", headers=headers) as socket:
            await socket.send_str(packet("ping", "a", "room"))
            assert (await socket.receive(timeout=WAIT_SECONDS)).type is aiohttp.WSMsgType.TEXT
    log = (tmp_path / "debug.log").read_text()
    assert "1 requests were not HTTP, the last one: its URL or a header is longer than 32768" in log
    assert "sss" not in log
