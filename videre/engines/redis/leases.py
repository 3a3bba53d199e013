"""Which nodes have renewed their leases recently, by the observer's own clock.

A lease is a text that changes with each renewal, `<count>:<ms>`: it ends after that many
milliseconds without a change. No other machine's clock counts, least of all the store's, which may
be set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

# Renewals of a lease while it lasts; some may be lost.
BEATS = 4


def lease(count: int, seconds: float) -> str:
    """Return the text of a renewed lease that lasts for `seconds`."""
    return f"{count}:{round(seconds * 1000)}"


@dataclasses.dataclass
class _Watched:
    lease: str
    idle: float = 0.0  # seconds without a change

    @property
    def left(self) -> float:
        return int(self.lease.rpartition(":")[2]) / 1000 - self.idle


class Leases:
    """The leases of other nodes. All times are in seconds.

    The time between two looks counts for at most `longest`: a node that stood still or was cut off
    does not know whether others could renew.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._looked = 0.0
        self._watched: dict[str, _Watched] = {}

    def look(self, now: float, found: Mapping[str, str]) -> None:
        """Take in all leases, as read at `now` on this node's monotonic clock."""
        passed = min(now - self._looked, self._longest)
        self._looked = now
        before, self._watched = self._watched, {}
        for node, text in found.items():
            seen = before.get(node)
            if seen is None or seen.lease != text:
                seen = _Watched(text)
            else:
                seen.idle += passed
            self._watched[node] = seen

    def ended(self) -> list[tuple[str, str]]:
        """Return the nodes whose leases have ended, with those leases."""
        return sorted((node, each.lease) for node, each in self._watched.items() if each.left <= 0)

    def next_end(self, most: float) -> float:
        """Return the time until the next lease ends unless renewed, at most `most`."""
        return min([most, *(each.left for each in self._watched.values() if each.left > 0)])
