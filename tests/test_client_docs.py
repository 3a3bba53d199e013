"""The README's Python client: a call between two of them, as it stands there."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from typing import Any

import aioice.ice
import pytest
from inprocess import serving

import videre
import videre.client

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
CALL_SECONDS = 30  # a safety net: a call takes less than a second


def example() -> str:
    """Return the README's example with aiortc."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    (code,) = (block for block in blocks if "aiortc" in block)
    return str(code)


async def test_the_readme_makes_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one who was first says hello to the other over a data channel, until somebody leaves."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    printed: asyncio.Queue[str] = asyncio.Queue()
    main: dict[str, Any] = {"__name__": "call", "print": printed.put_nowait}
    exec(compile(example(), "README.md", "exec"), main)
    async with asyncio.timeout(CALL_SECONDS), serving(videre.create_app()) as server:
        url = f"{server.url}/echo"
        async with videre.client.Client(url, user="silent", room="room") as silent:
            peer1 = asyncio.create_task(main["call"]("peer1", "room", url))
            assert await silent.receive() == videre.client.Joined("peer1")
            peer2 = asyncio.create_task(main["call"]("peer2", "room", url))
            assert await printed.get() == "Hello from peer1"
            assert not peer1.done() and not peer2.done()
        await asyncio.gather(peer1, peer2)  # they hear somebody leave


def test_the_example_is_short() -> None:
    """Twenty lines, its imports and what runs it not counted."""
    (call,) = (node for node in ast.parse(example()).body if isinstance(node, ast.AsyncFunctionDef))
    assert call.end_lineno is not None
    lines = example().splitlines()[call.lineno - 1 : call.end_lineno]
    assert len([line for line in lines if line.strip()]) <= 20


def test_the_reference_names_what_there_is() -> None:
    """All that the package exports; and its example is Python."""
    text = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    for name in videre.client.__all__:
        assert name == "Event" or f"`{name}" in text, name
    for block in BLOCK.findall(text):
        compile(block, "client.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
