"""Faults of the stock plugin other than those of goodbyes, sessions and backlogs."""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import logging
import re
import warnings
from typing import Any, cast

import pytest
import sockjs
from patience import WAIT_SECONDS, patient
from process import node_modules
from seam import PREFIX, Script, Seam, Seams
from sockjs.transports.base import StreamingTransport
from sockjs_client import Stream, Wire, ask, fresh, poll, send
from visitors import STREAMS, TRANSPORTS, WEBSOCKETS, Visitor
from websocket_client import PING, TEXT, Socket

from videre.settings import SOCKJS_URL
from videre.transport.parsing import _Inbound
from videre.transport.websocket import WebSocketSession

pytest_plugins = ("sockjs_fixtures",)

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
NO_ARRAYS = ["5", "null", "{}", '{"a":"b"}', '"x"', "true"]
NO_STRINGS = ["[1]", "[null]", '[["a"]]', '["a",1]', '[{"a":"b"}]']


@pytest.mark.parametrize("body", NO_ARRAYS + NO_STRINGS)
async def test_xhr_send_takes_arrays_of_strings(
    seam: Seams, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other JSON is refused as a whole without a traceback (fault 12)."""
    caplog.set_level(logging.ERROR)
    server = await seam()
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    answer = await ask(server.base, "POST", f"{session}/xhr_send", body.encode())
    assert answer.status == 500
    assert "Broken JSON encoding." in answer.text
    assert (await send(server.base, session, "a")).status == 204
    assert server.tape.story() == ["open", "message a"]
    assert not caplog.records


@pytest.mark.parametrize("body", ["5", "null", "{}", *NO_STRINGS])
async def test_a_websocket_takes_arrays_of_strings(seam: Seams, body: str) -> None:
    """Any other JSON ends a framed WebSocket, and none of it is delivered (fault 12)."""
    server = await seam()
    visitor = await Visitor.enter(server.base, "websocket")
    visitor.websocket.send(body)
    await visitor.websocket.goodbye()
    await server.tape.until("goodbye", within=patient(1.0))
    assert server.tape.story() == ["open", "goodbye"]


@pytest.mark.parametrize("blank", [" ", "\n", "\t", "\r\n "])
async def test_a_leading_blank_is_no_part_of_an_array(seam: Seams, blank: str) -> None:
    """An array after a blank is still an array: two messages, not one list (fault 12)."""
    server = await seam()
    visitor = await Visitor.enter(server.base, "websocket")
    visitor.websocket.send(f'{blank}["a","b"]')
    await server.tape.until("message", text="b")
    assert server.tape.story() == ["open", "message a", "message b"]


async def test_a_broadcast_reaches_a_raw_websocket_plain(seam: Seams) -> None:
    """A raw WebSocket gets the text itself, a framed one an array with the text (fault 13)."""
    server = await seam()
    raw = await Visitor.enter(server.base, "raw")
    framed = await Visitor.enter(server.base, "websocket")
    text = '{"Header": "\u00e9\U0001f600"}'
    server.broadcast(text)
    assert await raw.hear() == [text]
    assert await framed.hear() == [text]


@pytest.mark.parametrize("transport", WEBSOCKETS)
@pytest.mark.parametrize(("code", "reason"), [(4502, "unauthorized"), (1001, "\u00e9" * 100)])
async def test_a_websocket_gets_the_exact_close_code(
    seam: Seams, transport: str, code: int, reason: str
) -> None:
    """The client gets code and reason, on a raw one cut to the size of a frame (fault 13)."""
    server = await seam()
    visitor = await Visitor.enter(server.base, transport)
    server.tape.sessions[0].close(code, reason)
    heard, why = await visitor.goodbye()
    assert heard == code
    assert why
    assert reason.startswith(why)


async def test_a_lone_surrogate_disconnects_nobody(seam: Seams) -> None:
    """Relaying one does not end a raw receiver's connection (fault 14)."""
    server = await seam(Script(received=lambda _, text: server.broadcast(text)))
    receiver = await Visitor.enter(server.base, "raw")
    session = fresh()
    assert await poll(server.base, session) == "o\n"
    await ask(server.base, "POST", f"{session}/xhr_send", rb'["\ud800 alone"]')
    await send(server.base, session, "after")
    while await receiver.hear() != ["after"]:
        pass
    assert server.tape.story(0) == ["open"]


async def test_htmlfile_escapes_the_end_of_its_script(seam: Seams) -> None:
    """A message cannot close the script element that contains it (fault 16)."""
    server = await seam(htmlfile=True)
    stream = await Stream.open(server.base, "GET", f"{fresh()}/htmlfile?c=call")
    await stream.until('p("o");\n</script>\r\n')
    server.tape.sessions[0].send("</script><script>alert(1)</script><!--")
    element = await stream.until(");\n</script>\r\n")
    inside = element.removeprefix("<script>\n").removesuffix("\n</script>\r\n")
    assert "<" not in inside
    assert "alert(1)" in inside


@pytest.mark.parametrize("url", ["jsonp?c=x", "jsonp_send", "htmlfile?c=x"])
async def test_old_transports_are_off(seam: Seams, url: str) -> None:
    """htmlfile and jsonp are only served if configured (fault 16)."""
    server = await seam()
    method = "POST" if url == "jsonp_send" else "GET"
    assert (await ask(server.base, method, f"{fresh()}/{url}", b"")).status == 404
    info = await ask(server.base, "GET", f"{PREFIX}/info")
    assert "jsonp" not in info.text
    assert "htmlfile" not in info.text


async def test_nothing_warns() -> None:
    """Mounting and serving raise no warning about application or request keys (fault 20)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        server = await Seam(Script(), 1.0, {}).start()
        await poll(server.base, fresh())
        await Wire.hang_up()
        await server.stop()
    assert [str(warning.message) for warning in caught] == []


async def test_the_iframe_page_names_one_version(seam: Seams) -> None:
    """The page loads one exact version of sockjs-client by default (fault 21)."""
    server = await seam()
    page = await ask(server.base, "GET", f"{PREFIX}/iframe.html")
    (url,) = re.findall(r'src="([^"]+)"', page.text)
    assert re.search(r"@\d+\.\d+\.\d+/|^/", url), url


async def test_the_iframe_page_loads_what_is_configured(seam: Seams) -> None:
    """The URL of sockjs-client can be set, which changes the page (fault 21)."""
    mine = "https://static.example.com/sockjs.min.js"
    ours, default = await seam(sockjs_url=mine), await seam()
    page = await ask(ours.base, "GET", f"{PREFIX}/iframe.html")
    other = await ask(default.base, "GET", f"{PREFIX}/iframe.html")
    assert f'src="{mine}"' in page.text
    assert page.headers["ETag"] != other.headers["ETag"]


async def script_of(server: Seam) -> str:
    """Return the attributes of the script element with a URL."""
    page = await ask(server.base, "GET", f"{PREFIX}/iframe.html")
    (attributes,) = re.findall(r"<script (src=[^>]*)></script>", page.text)
    return str(attributes)


@pytest.mark.process
async def test_the_iframe_page_names_the_hash_of_its_script(seam: Seams) -> None:
    """The CDN must serve the npm package's file, since it runs in our origin."""
    script = node_modules() / "sockjs-client" / "dist" / "sockjs.min.js"
    digest = base64.b64encode(hashlib.sha384(script.read_bytes()).digest()).decode()
    attributes = f'src="{SOCKJS_URL}" integrity="sha384-{digest}" crossorigin="anonymous"'
    assert await script_of(await seam()) == attributes


async def test_the_iframe_page_has_the_configured_hash(seam: Seams) -> None:
    """Another script has its own hash, or none."""
    mine = "https://static.example.com/sockjs.min.js"
    assert await script_of(await seam(sockjs_url=mine)) == f'src="{mine}"'
    digest = f"sha256-{'a' * 43}="
    configured = await seam(sockjs_url=mine, sockjs_integrity=digest)
    attributes = f'src="{mine}" integrity="{digest}" crossorigin="anonymous"'
    assert await script_of(configured) == attributes


async def test_the_plugins_globals_are_left_alone(seam: Seams) -> None:
    """Our use of the plugin does not affect a site's own."""
    before = copy.copy(sockjs.transports.transport_handlers)
    maxsize = StreamingTransport.maxsize
    server = await seam(streaming_limit=4096, jsonp=True)
    for transport in TRANSPORTS:
        await Visitor.enter(server.base, transport)
    assert sockjs.transports.transport_handlers == before
    assert sockjs.route.transport_handlers is sockjs.transports.transport_handlers
    assert StreamingTransport.maxsize == maxsize


@pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")
# The stock plugin's own, on Python 3.14; ours does without its add_endpoint.
@pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction':DeprecationWarning")
async def test_the_stock_plugin_works_beside_ours() -> None:
    """Both serve one application at two prefixes."""

    async def handler(manager: Any, session: Any, message: Any) -> None:
        if message.type == sockjs.MsgType.MESSAGE:
            manager.broadcast(message.data)

    server = Seam(Script(received=lambda session, text: session.send(text)), 1.0, {})
    sockjs.add_endpoint(server.app, handler, prefix="/theirs", name="theirs")
    await server.start()
    for prefix in ("/theirs", PREFIX):
        session = fresh(prefix)
        assert await poll(server.base, session) == "o\n"
        assert (await send(server.base, session, "a")).status == 204
        assert await poll(server.base, session) == 'a["a"]\n'
    await Wire.hang_up()
    await server.stop()


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_an_idle_websocket_costs_no_task(seam: Seams, transport: str) -> None:
    """Ten idle WebSockets need no task once their upgrades are done."""
    server = await seam()
    await Visitor.enter(server.base, transport)
    before = len(asyncio.all_tasks())
    for _ in range(10):
        await Visitor.enter(server.base, transport)
    async with asyncio.timeout(WAIT_SECONDS):
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/echo/0/0/websocket", "/echo/websocket"])
async def test_compression_only_if_asked_for(seam: Seams, path: str) -> None:
    """A browser's offer to deflate is only accepted if the site wants it."""
    plain, deflating = await seam(), await seam(compression=True)
    refused = await Socket.open(plain.base, path, OFFER)
    assert "Sec-WebSocket-Extensions" not in refused.head.headers
    taken = await Socket.open(deflating.base, path, OFFER)
    assert "permessage-deflate" in taken.head.headers["Sec-WebSocket-Extensions"]
    unasked = await Socket.open(deflating.base, path)
    assert "Sec-WebSocket-Extensions" not in unasked.head.headers


@pytest.mark.parametrize("transport", STREAMS)
async def test_the_heartbeat_is_as_configured(seam: Seams, transport: str) -> None:
    """The heartbeat option has an effect (fault 20)."""
    server = await seam(heartbeat=0.3)
    visitor = await Visitor.enter(server.base, transport)
    async with asyncio.timeout(patient(20.0)):  # the default comes after 25 s
        assert await visitor.frame() in ("h", "")


async def test_a_frame_of_the_wrong_kind_is_no_message(seam: Seams) -> None:
    """The handler never gets control frames as messages."""
    server = await seam()
    visitor = await Visitor.enter(server.base, "raw")
    visitor.websocket.send(b"ping", PING)
    visitor.websocket.send("", TEXT)
    await visitor.say("text")
    await server.tape.until("message")
    assert server.tape.story() == ["open", "message text"]


class Failing:
    """A session whose handlers of frames fail."""

    cuts = 0

    def arrived(self, _message: object) -> None:
        """Fail."""
        raise ValueError("a message")

    def broken(self, _error: BaseException) -> None:
        """Fail."""
        raise ValueError("a broken frame")

    def cut(self) -> None:
        """Count it."""
        self.cuts += 1


def test_a_failure_in_a_handler_of_frames_cuts_its_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The parser, which calls it from C, would only print the exception."""
    session = Failing()
    inbound = _Inbound(cast(WebSocketSession, session))
    inbound.feed_data(None, 0)
    assert session.cuts == 1 and "handling a message failed" in caplog.text
    inbound.set_exception(ValueError())
    assert session.cuts == 2 and "answering a broken frame failed" in caplog.text
