"""The Python client in the documentation: its examples run as they stand there."""

from __future__ import annotations

import ast
import asyncio
from types import FunctionType
from typing import Any

import aioice.ice
import pytest
from aiohttp import web
from documents import ROOT, Block, run_python, runs
from inprocess import serving

import videre
import videre.client
from videre.client import Client, Closed, Joined, Left

CALL_SECONDS = 30  # a safety net: a call takes less than a second
REFERENCE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")


@runs("README.md", "aiortc")
async def test_the_readme_makes_a_call(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who was first says hello to the other over a data channel, until somebody leaves."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    printed: asyncio.Queue[str] = asyncio.Queue()
    main = run_python(block, print=printed.put_nowait)
    async with asyncio.timeout(CALL_SECONDS), serving(videre.create_app()) as server:
        url = f"{server.url}/echo"
        async with Client(url, user="silent", room="room") as silent:
            peer1 = asyncio.create_task(main["call"]("peer1", "room", url))
            assert await silent.receive() == Joined("peer1")
            peer2 = asyncio.create_task(main["call"]("peer2", "room", url))
            assert await printed.get() == "Hello from peer1"
            assert not peer1.done() and not peer2.done()
        await asyncio.gather(peer1, peer2)  # they hear somebody leave


@runs("README.md", "aiortc")
def test_the_example_is_short(block: Block) -> None:
    """Twenty lines, its imports and what runs it not counted."""
    tree = ast.parse(block.text)
    (call,) = (node for node in tree.body if isinstance(node, ast.AsyncFunctionDef))
    assert call.end_lineno is not None
    lines = block.text.splitlines()[call.lineno - 1 : call.end_lineno]
    assert len([line for line in lines if line.strip()]) <= 20


@runs("docs/client.md", "match event")
async def test_the_example_of_the_reference(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears who comes, what is said and who goes, until it is removed."""
    app = web.Application()
    rooms = videre.setup(app).rooms
    seated: asyncio.Queue[str] = asyncio.Queue()
    rooms.on_join(lambda _room, user: seated.put_nowait(user))
    heard: asyncio.Queue[Any] = asyncio.Queue()

    class Observed(Client):
        """A client whose events can be seen."""

        async def receive(self) -> Any:
            event = await super().receive()
            heard.put_nowait(event)
            return event

    monkeypatch.setattr(videre.client, "Client", Observed)
    async with asyncio.timeout(CALL_SECONDS), serving(app) as server:
        url = f"{server.url}/echo"
        text = block.text.replace("wss://example.com/echo", url)
        assert url in text
        code = compile(text, block.document, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        running = asyncio.create_task(FunctionType(code, {})())
        assert await seated.get() == "peer1"
        async with Client(url, user="b", room="a-long-random-id") as b:
            await b.broadcast("hello")
            assert await heard.get() == Joined("b")
            assert (await heard.get()).payload == "hello"
        assert await heard.get() == Left("b")
        await rooms.kick("a-long-random-id", "peer1", "Enough")
        with pytest.raises(Closed, match="4504 Enough"):
            await running
