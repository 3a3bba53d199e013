"""A network namespace for a signaller: one cable leads to its store, another one to its clients."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from process import missing, require

NOBODY = "02:00:00:00:00:00"  # the address of a network card that does not exist


async def _ip(*arguments: str) -> str:
    """Run `ip`; return what was wrong, "": nothing."""
    process = await asyncio.create_subprocess_exec(
        require("ip"), *arguments, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
    )
    _, errors = await process.communicate()
    return errors.decode() or ("failed" if process.returncode else "")


async def _must(*arguments: str) -> None:
    wrong = await _ip(*arguments)
    assert not wrong, f"ip {' '.join(arguments)}: {wrong}"


@dataclass(frozen=True)
class Cable:
    """A pair of network cards, one here and one in a namespace, and their addresses."""

    namespace: str
    name: str
    here: str
    there: str

    async def lay(self) -> None:
        """Make both ends."""
        far = ("-n", self.namespace)
        peer = ("type", "veth", "peer", "name", self.name, "netns", self.namespace)
        await _must("link", "add", self.name, *peer)
        await _must("addr", "add", f"{self.here}/30", "dev", self.name)
        await _must(*far, "addr", "add", f"{self.there}/30", "dev", self.name)
        await _must("link", "set", self.name, "up")
        await _must(*far, "link", "set", self.name, "up")

    async def unplug(self) -> None:
        """Set down the end that is in the namespace: who sends is told that there is no way."""
        await _must("-n", self.namespace, "link", "set", self.name, "down")

    async def plug(self) -> None:
        """Set it up again."""
        await _must("-n", self.namespace, "link", "set", self.name, "up")

    async def cut(self) -> None:
        """Have all packets go to nobody, both ways: who sends is told nothing."""
        nobody = ("lladdr", NOBODY, "dev", self.name, "nud", "permanent")
        await _must("neigh", "replace", self.there, *nobody)
        await _must("-n", self.namespace, "neigh", "replace", self.here, *nobody)

    async def mend(self) -> None:
        """Have them find the way again."""
        await _must("neigh", "del", self.there, "dev", self.name)
        await _must("-n", self.namespace, "neigh", "del", self.here, "dev", self.name)


@dataclass(frozen=True)
class Island:
    """Where a signaller has a cable to its store, and another one to its clients."""

    name: str
    store: Cable
    node: Cable

    @property
    def within(self) -> tuple[str, ...]:
        """What a command begins with that is to run there."""
        return (require("ip"), "netns", "exec", self.name)


@asynccontextmanager
async def island() -> AsyncIterator[Island]:
    """Give a namespace; skip the test where none can be made."""
    require("ip")
    if os.geteuid() != 0:
        missing("a network namespace needs root")
    unique = uuid.uuid4().hex[:8]
    name = f"videre-{unique}"
    if wrong := await _ip("netns", "add", name):
        missing(f"no network namespace can be made: {wrong}")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_must, "netns", "del", name)  # and its cables with it
        await _must("-n", name, "link", "set", "lo", "up")
        cables = []
        for letter in "sn":
            # Of the addresses that are for measuring networks (RFC 2544): nobody else has them.
            place = random.SystemRandom().randrange(1 << 15) * 4
            base = f"198.{18 + (place >> 16)}.{place >> 8 & 255}"
            here, there = f"{base}.{(place & 255) + 1}", f"{base}.{(place & 255) + 2}"
            cables.append(Cable(name, f"v{letter}{unique}", here, there))
            await cables[-1].lay()
        yield Island(name, *cables)
