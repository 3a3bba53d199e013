"""A hanging store costs a server a bounded amount of memory, however much its clients send."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cluster import Client, Cluster, cluster
from patience import WAIT_SECONDS
from process import SIGNALLER, Signaller
from signalling import Closed
from valkey_server import Valkey, valkey

pytestmark = pytest.mark.process

CLIENTS = 150
PACKETS = 16  # of each client: below its own limit (MaxBacklogBytes, 1 MiB)
TEXT = "x" * 60_000
#: Instead of 64 MiB: on a busy machine these would not arrive before the first command times out.
MOST = 16 * 1024 * 1024
CODE = f"from videre.transport import session; session.MAX_WAITING = {MOST}\n{SIGNALLER}"
#: The read buffer of each connection, the waiting steps, and memory that the allocator keeps.
BESIDE = 40 * 1024 * 1024


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Valkey]:
    """Run a Valkey."""
    (tmp_path / "valkey").mkdir()
    async with valkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
async def nodes(tmp_path: Path, store: Valkey) -> AsyncIterator[Cluster]:
    """Give a cluster on it."""
    async with cluster(tmp_path, store.url) as nodes:
        yield nodes


def resident(node: Signaller) -> int:
    """Return the bytes of a server's resident memory."""
    pages = Path(f"/proc/{node.process.pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def floods(client: Client) -> str:
    """Send all; return how it ends: "told" if each packet is refused, or "closed"."""
    try:
        for _ in range(PACKETS):
            await client.send("broadcast", TEXT)
        for _ in range(PACKETS):
            await client.hears(("error", client.user, "unavailable"))
    except (Closed, ConnectionError):
        assert await client.close_code() == 4001
        return "closed"
    return "told"


async def test_clients_go_on_while_the_store_hangs(nodes: Cluster, store: Valkey) -> None:
    """The server keeps what its limits allow and refuses the rest; afterwards all goes on."""
    [node] = await nodes.add(
        1, code=CODE, PacketsPerSecond=None, BytesPerSecond=None, NodeTimeout=20
    )
    clients = [await nodes.client(node, "a", room=f"room {number}") for number in range(CLIENTS)]
    for client in clients:
        await client.hears(("connect", "a", "true"))
    before = resident(node)
    store.signal(signal.SIGSTOP)
    flood = [asyncio.create_task(floods(client)) for client in clients]
    most = 0
    async with asyncio.timeout(WAIT_SECONDS):
        while not all(task.done() for task in flood):
            most = max(most, resident(node) - before)
            await asyncio.wait(flood, timeout=0.02)
    ends = {task.result() for task in flood}
    assert most < MOST + BESIDE, f"{most} bytes"
    assert ends == {"told", "closed"}
    store.signal(signal.SIGCONT)
    a = await nodes.join_when_ready(node, "a", room="afterwards")
    await a.hears(("connect", "a", "true"))
    b = await nodes.client(node, "b", room="afterwards")
    for each in (a, b):
        await each.hears(("connect", "b", "false"))
    await a.says("again")
    await b.hears(("broadcast", "a", "again"))
