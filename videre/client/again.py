"""Recognize broadcasts that a sender repeats because it does not know which were dropped."""

from __future__ import annotations

from collections import OrderedDict

from videre.client.wire import Packet

# Ids kept for each user, to recognize repeated broadcasts: more than a client sends before a
# refusal reaches it.
KEPT = 512


class Seen:
    """The ids of the broadcasts received from each user."""

    def __init__(self) -> None:
        self._ids: dict[str, OrderedDict[int, None]] = {}

    def before(self, packet: Packet) -> bool:
        """Tell whether a broadcast was received before, and remember its id.

        One that its sender repeats has its first id as `Again` in its header.
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
        """Forget the ids of a user who left, or of all users."""
        if user is None:
            self._ids.clear()
        else:
            self._ids.pop(user, None)
