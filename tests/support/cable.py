"""Cables to network namespaces, which can be cut silently."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000  # sched.h; Python has os.unshare and os.setns since 3.12


def no_cables() -> str:
    """Return why cables are impossible here; "" if they are possible."""
    if shutil.which("ip") is None:
        return "ip (iproute2) is not installed"
    if os.geteuid() != 0:
        return "only root can lay a cable to a network namespace"
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


async def ip(*args: str) -> str:
    """Run the command `ip`; return its error output if it fails."""
    process = await asyncio.create_subprocess_exec(
        "ip", *args, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    _, errors = await process.communicate()
    return f"ip {' '.join(args)}: {errors.decode().strip()}" if process.returncode else ""


class Cable:
    """A network namespace at the other end of a cable. Our end has the address `here`.

    With `namespace`, one more cable to an existing namespace.
    """

    def __init__(self, namespace: str | None = None) -> None:
        # From 198.18.0.0/15, for tests of networks (RFC 2544): no real host has these addresses.
        number = secrets.randbelow(1 << 15) * 4
        network = f"198.{18 + (number >> 16)}.{number >> 8 & 255}"
        self.here = f"{network}.{(number & 255) + 1}"
        self.there = f"{network}.{(number & 255) + 2}"
        self._new = namespace is None
        self.namespace = namespace or f"videre-{os.getpid()}-{number}"
        self.device = f"videre{number}t"  # at the other end
        self._ends = f"videre{number}h", self.device

    async def lay(self) -> str:
        """Make the namespace and the cable; return the fault if that fails."""
        here, there = self._ends
        inside = ["-n", self.namespace]
        for command in (
            *([["netns", "add", self.namespace]] if self._new else []),
            *([[*inside, "link", "set", "lo", "up"]] if self._new else []),
            ["link", "add", here, "type", "veth", "peer", there, "netns", self.namespace],
            ["address", "add", f"{self.here}/30", "dev", here],
            [*inside, "address", "add", f"{self.there}/30", "dev", there],
            ["link", "set", here, "up"],
            [*inside, "link", "set", there, "up"],
        ):
            if fault := await ip(*command):
                return fault
        return ""

    async def cut(self) -> None:
        """Take the other end down: from then on nothing arrives, silently."""
        assert await ip("-n", self.namespace, "link", "set", self._ends[1], "down") == ""

    async def remove(self) -> None:
        """Remove the cable, and the namespace that was made for it."""
        await ip("link", "delete", self._ends[0])
        if self._new:
            await ip("netns", "delete", self.namespace)
