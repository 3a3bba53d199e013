"""What proxies write of the clients before them: addresses, with or without their ports.

Proxies write `192.0.2.1`, and Azure's, IIS and others `192.0.2.1:51008` or `[2001:db8::1]:443`. On
a socket for both families IPv4 is `::ffff:192.0.2.1`. RFC 7239 has all of it in one header.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The header of RFC 7239, each of whose elements has `for=`, `proto=` and others.
FORWARDED = "forwarded"

_PORT = r"(?::[A-Za-z0-9._-]{1,64})?"  # a number, or a word that hides it (RFC 7239, 6)
_WITH_PORT = re.compile(rf"\[([0-9A-Fa-f:.]{{2,45}})\]{_PORT}|([0-9.]{{7,15}}){_PORT}")


def parse(text: str) -> Address | None:
    """Return the address that a text says, without its port; None: it says none."""
    found = _WITH_PORT.fullmatch(text)
    if found is not None:
        text = found[1] or found[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return unmapped(address)


def unmapped(address: Address) -> Address:
    """Return the IPv4 address for which an IPv6 one stands, else the address."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def network(text: str) -> Network:
    """Return the network that a text says, of IPv4 where it is mapped; raises ValueError."""
    found = ipaddress.ip_network(text, strict=False)
    mapped = unmapped(found.network_address)
    if isinstance(mapped, ipaddress.IPv4Address) and found.prefixlen >= 96 and found.version == 6:
        return ipaddress.IPv4Network((mapped, found.prefixlen - 96))
    return found


def hops(header: str, values: Sequence[str]) -> Iterator[str]:
    """Yield what a header says of each client, the one that the nearest proxy saw first.

    Commas end an element also between quotes: what a client has left open hides nothing of what the
    proxies have added, and no address holds a comma.
    """
    for value in reversed(values):
        for element in reversed(value.split(",")):
            element = element.strip()
            if element:
                yield _pair(element, "for") if header.lower() == FORWARDED else element


def proto(values: Sequence[str]) -> str:
    """Return what the nearest proxy says in `Forwarded` of its client's protocol; "": nothing."""
    last = ",".join(values).rpartition(",")[2]
    return _pair(last, "proto").lower()


def _pair(element: str, name: str) -> str:
    """Return the last value of a name in an element of `Forwarded`, without quotes; "": none."""
    for pair in reversed(element.split(";")):
        key, _, value = pair.partition("=")
        if key.strip().lower() == name:
            return value.strip().removeprefix('"').removesuffix('"')
    return ""
