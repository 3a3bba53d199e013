"""What an engine knows of the nodes that share its rooms."""

from __future__ import annotations

import dataclasses
import os
import re
import socket

#: Characters of a host's name that are shown; DNS allows no more in one label.
MAX_HOST = 63


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What a node says of itself."""

    age: int  # whole seconds since it started
    members: int  # seats that it keeps, those in their grace period included
    process: str  # its host and process id, `host:pid`


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What one node knows of a living node, itself included."""

    name: str
    here: bool  # whether it is the node that is asked
    silent: float  # seconds for which its lease has not changed
    about: About | None  # None: a node of an older version does not say


def this_process() -> str:
    """Return the host and the process id, `host:pid`, without blanks."""
    host = re.sub(r"[^\w.-]", "-", socket.gethostname(), flags=re.ASCII)[:MAX_HOST]
    return f"{host}:{os.getpid()}"
