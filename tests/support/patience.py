"""How long tests wait, multiplied by VIDERE_TEST_PATIENCE, and how many examples they try.

Use `VIDERE_TEST_PATIENCE=3 bin/test` on a machine that is three times as slow, or as busy;
`VIDERE_TEST_EXAMPLES=20 bin/test --fast` looks twenty times as long for what is rare.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from videre.transport import Options

EXAMPLES = float(os.environ.get("VIDERE_TEST_EXAMPLES", "1"))
PATIENCE = float(os.environ.get("VIDERE_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """Return how long to wait here for something that takes `seconds` on a quiet machine."""
    return seconds * PATIENCE


def examples(count: int) -> int:
    """Return how many examples to try here; `count` are enough when VIDERE_TEST_EXAMPLES is 1."""
    return max(1, round(count * EXAMPLES))


#: The limit for something that must happen. Tests wait for the event, not for this time.
WAIT_SECONDS = patient(60)

#: Within which an end that the server is told of must be heard, however busy the machine: otherwise
#: a heartbeat would find it.
LEFT_SECONDS = 0.8 * Options().heartbeat


async def eventually(met: Callable[[], bool]) -> None:
    """Return when a condition is met."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not met():  # noqa: ASYNC110  # of what is looked at nobody tells
            await asyncio.sleep(0.005)
