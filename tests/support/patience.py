"""How long tests wait: all their times come from here, and grow with VIDERE_TEST_PATIENCE.

`VIDERE_TEST_PATIENCE=3 bin/test` on a machine that is three times as slow, or as busy.
"""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("VIDERE_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """Return for how many seconds to wait here for what takes less on a quiet machine."""
    return seconds * PATIENCE


#: NodeTimeout of tests in which a node dies. A renewal, every quarter of it, may come late by the
#: rest of it: on a busy machine a process has stood still for more than a second.
NODE_SECONDS = patient(3.0)

#: After which something that must come does not come any more. Tests wait for it, not for this.
WAIT_SECONDS = patient(60)
