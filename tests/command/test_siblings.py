"""Other processes on the same port, found in /proc, with real processes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from patience import WAIT_SECONDS
from process import ROOT

pytestmark = pytest.mark.process

#: Listens in some way, forks on demand, and prints what each process finds.
SCRIPT = """
import os, socket, sys
from videre import siblings

how, kind = sys.argv[1:]

def listening(reuse_port=False, address=("127.0.0.1", 0)):
    if kind == "unix":
        one = socket.socket(socket.AF_UNIX)
        one.bind("")  # an address that Linux gives
        one.listen()
        return one
    family = socket.AF_INET6 if kind == "tcp6" else socket.AF_INET
    address = ("::1", *address[1:]) if kind == "tcp6" else address
    return socket.create_server(address, family=family, reuse_port=reuse_port)

if how in ("alone", "nothing", "beside"):
    found = None if how == "nothing" else listening()
    beside = listening() if how == "beside" else None
    print(siblings.find())
elif how == "workers":
    found = listening()
    hears, says = os.pipe()
    one = os.fork()
    if not one:
        os.close(says)
        os.read(hears, 1)  # until the other has looked
        os._exit(0)
    two = os.fork()
    if not two:
        print(siblings.find() == f"process {one} listens on the same socket", flush=True)
        os._exit(0)
    os.waitpid(two, 0)
    print(siblings.find() == "")  # the parent serves nothing, and its children are no siblings
    os.close(says)
    os.waitpid(one, 0)
elif how == "reuse":
    found = listening(reuse_port=True)
    address = found.getsockname()
    hears, says = os.pipe()
    child = os.fork()
    if not child:
        found.close()
        other = listening(reuse_port=True, address=("127.0.0.1", address[1]))
        print(siblings.find(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print(siblings.find())
"""


def says(how: str, kind: str) -> list[str]:
    """Return what the script prints."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how, kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT_SECONDS,
    )
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
def test_no_sibling(kind: str) -> None:
    """A process that has several sockets of its own finds nobody."""
    for how in ("alone", "nothing", "beside"):
        assert says(how, kind) == [""]


@pytest.mark.parametrize("kind", ["tcp", "tcp6", "unix"])
def test_forked_workers(kind: str) -> None:
    """They share one socket, like gunicorn's workers."""
    assert says("workers", kind) == ["True", "True"]


@pytest.mark.parametrize("kind", ["tcp", "tcp6"])
def test_processes_that_share_a_port(kind: str) -> None:
    """They use SO_REUSEPORT; when the other one has ended, nobody is found."""
    assert says("reuse", kind) == ["another process listens on the same port", ""]
