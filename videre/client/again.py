"""Broadcasts that are sent again because it is not known which of them were dropped."""

from __future__ import annotations

from collections import OrderedDict

from videre.client.wire import Packet

# Ids of one user that are kept, to know a broadcast that comes again: more than a client sends
# within the time that a refusal takes to reach it.
KEPT = 512


class Seen:
    """What has come of each user, by the ids of its broadcasts."""

    def __init__(self) -> None:
        self._ids: dict[str, OrderedDict[int, None]] = {}

    def before(self, packet: Packet) -> bool:
        """Tell whether a broadcast has come before, and remember it.

        `Again` in its header is the id that it had at first.
        """
        again = packet.body["Header"].get("Again")
        identity = packet.id if again is None else again
        if not isinstance(identity, int):
            return False
        ids = self._ids.setdefault(packet.user, OrderedDict())
        if again is not None and identity in ids:
            return True
        ids[identity] = None
        if len(ids) > KEPT:
            ids.popitem(last=False)
        return False

    def forget(self, user: str | None = None) -> None:
        """Forget what has come of a user who left; without a name, of all."""
        if user is None:
            self._ids.clear()
        else:
            self._ids.pop(user, None)
