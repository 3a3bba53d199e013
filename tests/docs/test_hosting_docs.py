"""docs/hosting.md: the site runs as written. (test_documents_browser.py tests its page.)"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from documents import ROOT, Block, claim, run_python, runs
from inprocess import Server, serving
from ports import free_port
from process import STOP_SECONDS
from valkey_server import until

from videre.client import Client, Closed, Message
from videre.errors import Unauthorized

pytestmark = pytest.mark.process

SITE = claim("docs/hosting.md", "RouteTableDef")


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """Run the site."""
    apps: list[web.Application] = []
    monkeypatch.setattr(web, "run_app", lambda app, **_: apps.append(app))
    run_python(SITE)
    async with serving(*apps) as server:
        yield server


class Person:
    """A person with a browser, reduced to its cookies."""

    def __init__(self, server: Server, name: str) -> None:
        self._url = server.url
        self.name = name
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def ask(self, method: str, path: str, **form: str) -> tuple[int, str]:
        """Send a request; return the status and the text."""
        async with self.http.request(method, self._url + path, data=form or None) as answer:
            return answer.status, await answer.text()

    async def login(self) -> tuple[int, str]:
        """Log in."""
        return await self.ask("POST", "/login", user=self.name, password=f"{self.name}'s password")

    async def token(self, room: str) -> str:
        """Return a token for a room."""
        status, token = await self.ask("POST", f"/token/{room}")
        assert status == 200, token
        return token

    def client(self, room: str, token: str) -> Client:
        """Return a client with a token."""
        return Client(f"{self._url}/echo", user=self.name, room=room, token=token)


@pytest.fixture
async def people(site: Server) -> AsyncIterator[dict[str, Person]]:
    """Give Ann and the admin, logged in, and a stranger."""
    persons = {name: Person(site, name) for name in ("ann", "root", "eve")}
    assert await persons["ann"].login() == (200, "Hello, ann")
    assert await persons["root"].login() == (200, "Hello, root")
    yield persons
    for each in persons.values():
        await each.http.close()


async def test_strangers_are_kept_out(people: dict[str, Person]) -> None:
    """A visitor who is not logged in gets nothing, and a user only what is theirs."""
    ann, eve = people["ann"], people["eve"]
    assert (await eve.login())[0] == 401
    assert (await eve.ask("POST", "/login", user="ann", password="guessed"))[0] == 401
    assert (await eve.ask("POST", "/login", user="eve", password=""))[0] == 401
    for method, path in [("POST", "/token/garden"), ("GET", "/me"), ("GET", "/admin")]:
        assert (await eve.ask(method, path))[0] == 401
    assert (await eve.ask("DELETE", "/admin/garden/ann"))[0] == 401
    assert (await ann.ask("POST", "/token/cellar"))[0] == 403
    assert (await ann.ask("GET", "/admin"))[0] == 403
    assert (await ann.ask("DELETE", "/admin/garden/bob"))[0] == 403
    with pytest.raises(Unauthorized):
        await eve.client("garden", "no token").__aenter__()
    with pytest.raises(Unauthorized):  # Ann's token is for Ann only
        await eve.client("garden", await ann.token("garden")).__aenter__()


async def test_the_admin_sees_and_removes(
    people: dict[str, Person], capsys: pytest.CaptureFixture[str]
) -> None:
    """A removed user gets the reason and no other token, and cannot return with the old one."""
    ann, root = people["ann"], people["root"]
    token = await ann.token("garden")
    reason = "The admin has removed you"
    async with ann.client("garden", token) as room:
        greeting = await room.receive()
        assert isinstance(greeting, Message)
        assert greeting.payload == {"Type": "Notice", "Text": "ann is here"}
        assert await root.ask("GET", "/admin") == (200, '{"garden": ["ann"]}')
        assert (await root.ask("DELETE", "/admin/garden/ann"))[0] == 204
        with pytest.raises(Closed, match=f"4504 {reason}"):
            await room.receive()
    assert (await root.ask("DELETE", "/admin/garden/ann"))[0] == 404
    assert (await ann.ask("POST", "/token/garden"))[0] == 403
    async with ann.client("garden", token) as room:
        with pytest.raises(Closed, match=f"4504 {reason}"):
            await room.receive()
    assert capsys.readouterr().out == f"ann has left garden: {reason}\n" * 2


LIMITS = "max_line_size=32 * 1024, max_field_size=32 * 1024"


@runs("docs/hosting.md", "max_line_size")
@pytest.mark.parametrize(("limits", "status"), [(LIMITS, 200), ("", 400)])
async def test_a_site_with_long_headers(block: Block, limits: str, status: int) -> None:
    """A cookie and a URL of 30 KiB are accepted, only with the limits; SIGTERM stops the site."""
    port = free_port()
    assert block.text.count(LIMITS) == 1
    code = block.text.replace(LIMITS, limits).replace("8080", str(port))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        async with aiohttp.ClientSession() as http:

            async def asked(path: str = "/info", **headers: str) -> int:
                url = f"http://127.0.0.1:{port}/echo{path}"
                async with http.get(url, headers=headers) as answer:
                    return answer.status

            async def serves() -> bool:
                return await asked() == 200

            await until(serves)
            long = "x" * 30 * 1024
            assert [await asked(Cookie=f"a={long}"), await asked(f"/info?{long}")] == [status] * 2
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    assert process.returncode == 0
