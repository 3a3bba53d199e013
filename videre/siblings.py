"""Find other processes that serve the same port: with `memory://`, their members do not meet ours.

Reads Linux's /proc; on other systems it finds nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc")

# The state of a listening TCP socket, and the flag of a listening Unix socket (Linux:
# include/net/tcp_states.h, include/linux/net.h).
_LISTENS, _ACCEPTS = "0A", 0x10000


def find() -> str:
    """Describe another process that listens where this one does; "" if none is found.

    That is a process with the same parent and the same socket (a worker), or any process with
    another socket on the same address (SO_REUSEPORT).
    """
    listening = dict(_listening())
    own = _sockets(os.getpid()) & listening.keys()
    if not own:
        return ""
    for pid in _siblings():
        if own & _sockets(pid):
            return f"process {pid} listens on the same socket"
    addresses = {listening[inode] for inode in own}
    if any(address in addresses for inode, address in listening.items() if inode not in own):
        return "another process listens on the same port"
    return ""


def _listening() -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the inode and the address of each listening socket."""
    for family in ("tcp", "tcp6"):
        for line in _lines(PROC / "self" / "net" / family):
            # sl local_address rem_address st tx:rx tr:tm->when retrnsmt uid timeout inode
            words = line.split()
            if len(words) > 9 and words[3] == _LISTENS:
                yield words[9], (family, words[1])
    for line in _lines(PROC / "self" / "net" / "unix"):
        # Num RefCount Protocol Flags Type St Inode Path
        words = line.split(maxsplit=7)
        if len(words) > 6 and int(words[3], 16) & _ACCEPTS:
            yield words[6], ("unix", words[6])  # its inode: two sockets may share a path


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").splitlines()[1:]
    return []


def _sockets(pid: int) -> set[str]:
    """Return the inodes of a process's sockets; none if we may not read them."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for descriptor in os.scandir(PROC / str(pid) / "fd"):
            with contextlib.suppress(OSError):  # it has just been closed
                link = str(Path(descriptor.path).readlink())
                if link.startswith("socket:["):
                    found.add(link[len("socket:[") : -1])
    return found


def _siblings() -> Iterator[int]:
    """Yield the ids of the other child processes of our parent."""
    parent, own = str(os.getppid()), os.getpid()
    with contextlib.suppress(OSError):
        for entry in os.scandir(PROC):
            if entry.name.isdecimal() and int(entry.name) != own and _parent(entry.path) == parent:
                yield int(entry.name)


def _parent(process: str) -> str:
    """Return the id of a process's parent; "" if the process has ended."""
    with contextlib.suppress(OSError):
        # pid (name, with any characters) state ppid ...
        return (Path(process) / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
    return ""
