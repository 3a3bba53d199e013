"""A site that sets up CORS for all its routes, ours included, with aiohttp-cors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import aiohttp_cors
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fakes import packet
from patience import WAIT_SECONDS

import videre

HERE, ELSEWHERE = "https://here.example", "https://elsewhere.example"
ALLOWED = "Access-Control-Allow-Origin"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type",
}


@pytest.fixture(params=["own", "site's", "site's, for one origin"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, set[str]]]:
    """Give the URL of a site, and the origins that may read its answers."""
    app = web.Application()
    videre.setup(app, prefix="/echo")
    allowed = {HERE, ELSEWHERE} if "one" not in request.param else {HERE}
    if request.param != "own":
        options = aiohttp_cors.ResourceOptions(  # type: ignore[no-untyped-call]
            allow_credentials=True, expose_headers="*", allow_headers="*"
        )
        cors = aiohttp_cors.setup(app, defaults={"*" if len(allowed) > 1 else HERE: options})
        for route in list(app.router.routes()):
            cors.add(route)
    async with TestServer(app) as server:
        yield str(server.make_url("/echo")), allowed


@pytest.mark.parametrize("origin", [HERE, ELSEWHERE])
async def test_a_polling_session(site: tuple[str, set[str]], origin: str) -> None:
    """The site's setting counts, as a single header, and the session works."""
    base, allowed = site
    told = [origin] if origin in allowed else []
    url = f"{base}/000/{origin.partition('.')[0][8:]}"
    connect = json.dumps([packet("connect", "a", "room")])

    def check(answer: aiohttp.ClientResponse, status: int) -> None:
        assert answer.status == status
        assert answer.headers.getall(ALLOWED, []) == told

    async with aiohttp.ClientSession(headers={"Origin": origin}) as http:
        async with http.options(f"{url}/xhr_send", headers=PREFLIGHT) as answer:
            assert answer.headers.getall(ALLOWED, []) == told
            assert (answer.status in (200, 204)) == bool(told)
        async with http.get(f"{base}/info") as answer:
            check(answer, 200)
        async with http.post(f"{url}/xhr") as answer:
            check(answer, 200)
            assert await answer.text() == "o\n"
        async with http.post(f"{url}/xhr_send", data=connect) as answer:
            check(answer, 204)
        async with http.post(f"{url}/xhr") as answer:
            check(answer, 200)
            assert (await answer.text()).startswith("a[")
        async with http.ws_connect(f"{base}/websocket") as socket:
            await socket.send_str(packet("connect", "b", "room"))
            assert "Payload" in await socket.receive_json(timeout=WAIT_SECONDS)


async def test_other_methods(site: tuple[str, set[str]]) -> None:
    """They get the 405 of SockJS, with the allowed methods."""
    base, _ = site
    async with aiohttp.ClientSession() as http:
        found: dict[str, Any] = {}
        for path in ("", "/", "/info", "/iframe.html", "/websocket", "/000/x/xhr"):
            async with http.put(f"{base}{path}") as answer:
                found[path] = answer.status, answer.headers.get("Allow")
        assert found == {
            "": (405, "GET, HEAD"),
            "/": (405, "GET, HEAD"),
            "/info": (405, "OPTIONS, GET"),
            "/iframe.html": (405, "GET, HEAD"),
            "/websocket": (405, "GET"),
            "/000/x/xhr": (405, "OPTIONS, POST"),
        }
        async with http.head(f"{base}/info") as answer:
            assert answer.status == 200
