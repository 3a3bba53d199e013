"""The Python client in the documentation: its examples run as written."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from types import FunctionType
from typing import Any

import pytest
from aiohttp import web
from documents import ROOT, Block, runs
from inprocess import serving
from patience import patient

import videre
import videre.client
from videre.client import Call, Client, Closed, Joined, Left

CALL_SECONDS = patient(30)  # a safety net: a call takes less than a second


@runs("docs/client.md", "match event")
async def test_the_example_of_the_reference(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hears joins, messages and leaves, until it is removed."""
    app = web.Application()
    rooms = videre.setup(app).rooms
    seated: asyncio.Queue[str] = asyncio.Queue()
    rooms.on_join(lambda _room, user: seated.put_nowait(user))
    heard: asyncio.Queue[Any] = asyncio.Queue()

    class Observed(Client):
        """A client whose events a test can observe."""

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


def test_the_options_of_a_call() -> None:
    """They are those of Client, except the ones that the reference names."""
    text = (ROOT / "docs/client.md").read_text(encoding="utf-8")
    found = re.search(r"takes the options of \[`Client`\]\S+ except (.*?);", text)
    assert found is not None
    of_client, of_call = (inspect.signature(kind).parameters for kind in (Client, Call))
    assert set(re.findall(r"`(\w+)`", found[1])) == of_client.keys() - of_call.keys()


def test_the_arguments_of_send() -> None:
    """Its line shows which are keywords only."""
    text = (ROOT / "docs/client.md").read_text(encoding="utf-8")
    found = re.search(r"^\| `await call\.send\((.*?)\)`", text, re.MULTILINE)
    assert found is not None
    told = ast.parse(f"lambda {found[1]}: ...", mode="eval").body
    assert isinstance(told, ast.Lambda)
    keywords = {each.arg for each in told.args.kwonlyargs}
    real = inspect.signature(Call.send).parameters.values()
    assert keywords == {each.name for each in real if each.kind is each.KEYWORD_ONLY}
