"""The documentation of Python calls: each example runs as written."""

from __future__ import annotations

import ast
import asyncio
import json
from pathlib import Path
from types import FunctionType
from typing import Any

import aioice.ice
import pytest
from browser import Browser
from documents import ROOT, Block, run_python, runs
from film import make_film
from inprocess import serving
from patience import patient
from test_demo_calls import visited

import videre
import videre.client
from videre.client import Call, Client, errors
from videre.client.call.peer import State

SECONDS = patient(120)  # a safety net for a whole test
REFERENCE = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")


async def received(call: Call, kind: str) -> int:
    """Return the media packets received from a call's only peer, by kind."""
    (peer,) = call.peers.values()
    report = await peer.connection.getStats()
    inbound = [each for each in report.values() if each.type == "inbound-rtp" and each.kind == kind]
    return sum(each.packetsReceived for each in inbound)


@pytest.mark.process
@pytest.mark.long
@pytest.mark.asyncio(loop_scope="session")
@runs("README.md", "videre.client")
@pytest.mark.parametrize("first", ["page", "python"])
async def test_the_readme_meets_the_demo(
    block: Block, first: str, browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its film plays in the demo's page, the page's camera arrives; it prints the page's JSON."""
    calls: asyncio.Queue[Call] = asyncio.Queue()

    class Observed(Call):
        """A call that a test can observe."""

        async def __aenter__(self) -> Observed:
            await super().__aenter__()
            calls.put_nowait(self)
            return self

    monkeypatch.setattr(videre.client, "Call", Observed)
    printed: asyncio.Queue[str] = asyncio.Queue()
    main = run_python(block, print=printed.put_nowait)["main"]
    film = str(make_film(tmp_path / "film.mp4", seconds=round(SECONDS)))
    async with asyncio.timeout(SECONDS), visited(browser) as site:
        url = f"ws://127.0.0.1:{site.wire.target}/echo"
        ann = await site.person("Ann") if first == "page" else None
        running = asyncio.create_task(main(site.room, film, url))
        call = await calls.get()
        ann = ann or await site.person("Ann")
        await ann.reads("Connected")
        # It states no name of its own: the page shows the one in the room.
        seen = """
        await page.waitForFunction(() => {
          const video = document.querySelector(".tile:not(.self) video");
          const { totalVideoFrames } = video?.getVideoPlaybackQuality() ?? {};
          globalThis.first ??= totalVideoFrames;
          return totalVideoFrames > first + 20;
        });
        """
        await ann.page.drive(seen)
        for kind in ("audio", "video"):
            before = await received(call, kind)
            while await received(call, kind) < before + 10:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await ann.presses("Chat")
        await ann.says("Hello, Python")
        told: dict[str, Any] = {}
        while "text" not in told:
            said = json.loads((await printed.get()).partition(": ")[2])
            told[said["type"]] = said
        assert told["about"]["name"] == "Ann" and told["text"]["text"] == "Hello, Python"
        assert told.keys() == {"about", "text"}
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await ann.reads("Waiting for someone")


@runs("README.md", "videre.client")
def test_the_readmes_example_is_short(block: Block) -> None:
    """It has ten lines, and two that run it."""
    lines = [line for line in block.text.splitlines() if line.strip()]
    assert len(lines) <= 12


@runs("docs/client.md", "@call.on")
async def test_the_example_of_the_reference(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies of it greet and see each other."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    printed: asyncio.Queue[str] = asyncio.Queue()
    async with asyncio.timeout(SECONDS), serving(videre.create_app()) as server:
        url = f"{server.url}/echo"
        text = block.text.replace("wss://example.com/echo", url)
        assert url in text
        code = compile(text, block.document, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        greeted: asyncio.Queue[Any] = asyncio.Queue()
        async with Call(url, user="ann", room="a-long-random-id") as ann:
            ann.on("message", lambda value, _peer: greeted.put_nowait(value))
            running = [
                asyncio.create_task(FunctionType(code, {"print": printed.put_nowait})())
                for _ in "ab"
            ]
            assert [await greeted.get() for _ in "ab"] == [{"Hello": "ann"}] * 2
            seen: set[str] = set()
            while len(seen) < 2:
                seen.add(await printed.get())
            assert all("'s video" in line for line in seen)
        for each in running:
            each.cancel()
        await asyncio.wait(running)


def test_the_reference_is_complete() -> None:
    """It has each option, event, state and error of Call and Client."""
    for name in (*Call.EVENTS, *State.__args__):  # type: ignore[attr-defined]
        assert f"`{name}`" in REFERENCE or f'`"{name}"`' in REFERENCE, name
    for kind in (Call, Client):
        for option in kind.__init__.__annotations__:
            assert option == "return" or f"`{option}`" in REFERENCE or f", {option}" in REFERENCE
    for name in videre.client.__all__:
        if name not in ("Event", "Incoming"):
            assert name in REFERENCE, name
    assert issubclass(errors.TransferError, videre.VidereError)
