"""What all peers of one namespace share: rooms, rules, clocks, and where things are recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable

from videre.auth import Auth, NoAuth
from videre.interfaces import Ice, Later, Log, Trace, no_ice
from videre.limits import Penalties
from videre.packets import Decoder
from videre.rooms import Rooms
from videre.settings import LEEWAY, Limits


@dataclasses.dataclass(kw_only=True)
class Context:
    """What all peers of one namespace share. What the configuration says may be set anew."""

    rooms: Rooms
    decoder: Decoder
    log: Log
    clock: Callable[[], float]  # monotonic, in seconds
    unix_time: Callable[[], float]  # what tokens tell
    later: Later
    # Sleeps for so many seconds, or until it is told, within a second, that there is no need to.
    sleep: Callable[[float, Callable[[], bool]], Awaitable[None]]
    trace: Trace | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    auth: Auth = dataclasses.field(default_factory=NoAuth)
    leeway: float = LEEWAY  # seconds that a seat outlives its token
    penalties: Penalties = dataclasses.field(default_factory=Penalties)
    ice: Ice = no_ice
