"""A list of rooms in a store: pages, whose cost does not grow, and which nobody else waits for."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.process
