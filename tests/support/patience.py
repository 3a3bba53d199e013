"""How long tests wait: all their times come from here, multiplied by VIDERE_TEST_PATIENCE.

Use `VIDERE_TEST_PATIENCE=3 bin/test` on a machine that is three times as slow, or as busy.
"""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("VIDERE_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """Return how long to wait here for something that takes `seconds` on a quiet machine."""
    return seconds * PATIENCE


#: NodeTimeout of tests in which a node dies. A renewal, due after a quarter of it, may be late by
#: the rest of it: on a busy machine, a process has stalled for more than a second.
NODE_SECONDS = patient(3.0)

#: The limit for something that must happen. Tests wait for the event, not for this time.
WAIT_SECONDS = patient(60)
