"""Answers the subprotocols and extensions that a client offers in a WebSocket handshake."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Each frame is deflated on its own, once for all receivers (RFC 7692, 7.1).
DEFLATE = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

# Our compression window, in bits; a client must not ask for a smaller one.
WINDOW_BITS = 15

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_BITS = re.compile(r"8|9|1[0-5]")  # RFC 7692, 7.1.2: without leading zeros

# Parameters of an offer: whether each may have no value, and whether it may have a number of bits.
_PARAMETERS = {
    "server_no_context_takeover": (True, False),
    "client_no_context_takeover": (True, False),
    "server_max_window_bits": (False, True),
    "client_max_window_bits": (True, True),
}


def subprotocol(offered: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the answer to the Sec-WebSocket-Protocol headers; None: send no answer.

    It is the first known protocol on offer, else the first on offer, because clients that name one
    hang up without an answer. The choice changes nothing else.
    """
    names = [name.strip() for line in offered for name in line.split(",")]
    found = [name for name in names if _TOKEN.fullmatch(name)]
    there = set(found)
    return next((name for name in known if name in there), found[0] if found else None)


def deflate(offered: Sequence[str]) -> str | None:
    """Return the answer to the Sec-WebSocket-Extensions headers; None: do not deflate.

    Accepts the first offer that we can keep (RFC 7692, 5): all its parameters are known, unique and
    well-formed, and `server_max_window_bits` is not below our window. The answer repeats that
    parameter, as 7.1.2.1 requires.
    """
    for line in offered:
        for offer in line.split(","):
            name, *rest = (part.strip() for part in offer.split(";"))
            if name.lower() != "permessage-deflate":
                continue
            parameters = _parameters(rest)
            if parameters is None:
                continue
            bits = parameters.get("server_max_window_bits")
            if bits is None:
                return DEFLATE
            if int(bits) >= WINDOW_BITS:
                return f"{DEFLATE}; server_max_window_bits={WINDOW_BITS}"
    return None


def _parameters(parts: Sequence[str]) -> dict[str, str] | None:
    """Return an offer's parameters ("" for one without a value), None if malformed."""
    found: dict[str, str] = {}
    for part in parts:
        name, equals, value = (each.strip() for each in part.partition("="))
        if name not in _PARAMETERS or name in found:
            return None
        bare, numbered = _PARAMETERS[name]
        if value[:1] == value[-1:] == '"' and len(value) > 2:
            value = value[1:-1]
        if not (numbered and _BITS.fullmatch(value) if equals else bare):
            return None
        found[name] = value
    return found
