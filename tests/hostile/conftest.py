"""Let these tests use the modules of the others, and run by hand alone.

They attack a server for minutes on the cores that it runs on: beside the rest of the suite, what
they measure would be the suite.
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what stands here, unless it is asked for how long to attack."""
    if "VIDERE_HOSTILE_SECONDS" in os.environ:
        return
    reason = "by hand: VIDERE_HOSTILE_SECONDS=120 bin/test tests/hostile"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))
