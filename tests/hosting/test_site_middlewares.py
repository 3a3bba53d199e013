"""Sites whose middlewares compress every answer, or limit its time: sessions live on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fakes import packet
from patience import WAIT_SECONDS
from process import ROOT
from sockjs_client import Wire
from websocket_client import handshake

import videre
from videre.settings import Options

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Middleware = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]


@web.middleware
async def compress(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress every answer, refusals included."""
    try:
        response = await handler(request)
    except web.HTTPException as refusal:
        refusal.enable_compression()
        raise
    response.enable_compression()
    return response


class Limit:
    """Limits the time of every answer, which the test lets expire.

    It uses a timeout in the handler's own task, or a task for the handler, as asyncio.wait_for did
    up to Python 3.11.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._running: dict[str, list[Callable[[], object]]] = defaultdict(list)  # by path

    @property
    def middleware(self) -> Middleware:
        """The middleware."""

        @web.middleware
        async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
            if self._kind == "task":
                task = asyncio.ensure_future(handler(request))
                with self._known(request, task.cancel):
                    return await task
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(None) as timeout:
                with self._known(request, lambda: timeout.reschedule(loop.time())):
                    return await handler(request)

        return limit

    @contextmanager
    def _known(self, request: web.Request, expire: Callable[[], object]) -> Iterator[None]:
        running = self._running[request.path]
        running.append(expire)
        try:
            yield
        finally:
            running.remove(expire)

    async def expire(self, path: str) -> None:
        """Let the time of the last answer for a path expire; return when that was noticed.

        An answer that was already given has no time limit.
        """
        for over in self._running[path][-1:]:
            over()
        for _ in range(10):
            await asyncio.sleep(0)


@asynccontextmanager
async def site(
    *middlewares: Any, options: Options | None = None
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """Run a site; give the URL of its prefix, and a client."""
    app = web.Application(middlewares=middlewares)
    videre.setup(app, prefix="/echo", config=videre.Config(transport=options or Options()))
    async with aiohttp.ClientSession() as http, TestServer(app) as server:
        yield str(server.make_url("/echo")), http


REQUESTS = [
    ("GET", "", 200),
    ("GET", "/info", 200),
    ("OPTIONS", "/info", 204),
    ("PUT", "/info", 405),
    ("GET", "/iframe.html", 200),
    ("GET", "/videre.js", 200),
    ("OPTIONS", "/000/a/xhr", 204),
    ("POST", "/000/a/xhr", 200),
    ("POST", "/000/a/xhr_send", 204),
    ("GET", "/000/a/xhr", 405),
    ("POST", "/000/b/xhr_send", 404),
    ("GET", "/websocket", 400),
    ("GET", "/nowhere", 404),
]


async def test_compressed_answers() -> None:
    """Each has its usual body: compressed once, or not at all."""
    found: list[dict[str, tuple[int, str]]] = []
    codings = set()
    for middlewares in ((), (compress,)):
        answers = {}
        async with site(*middlewares) as (base, http):
            for method, path, status in REQUESTS:
                body = json.dumps([packet("connect", "a", "room")]) if "send" in path else None
                async with http.request(method, base + path, data=body) as answer:
                    assert answer.status == status, path
                    text = await answer.text()
                    answers[f"{method} {path}"] = text.partition('"entropy"')[0]
                    if middlewares:
                        codings.add(answer.headers.get("Content-Encoding"))
            tag = (await http.get(f"{base}/iframe.html")).headers["ETag"]
            async with http.get(f"{base}/iframe.html", headers={"If-None-Match": tag}) as answer:
                assert answer.status == 304
        found.append(answers)  # type: ignore[arg-type]
    assert found[0] == found[1]
    assert {None, "deflate", "gzip"} == codings  # the middleware had an effect


async def test_compressed_sessions() -> None:
    """They join a room over a WebSocket and by polling."""
    async with site(compress) as (base, http):
        async with http.ws_connect(f"{base}/websocket") as socket:
            await socket.send_str(packet("connect", "a", "room"))
            assert (await socket.receive_json(timeout=WAIT_SECONDS))["Payload"] == "true"
        await polls(http, f"{base}/000/polling", "b")


async def polls(http: aiohttp.ClientSession, url: str, user: str) -> None:
    """Open a polling session and join a room."""
    async with http.post(f"{url}/xhr") as answer:
        assert await answer.text() == "o\n"
    body = json.dumps([packet("connect", user, user)])
    async with http.post(f"{url}/xhr_send", data=body) as answer:
        assert answer.status == 204
    async with http.post(f"{url}/xhr") as answer:
        assert (await answer.text()).startswith("a[")


KINDS = pytest.mark.parametrize("kind", ["timeout", "task"])


@KINDS
async def test_a_websocket_outlives_the_limit(kind: str) -> None:
    """This holds repeatedly; it ends as usual, by its client or with its site."""
    limit = Limit(kind)
    async with asyncio.timeout(WAIT_SECONDS), site(limit.middleware) as (base, http):
        async with http.ws_connect(f"{base}/websocket") as socket:
            await socket.send_str(packet("connect", "a", "room"))
            assert (await socket.receive_json())["Payload"] == "true"
            for _ in range(3 if kind == "task" else 1):  # a timeout expires only once
                await limit.expire("/echo/websocket")
                await socket.send_str(packet("ping", "a", "room"))
                assert json.loads((await socket.receive_json())["Payload"]) == ["a"]
        last = await http.ws_connect(f"{base}/websocket")
        await last.send_str(packet("connect", "b", "room"))
        assert (await last.receive_json())["Payload"] == "true"  # a has left
        await limit.expire("/echo/websocket")
        ending = asyncio.create_task(last.receive())
    assert (await ending).data == 1001


@KINDS
async def test_a_lost_websocket_is_lost(kind: str) -> None:
    """A connection that breaks just as the time expires ends its session."""
    limit = Limit(kind)
    async with asyncio.timeout(WAIT_SECONDS), site(limit.middleware) as (base, http):
        witness = await http.ws_connect(f"{base}/websocket")
        await witness.send_str(packet("connect", "a", "room"))
        await witness.receive_json()
        wire = await Wire.open(base.removesuffix("/echo"))
        wire.say("GET", "/echo/000/x/websocket", None, handshake())
        await wire.head()
        await limit.expire("/echo/000/x/websocket")
        wire.writer.transport.abort()
        await wire.close()
        Wire.opened.remove(wire)
        await witness.send_str(packet("ping", "a", "room"))
        assert json.loads((await witness.receive_json())["Payload"]) == ["a"]
        await witness.close()


@KINDS
@pytest.mark.parametrize(
    ("transport", "method", "greeting"),
    [
        ("xhr", "POST", ""),
        ("xhr_streaming", "POST", "h" * 2048 + "\n"),
        ("eventsource", "GET", "\r\n"),
    ],
)
async def test_a_session_of_requests_outlives_the_limit(
    kind: str, transport: str, method: str, greeting: str
) -> None:
    """The response ends like a full one; messages that come meanwhile are in the next."""
    limit = Limit(kind)
    path = "/000/session"
    async with asyncio.timeout(WAIT_SECONDS), site(limit.middleware) as (base, http):
        await polls(http, f"{base}{path}", "a")
        for _ in range(2):
            async with http.request(method, f"{base}{path}/{transport}") as answer:
                # The response's head is sent when the request has the session.
                assert await answer.content.readexactly(len(greeting)) == greeting.encode()
                await limit.expire(f"/echo{path}/{transport}")
                assert (answer.status, await answer.text()) == (200, "")
        body = json.dumps([packet("ping", "a", "a")])
        async with http.post(f"{base}{path}/xhr_send", data=body) as answer:
            assert answer.status == 204
        async with http.post(f"{base}{path}/xhr") as answer:
            assert "ping" in await answer.text()


@pytest.mark.process
async def test_the_end_of_the_loop_is_no_limit() -> None:
    """A site that ends without closing cancels all tasks: none of ours remains."""
    code = """
import asyncio, aiohttp, videre
from aiohttp import web

async def main():
    app = web.Application()
    videre.setup(app, prefix="/echo")
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    http = aiohttp.ClientSession()
    socket = await http.ws_connect(f"http://127.0.0.1:{port}/echo/websocket")
    poll = await http.post(f"http://127.0.0.1:{port}/echo/0/a/xhr_streaming")
    await socket.send_str('{"Header": {"Event": "connect", "UserId": "a", "RoomId": "r"}}')
    await socket.receive()
    print("serves", flush=True)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", code),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=PIPE,
        stderr=DEVNULL,
    )
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, output) == (0, b"serves\n")


async def test_a_middleware_sees_that_the_answer_is_sent() -> None:
    """It may add headers only to an answer that is not prepared; that of a WebSocket is."""
    seen: list[bool] = []

    @web.middleware
    async def look(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        seen.append(response.prepared)
        return response

    async with site(look) as (url, http), http.ws_connect(f"{url}/websocket"):
        assert seen == [True]
