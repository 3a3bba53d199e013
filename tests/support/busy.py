"""Run a command while busy loops take all cores, to see whether the tests bear it.

    python tests/support/busy.py bin/test

The loops end with the command, at the latest after LIMIT. Returns the command's exit code.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time

LIMIT = 3600.0  # s


def spin() -> None:
    """Take one core until LIMIT is over, or the parent has ended."""
    parent, end = os.getppid(), time.monotonic() + LIMIT
    while time.monotonic() < end and os.getppid() == parent:
        for _ in range(1_000_000):
            pass


def main(command: list[str]) -> int:
    """Run the command beside a loop for each core."""
    loops = [multiprocessing.Process(target=spin) for _ in range(os.cpu_count() or 1)]
    for loop in loops:
        loop.start()
    try:
        return subprocess.run(command).returncode
    finally:
        for loop in loops:
            loop.terminate()
            loop.join()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
