"""Cables to another network namespace, which can be unplugged, or cut silently."""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
import os
import secrets
import shutil
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache

from patience import WAIT_SECONDS

CLONE_NEWNET = 0x40000000  # sched.h; Python has os.unshare and os.setns since 3.12
#: One for each cable. These are for tests of networks (RFC 2544): no real host has an address here.
NETWORKS = ipaddress.IPv4Network("198.18.0.0/15").subnets(new_prefix=30)
NOBODY = "02:00:00:00:00:00"  # the address of a network card that does not exist


@cache
def no_cables() -> str:
    """Return why cables are impossible here; "" if they are possible."""
    if shutil.which("ip") is None:
        return "ip (iproute2) is not installed"
    if os.geteuid() != 0:
        return "only root can lay a cable to a network namespace"
    name = _fresh_name()
    for command in (f"netns add {name}", f"-n {name} link add type veth", f"netns delete {name}"):
        done = subprocess.run(["ip", *command.split()], capture_output=True, text=True)
        if done.returncode:
            return f"ip {command}: {done.stderr.strip()}"
    return ""


@contextmanager
def alone() -> Iterator[None]:
    """Put this thread into a network of its own, with nothing but a loopback interface.

    Its new sockets and the programs it starts are there, too; a server that forked.py starts is
    not. Cables are laid there: a Chromium elsewhere on the machine would notice each network card
    that comes or goes, and fail to load pages; a call would move to the new card, and die with it.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def must(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        must(libc.unshare(CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            must(libc.setns(before, CLONE_NEWNET))
    finally:
        os.close(before)


@asynccontextmanager
async def namespace() -> AsyncIterator[str]:
    """Put this thread into a network of its own, and give the name of one more, for cables to it.

    Ask `no_cables` first. Its cables are removed with it.
    """
    name = _fresh_name()
    with alone():
        await ip("netns", "add", name)
        try:
            await ip("-n", name, "link", "set", "lo", "up")
            yield name
        finally:
            await ip("netns", "delete", name)


def _fresh_name() -> str:
    return f"videre-{secrets.token_hex(4)}"


async def ip(*arguments: str) -> str:
    """Run the command `ip`, which must succeed; return its output."""
    process = await asyncio.create_subprocess_exec(
        "ip", *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, f"ip {' '.join(arguments)}: {errors.decode()}"
    return output.decode()


class Cable:
    """Two connected network cards named `device`, with their addresses.

    One is here, at `here`, the other one in a namespace, at `there`.
    """

    def __init__(self, namespace: str) -> None:
        network = next(NETWORKS)
        self.namespace = namespace
        self.here, self.there = map(str, network.hosts())
        self.device = f"videre{int(network.network_address) & 0x1FFFF}"

    async def lay(self) -> None:
        """Create both ends, and wait until the kernel sends packets through them.

        They have no IPv6 address, which would come seconds later, and change the network for a
        Chromium that has started by then.
        """
        peer = ("type", "veth", "peer", "name", self.device, "netns", self.namespace)
        await ip("link", "add", self.device, *peer)
        await ip("address", "add", f"{self.here}/30", "dev", self.device)
        await self._there("address", "add", f"{self.there}/30", "dev", self.device)
        for run in (ip, self._there):
            await run("link", "set", self.device, "addrgenmode", "none")
            await run("link", "set", self.device, "up")
        async with asyncio.timeout(WAIT_SECONDS):
            for run in (ip, self._there):
                # The kernel notices the carrier up to a second later.
                while " state UP " not in await run("link", "show", self.device):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)

    async def _there(self, *arguments: str) -> str:
        return await ip("-n", self.namespace, *arguments)

    async def unplug(self) -> None:
        """Take down the end in the namespace: senders there get an error."""
        await self._there("link", "set", self.device, "down")

    async def plug(self) -> None:
        """Bring it up again."""
        await self._there("link", "set", self.device, "up")

    async def cut(self) -> None:
        """Send all packets to nobody, both ways: senders get no error."""
        nobody = ("lladdr", NOBODY, "dev", self.device, "nud", "permanent")
        await ip("neigh", "replace", self.there, *nobody)
        await self._there("neigh", "replace", self.here, *nobody)

    async def mend(self) -> None:
        """Let packets arrive again."""
        await ip("neigh", "del", self.there, "dev", self.device)
        await self._there("neigh", "del", self.here, "dev", self.device)
