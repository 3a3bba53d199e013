"""SockJS carries every character: those that browsers change are escaped."""

from __future__ import annotations

import json
import re

import pytest
from sockjs_client import Stream, ask, fresh, poll, send
from websocket_client import Socket

pytest_plugins = ("sockjs_fixtures",)

# Ranges that a server must escape, since browsers change or lose them on receipt.
RANGES = [(0x00, 0x1F), (0x200C, 0x200F), (0x2028, 0x202F), (0x2060, 0x206F), (0xFFF0, 0xFFFF)]
KILLERS = "".join(chr(code) for low, high in RANGES for code in range(low, high + 1))
EVERYTHING = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x10000)]))
SAMPLES = {
    "emoji": "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "cjk": "\u6f22\u5b57\u304b\u306a\ud55c\uad6d\U00020000",
    "combining": "e\u0301\u0344\u0374\u037e\u0387\u0958\u1fbe\u212b\uf900\ufb1d",
    "controls": "".join(map(chr, range(0x20))) + "\x7f\x80\x9f",
    "noncharacters": "\ufdd0\ufffe\uffff\U0010ffff",
    "json": '"\\/\b\f\n\r\t[]{}</script>',
    "spaces": " \u00a0\u2028\u2029\u3000\ufeff ",
    "right-to-left": "\u0627\u0644\u0639\u0631\u0628\u064a\u0629\u200f\u202e",
}
every_sample = pytest.mark.parametrize("text", SAMPLES.values(), ids=SAMPLES)


async def send_raw(base: str, session: str, text: str) -> None:
    """Send one message with as few escapes as JSON allows."""
    body = json.dumps([text], ensure_ascii=False).encode()
    assert (await ask(base, "POST", f"{session}/xhr_send", body)).status == 204


async def test_the_server_escapes_what_browsers_change(base: str) -> None:
    """These characters are sent as escapes."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    await send_raw(base, session, KILLERS)
    frame = await poll(base, session)
    assert json.loads(frame[1:]) == [KILLERS]
    assert not set(frame.rstrip("\n")) & set(KILLERS)
    escapes = re.findall(r"\\u([0-9a-fA-F]{4})", frame)
    assert {int(code, 16) for code in escapes} >= {ord(each) for each in KILLERS if each > "\x1f"}


@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "plain"])
async def test_the_server_decodes_every_character(base: str, escaped: bool) -> None:
    """The whole basic plane comes back, whether sent as escapes or not."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    if escaped:
        assert (await send(base, session, EVERYTHING)).status == 204
    else:
        await send_raw(base, session, EVERYTHING)
    assert json.loads((await poll(base, session))[1:]) == [EVERYTHING]


@every_sample
async def test_polling(base: str, text: str) -> None:
    """The text comes back by xhr, however it was sent."""
    session = fresh()
    assert await poll(base, session) == "o\n"
    await send_raw(base, session, text)
    await send(base, session, text)
    assert json.loads((await poll(base, session))[1:]) == [text, text]


@every_sample
async def test_streaming(base: str, text: str) -> None:
    """The text comes back by eventsource, on one line."""
    session = fresh()
    stream = await Stream.open(base, "GET", f"{session}/eventsource")
    await stream.until("data: o\r\n\r\n")
    await send_raw(base, session, text)
    event = await stream.until("\r\n\r\n")
    assert event.count("\n") == 2
    assert json.loads(event.removeprefix("data: a")) == [text]


@every_sample
async def test_websocket(base: str, text: str) -> None:
    """The text comes back by a framed and by a raw WebSocket."""
    framed = await Socket.open(base, f"{fresh()}/websocket")
    assert await framed.text() == "o"
    framed.send(json.dumps([text], ensure_ascii=False))
    assert json.loads((await framed.text())[1:]) == [text]
    raw = await Socket.open(base, "/echo/websocket")
    raw.send(text)
    assert await raw.text() == text


async def test_everything_by_websocket(base: str) -> None:
    """The whole basic plane passes in one message of 196 KB, or in parts on a raw WebSocket."""
    framed = await Socket.open(base, f"{fresh()}/websocket")
    assert await framed.text() == "o"
    framed.send(json.dumps([EVERYTHING], ensure_ascii=False))
    assert json.loads((await framed.text())[1:]) == [EVERYTHING]
    raw = await Socket.open(base, "/echo/websocket")
    for start in range(0, len(EVERYTHING), 16_384):
        part = EVERYTHING[start : start + 16_384]
        raw.send(part)
        assert await raw.text() == part
