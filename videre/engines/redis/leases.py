"""Which nodes have renewed their leases recently, by the observer's own clock.

A lease is a text that changes with each renewal, `<count> <age> <members> <process>:<ms>`: it ends
after that many milliseconds without a change. No other machine's clock counts, least of all the
store's, which may be set. The fields between the count and the milliseconds tell operators about
the node (engines.nodes); a node of an older version writes `<count>:<ms>`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping

from videre.engines.nodes import About, Seen

_ABOUT = re.compile(r"\d+ (\d+) (\d+) (\S+):\d+", re.ASCII)

# Renewals of a lease while it lasts; some may be lost.
BEATS = 4


def lease(count: int, seconds: float, about: About) -> str:
    """Return the text of a renewed lease that lasts for `seconds`."""
    told = f"{about.age} {about.members} {about.process}"
    return f"{count} {told}:{round(seconds * 1000)}"


def about(lease: str) -> About | None:
    """Return what a lease says about its node, if anything."""
    if (found := _ABOUT.fullmatch(lease)) is None:
        return None
    age, members, process = found.groups()
    return About(int(age), int(members), process)


@dataclasses.dataclass
class _Watched:
    lease: str
    idle: float = 0.0  # seconds without a change

    @property
    def left(self) -> float:
        return int(self.lease.rpartition(":")[2]) / 1000 - self.idle


class Leases:
    """The leases of all nodes, this one included. All times are in seconds.

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

    def seen(self, own: str) -> Iterator[Seen]:
        """Yield all nodes with a lease that has not ended; `own` is this node's name."""
        for node, each in sorted(self._watched.items()):
            if each.left > 0:
                yield Seen(node, node == own, each.idle, about(each.lease))
