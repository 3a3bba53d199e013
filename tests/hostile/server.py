"""The server under attack: a process, its output in a file, and the kernel's view of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import forked
from forked import Forked
from patience import WAIT_SECONDS
from process import LISTENING, SIGNALLER, START_SECONDS, STOP_SECONDS
from sockjs_client import Wire
from target import SECRET

#: The settings of a server on the open internet, but with short deadlines, like the test.
CONFIG: dict[str, Any] = {
    "Host": "127.0.0.1",
    "Port": 0,
    "LogFile": "hostile.log",
    "LogMaxBytes": 0,
    "Auth": {"Secrets": [SECRET], "Leeway": 5},
    "Compression": True,
    "MaxConnections": 3000,
    "MaxConnectionsPerAddress": 200,
    "RoomCapacity": 60,
    "MaxRooms": 500,
    "MaxBacklogBytes": 256 * 1024,
    "ByteBurst": 128 * 1024,
    "MaxSocketsPerAddress": 400,
    "JoinTimeout": 3,
    "Grace": 3,
    "KeepAlive": 20,
    "AdminPort": 0,
}
ADMIN = re.compile(r"Admin port on (http://[\w.:]+)/status")
ATTACKERS = Path(__file__).resolve().parent / "attackers.py"


class Server:
    """A server process at `url`, and its admin port at `admin`."""

    def __init__(self, process: Forked, folder: Path, url: str, admin: str) -> None:
        self.process = process
        self.url = url
        self.admin = admin
        self.base = url.removesuffix("/echo")
        self._folder = folder
        self._proc = Path(f"/proc/{process.pid}")

    @property
    def descriptors(self) -> int:
        """The number of its open files and sockets."""
        return sum(1 for _ in (self._proc / "fd").iterdir())

    @property
    def megabytes(self) -> float:
        """Its resident memory, in MiB."""
        status = (self._proc / "status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found, status
        return int(found[1]) / 1024

    @property
    def output(self) -> str:
        """All of its output: standard output, terminal and log."""
        files = [self._folder / "output", self._folder / str(CONFIG["LogFile"])]
        return "".join(file.read_text(errors="replace") for file in files)

    def events(self) -> Counter[str]:
        """Count the log's events."""
        lines = (self._folder / str(CONFIG["LogFile"])).read_text().splitlines()
        return Counter(json.loads(line)["event"] for line in lines)

    async def rooms(self) -> list[str]:
        """Return all rooms with members, from the admin port."""
        wire = await Wire.open(self.admin)
        answer = await wire.ask("GET", "/api/v1/rooms")
        await wire.close()
        Wire.opened.clear()
        return [room["RoomId"] for room in json.loads(answer.body)["Rooms"]]

    async def emptied(self, within: float = WAIT_SECONDS) -> list[str]:
        """Return the remaining rooms once there are none, or when time is up.

        A member whose reset was lost, as on a busy machine's loopback, leaves after 37.5 s.
        """
        for _ in range(int(within / 0.2)):
            if not (rooms := await self.rooms()):
                break
            await asyncio.sleep(0.2)
        return rooms

    async def settled(self, descriptors: int, within: float = WAIT_SECONDS) -> int:
        """Return the number of open descriptors once it is this low, or when time is up."""
        for _ in range(int(within / 0.2)):
            if self.descriptors <= descriptors:
                break
            await asyncio.sleep(0.2)
        await asyncio.sleep(1.0)  # the remains of polling sessions have no descriptor
        return self.descriptors


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[Server]:
    """Run `bin/signaller.py` with CONFIG; at the end it must stop with exit code 0."""
    config, output = folder / "conf.json", folder / "output"
    config.write_text(json.dumps(CONFIG))
    with output.open("wb") as file:
        process = await forked.start(
            SIGNALLER,
            ["--config", str(config)],
            cwd=folder,
            environ=os.environ,
            stdout=file.fileno(),
            stderr=file.fileno(),
        )
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (found := LISTENING.search(text := output.read_text())):
                assert process.returncode is None, text
                await asyncio.sleep(0.05)
        scheme, host, port, path = found.groups()
        admin = ADMIN.search(text)
        assert admin is not None, text
        yield Server(process, folder, f"{scheme}://{host}:{port}{path}", admin[1])
        assert process.returncode is None, "the server has died"
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def attack(base: str, admin: str, seconds: float) -> Counter[str]:
    """Run all attackers for this many seconds, and return what they did."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ATTACKERS), base, admin, str(seconds), stdout=PIPE
    )
    try:
        async with asyncio.timeout(seconds + START_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, "the attackers have a bug"
    return Counter(json.loads(output))
