"""Run a command in the cage of a systemd unit, as far as one can be built without systemd.

    python confined.py UNIT COMMAND...

The unit's system calls (as systemd-analyze lists them), its MemoryDenyWriteExecute and its
RestrictAddressFamilies are enforced by seccomp filters of libseccomp, which systemd uses itself.
What lacks is what namespaces do.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
MASKED_EQUAL, EQUAL = 7, 4
WRITE, EXECUTE, SHM_EXECUTE = 2, 4, 0o100000
FAMILIES = range(46)  # AF_MAX


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    ]


class Filter:
    """A seccomp filter; `default` applies to calls without a rule."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(default))

    def rule(self, action: int, call: str, *where: Comparison) -> None:
        """Set what happens to a call with these arguments."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # this machine does not have it
        array = (Comparison * len(where))(*where)
        failed = self._library.seccomp_rule_add_array(
            self._context, action, number, len(where), array
        )
        if failed:
            raise OSError(-failed, os.strerror(-failed), call)

    def load(self) -> None:
        """Filter this process and its children from now on."""
        if failed := self._library.seccomp_load(self._context):
            raise OSError(-failed, os.strerror(-failed))


def calls(group: str) -> set[str]:
    """Return the system calls of a group such as @system-service."""
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    found: set[str] = set()
    for line in shown.stdout.splitlines()[1:]:
        name = line.strip()
        if name.startswith("@"):
            found |= calls(name)
        elif name and not name.startswith("#"):
            found.add(name)
    return found


def allowed(unit: str) -> set[str]:
    """Return the system calls that SystemCallFilter allows: those named, less those after a ~."""
    lines = re.findall(r"^SystemCallFilter=(~?)(.*)$", unit, re.MULTILINE)
    kept, denied = (
        {
            call
            for sign, groups in lines
            if sign == which
            for g in groups.split()
            for call in calls(g)
        }
        for which in ("", "~")
    )
    # systemd allows these with any list (@default), so that a process can start.
    return kept - denied | calls("@default")


def confine(unit: str) -> None:
    """Put this process into the sandbox."""
    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS, required for a filter
    listed = Filter(ERRNO | errno.EPERM)
    for call in allowed(unit):
        listed.rule(ALLOW, call)
    special = Filter(ALLOW)
    if "\nMemoryDenyWriteExecute=yes\n" in unit:
        both = WRITE | EXECUTE
        refuse = ERRNO | errno.EPERM
        special.rule(refuse, "mmap", Comparison(2, MASKED_EQUAL, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            special.rule(refuse, call, Comparison(2, MASKED_EQUAL, EXECUTE, EXECUTE))
        special.rule(refuse, "shmat", Comparison(2, MASKED_EQUAL, SHM_EXECUTE, SHM_EXECUTE))
    (families,) = re.findall(r"^RestrictAddressFamilies=(.*)$", unit, re.MULTILINE)
    named = {getattr(socket, name) for name in families.split()}
    for family in FAMILIES:
        if family not in named:
            special.rule(ERRNO | errno.EAFNOSUPPORT, "socket", Comparison(0, EQUAL, int(family), 0))
    special.load()
    listed.load()


if __name__ == "__main__":
    confine(Path(sys.argv[1]).read_text())
    os.execvp(sys.argv[2], sys.argv[2:])
