"""ICE servers: the STUN and TURN servers for members, with credentials that expire.

A shared secret (coturn's `use-auth-secret`, draft-uberti-behave-turn-rest-00) never leaves the
server: a member gets a user name that begins with its expiry time, and its signature.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any

from videre.ids import UserId

#: Default lifetime of a credential, in seconds. Coturn checks it when it allocates a relay; a relay
#: lives on after its credential has expired.
TTL = 14_400

# Longest user name in bytes (RFC 8489, 14.3). Browsers reject the whole configuration for a longer
# one, and a user id of 128 characters may have 512 bytes.
MAX_USERNAME_BYTES = 508

# Coturn silently ignores user names with blanks, quotes, backslashes, or both "union" and "select",
# for fear of SQL injection. We percent-encode these (of the words, one letter), and the %.
_REFUSED_BY_COTURN = re.compile(r"[ '\"\\%]|u(?=nion)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class StaticServer:
    """A server with the same entry for everybody: STUN, or TURN with a fixed password."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class SharedSecret:
    """A TURN server that shares a secret with us; `ttl`: seconds that its credentials live."""

    urls: tuple[str, ...]
    secret: str = dataclasses.field(repr=False)
    ttl: int = TTL


@dataclasses.dataclass(frozen=True)
class IceServers:
    """The configured STUN and TURN servers."""

    entries: Sequence[StaticServer | SharedSecret] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(self.entries))

    def offer(self, user: UserId, now: float) -> dict[str, Any]:
        """Return `IceServers` and `IceTtl` for `user` at Unix time `now`.

        `IceServers` is a list of RTCIceServer, as RTCPeerConnection takes it; `IceTtl` is the
        lifetime of its credentials in seconds, None if they do not expire.
        """
        ttls = [entry.ttl for entry in self.entries if isinstance(entry, SharedSecret)]
        servers = [_server(entry, user, now) for entry in self.entries]
        return {"IceServers": servers, "IceTtl": min(ttls, default=None)}


def _server(entry: StaticServer | SharedSecret, user: UserId, now: float) -> dict[str, Any]:
    """Return an entry as an RTCIceServer."""
    server: dict[str, Any] = {"urls": list(entry.urls)}
    if isinstance(entry, SharedSecret):
        server["username"] = _username(user, int(now) + entry.ttl)
        server["credential"] = _credential(entry.secret, server["username"])
    elif entry.username is not None:
        server["username"] = entry.username
        server["credential"] = entry.credential
    return server


def _username(user: UserId, expiry: int) -> str:
    """Return `<expiry>:<user>`, cut to MAX_USERNAME_BYTES."""
    name = _REFUSED_BY_COTURN.sub(lambda found: f"%{ord(found[0]):02X}", user)
    return f"{expiry}:{name}".encode()[:MAX_USERNAME_BYTES].decode(errors="ignore")


def _credential(secret: str, username: str) -> str:
    """Return the password of a user name: its HMAC-SHA1 in base64, as the draft prescribes."""
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()
