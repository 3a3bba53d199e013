"""GNOME's HTTP library, as WebKitGTK's pages and GTK applications use it, through our server."""

from __future__ import annotations

import asyncio
import json
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import packet
from inprocess import serving
from patience import WAIT_SECONDS
from process import missing

import videre
from videre.config import Config
from videre.transport import Options

pytestmark = pytest.mark.process

PYTHON = "/usr/bin/python3"  # Debian's, which has libsoup's bindings
CLIENT = Path(__file__).parents[1] / "support" / "soup_client.py"
LINE_BYTES = 1 << 20


@pytest.fixture(autouse=True, scope="module")
def libsoup() -> None:
    """Skip where there are no bindings."""
    script = "import gi; gi.require_version('Soup', '3.0')"
    try:
        done = subprocess.run([PYTHON, "-c", script], capture_output=True)
    except FileNotFoundError:
        missing(f"{PYTHON} is not installed")
    if done.returncode != 0:
        missing("python3-gi or gir1.2-soup-3.0 is not installed")


class Client:
    """A client, and what it agreed on with the server."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.agreed: dict[str, Any] = {}

    async def hear(self) -> dict[str, Any]:
        """Return its next line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS):
            line = await self._process.stdout.readline()
        found: dict[str, Any] = json.loads(line)
        return found

    async def send(self, text: str) -> None:
        """Send a text without line breaks."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        await self._process.stdin.drain()

    async def enter(self, user: str) -> str:
        """Enter the room; return the role."""
        await self.send(packet("connect", user, "room"))
        heard = await self.hear()
        assert heard["Header"] == {"Event": "connect", "UserId": user, "RoomId": "room"}
        return str(heard["Payload"])


@asynccontextmanager
async def client(url: str, *protocols: str) -> AsyncIterator[Client]:
    """Connect; at the end it is killed."""
    process = await asyncio.create_subprocess_exec(
        *(PYTHON, str(CLIENT), url, *protocols), stdin=PIPE, stdout=PIPE, limit=LINE_BYTES
    )
    found = Client(process)
    try:
        found.agreed = await found.hear()
        yield found
    finally:
        process.kill()
        await process.communicate()


@pytest.mark.parametrize("compression", [True, False])
@pytest.mark.parametrize("offered", [(), ("videre",), ("chat", "v2")])
async def test_two_talk(compression: bool, offered: tuple[str, ...]) -> None:
    """Each offer is answered so that libsoup takes it, with any protocols and with deflate."""
    options = Options(compression=compression)
    async with serving(videre.create_app(Config(transport=options))) as server:
        url = f"{server.url}/echo/websocket".replace("http", "ws", 1)
        async with client(url, *offered) as one, client(url, *offered) as two:
            extensions = ["WebsocketExtensionDeflate"] if compression else []
            agreed = {"protocol": offered[0] if offered else None, "extensions": extensions}
            assert one.agreed == two.agreed == agreed
            assert await one.enter("one") == "true"
            assert await two.enter("two") == "false"
            assert (await one.hear())["Header"]["UserId"] == "two"
            for size in (1, 125, 126, 6_000, 60_000):  # each form of a frame's length but the last
                payload = "\N{GRINNING FACE}" * (size // 4) + "x" * (size % 4)
                text = json.loads(packet("broadcast", "one", "room", payload))
                await one.send(json.dumps(text, ensure_ascii=False))
                assert (await two.hear())["Payload"] == payload
                await two.send(packet("broadcast", "two", "room", {"size": size}))
                assert (await one.hear())["Payload"] == {"size": size}
            await one.send(packet("broadcast", "two", "room", "1"))
            assert json.loads((await one.hear())["Payload"])["Code"] == "wrong-user"


async def test_a_handshake_that_is_refused() -> None:
    """It learns that there is no WebSocket."""
    async with serving(videre.create_app(Config())) as server:
        url = f"{server.url}/echo/nothing/websocket".replace("http", "ws", 1)
        process = await asyncio.create_subprocess_exec(
            *(PYTHON, str(CLIENT), url), stdin=PIPE, stdout=PIPE
        )
        said, _ = await process.communicate()
        assert "error" in json.loads(said)
