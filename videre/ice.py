"""ICE servers: what a member is told of STUN and TURN, with credentials that end by themselves.

A shared secret (coturn's `use-auth-secret`, draft-uberti-behave-turn-rest-00) never leaves the
server: a member gets a user name that begins with its expiry, and a signature of it.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any

#: Seconds for which a credential is good unless the configuration says something else. Coturn looks
#: at the expiry when a relay is allocated; who has one by then keeps it for as long as its call.
TTL = 14_400

# Longest user name in bytes (RFC 8489, 14.3); browsers refuse a longer one as a whole, with the
# call. A user id may have 128 characters of 4 bytes, and the expiry comes on top.
MAX_USERNAME_BYTES = 508

# Coturn does not answer at all to who has one of these in its name, for fear of SQL: blanks,
# quotes, backslashes, and "union" with "select". They are percent-encoded, and so is the %.
_REFUSED_BY_COTURN = re.compile(r"[ '\"\\%]|u(?=nion)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class StaticServer:
    """A server that everybody uses in the same way: STUN, or TURN with a password that stays."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class SharedSecret:
    """A TURN server that shares a secret with us, and for how many seconds we sign."""

    urls: tuple[str, ...]
    secret: str = dataclasses.field(repr=False)
    ttl: int = TTL


@dataclasses.dataclass(frozen=True)
class IceServers:
    """What is configured of STUN and TURN."""

    entries: Sequence[StaticServer | SharedSecret] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(self.entries))

    def offer(self, user: str, now: float) -> dict[str, Any]:
        """Return what `user` is told at Unix time `now`: `IceServers` and `IceTtl`.

        The former is a list of the W3C's RTCIceServer, for RTCPeerConnection as it is; the latter
        for how many seconds all of it is good, None for ever.
        """
        ttls = [entry.ttl for entry in self.entries if isinstance(entry, SharedSecret)]
        servers = [_server(entry, user, now) for entry in self.entries]
        return {"IceServers": servers, "IceTtl": min(ttls, default=None)}


def _server(entry: StaticServer | SharedSecret, user: str, now: float) -> dict[str, Any]:
    """Return an entry as an RTCIceServer."""
    server: dict[str, Any] = {"urls": list(entry.urls)}
    if isinstance(entry, SharedSecret):
        server["username"] = _username(user, int(now) + entry.ttl)
        server["credential"] = _credential(entry.secret, server["username"])
    elif entry.username is not None:
        server["username"] = entry.username
        server["credential"] = entry.credential
    return server


def _username(user: str, expiry: int) -> str:
    """Return `<expiry>:<user>`; of a long user id, as much as a name may hold."""
    name = _REFUSED_BY_COTURN.sub(lambda found: f"%{ord(found[0]):02X}", user)
    return f"{expiry}:{name}".encode()[:MAX_USERNAME_BYTES].decode(errors="ignore")


def _credential(secret: str, username: str) -> str:
    """Return the password of a user name: base64 of its HMAC-SHA1, which the draft prescribes."""
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()
