"""A network namespace for a server: one cable leads to its store, another one to its clients."""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from cable import alone
from patience import WAIT_SECONDS
from process import missing, require

NOBODY = "02:00:00:00:00:00"  # the address of a network card that does not exist


async def _ip(*arguments: str) -> str:
    """Run `ip`; return its error, or "" for none."""
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
    """A pair of network cards, one here and one in a namespace, with their addresses."""

    namespace: str
    name: str
    here: str
    there: str

    async def lay(self) -> None:
        """Create both ends."""
        far = ("-n", self.namespace)
        peer = ("type", "veth", "peer", "name", self.name, "netns", self.namespace)
        await _must("link", "add", self.name, *peer)
        await _must("addr", "add", f"{self.here}/30", "dev", self.name)
        await _must(*far, "addr", "add", f"{self.there}/30", "dev", self.name)
        await _must("link", "set", self.name, "up")
        await _must(*far, "link", "set", self.name, "up")
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                if await self._is_up():  # the kernel notices its carrier up to a second later
                    return
                await asyncio.sleep(0.02)

    async def _is_up(self) -> bool:
        command = (require("ip"), "-n", self.namespace, "link", "show", self.name)
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        found, _ = await process.communicate()
        return b" state UP " in found

    async def unplug(self) -> None:
        """Take down the end in the namespace: senders get an error."""
        await _must("-n", self.namespace, "link", "set", self.name, "down")

    async def plug(self) -> None:
        """Bring it up again."""
        await _must("-n", self.namespace, "link", "set", self.name, "up")

    async def cut(self) -> None:
        """Send all packets to nobody, both ways: senders get no error."""
        nobody = ("lladdr", NOBODY, "dev", self.name, "nud", "permanent")
        await _must("neigh", "replace", self.there, *nobody)
        await _must("-n", self.namespace, "neigh", "replace", self.here, *nobody)

    async def mend(self) -> None:
        """Let packets arrive again."""
        await _must("neigh", "del", self.there, "dev", self.name)
        await _must("-n", self.namespace, "neigh", "del", self.here, "dev", self.name)


@dataclass(frozen=True)
class Island:
    """The place of a server with one cable to its store and one to its clients."""

    name: str
    store: Cable
    node: Cable

    @property
    def within(self) -> tuple[str, ...]:
        """The beginning of a command that runs there."""
        return (require("ip"), "netns", "exec", self.name)


@asynccontextmanager
async def island() -> AsyncIterator[Island]:
    """Give a namespace, and have the test in another one; skip it where that is impossible."""
    require("ip")
    if os.geteuid() != 0:
        missing("a network namespace needs root")
    unique = uuid.uuid4().hex[:8]
    name = f"videre-{unique}"
    async with AsyncExitStack() as stack:
        stack.enter_context(alone())
        if wrong := await _ip("netns", "add", name):
            missing(f"no network namespace can be made: {wrong}")
        stack.push_async_callback(_must, "netns", "del", name)  # and its cables with it
        await _must("-n", name, "link", "set", "lo", "up")
        cables = []
        for letter in "sn":
            # From the range for measuring networks (RFC 2544): no other host has these addresses.
            place = random.SystemRandom().randrange(1 << 15) * 4
            base = f"198.{18 + (place >> 16)}.{place >> 8 & 255}"
            here, there = f"{base}.{(place & 255) + 1}", f"{base}.{(place & 255) + 2}"
            cables.append(Cable(name, f"v{letter}{unique}", here, there))
            await cables[-1].lay()
        yield Island(name, *cables)
