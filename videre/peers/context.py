"""What all peers of one namespace share: rooms, rules, clocks and logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from videre.auth import Auth, NoAuth
from videre.interfaces import Ice, Later, Log, Pause, Trace, no_ice
from videre.limits import Penalties
from videre.packets import Decoder
from videre.rooms import Rooms
from videre.settings import LEEWAY, Limits


@dataclasses.dataclass(kw_only=True)
class Context:
    """What all peers of one namespace share. A reload may replace the configured fields."""

    rooms: Rooms
    decoder: Decoder
    log: Log
    clock: Callable[[], float]  # monotonic, in seconds
    unix_time: Callable[[], float]  # Unix time, for tokens
    later: Later
    pause: Callable[[float], Pause]  # begins a wait, in seconds
    trace: Trace | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    auth: Auth = dataclasses.field(default_factory=NoAuth)
    leeway: float = LEEWAY  # seconds that a seat outlives its token
    penalties: Penalties = dataclasses.field(default_factory=Penalties)
    ice: Ice = no_ice
