"""Parses the client addresses that proxies report, with or without ports.

Some proxies write `192.0.2.1`; Azure's, IIS and others `192.0.2.1:51008` or `[2001:db8::1]:443`. A
dual-stack socket shows IPv4 as `::ffff:192.0.2.1`. RFC 7239 puts everything in one header.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The header of RFC 7239. Its elements have `for=`, `proto=` and others.
FORWARDED = "forwarded"

_PORT = r"(?::[A-Za-z0-9._-]{1,64})?"  # a number, or an obfuscated port (RFC 7239, 6)
_WITH_PORT = re.compile(rf"\[([0-9A-Fa-f:.]{{2,45}})\]{_PORT}|([0-9.]{{7,15}}){_PORT}")


def parse(text: str) -> Address | None:
    """Parse an address and drop its port; return None if it is invalid."""
    found = _WITH_PORT.fullmatch(text)
    if found is not None:
        text = found[1] or found[2]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return unmapped(address)


def unmapped(address: Address) -> Address:
    """Return the IPv4 address of an IPv4-mapped IPv6 address, else the address itself."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def network(text: str) -> Network:
    """Parse a network, as IPv4 if it is IPv4-mapped; raise ValueError if it is invalid."""
    found = ipaddress.ip_network(text, strict=False)
    mapped = unmapped(found.network_address)
    if isinstance(mapped, ipaddress.IPv4Address) and found.prefixlen >= 96 and found.version == 6:
        return ipaddress.IPv4Network((mapped, found.prefixlen - 96))
    return found


def hops(header: str, values: Sequence[str]) -> Iterator[str]:
    """Yield the clients that a header lists, starting with the one that the nearest proxy saw.

    Commas separate elements even inside quotes. So a quote that a client left open hides nothing
    that the proxies added; and no address contains a comma.
    """
    for value in reversed(values):
        for element in reversed(value.split(",")):
            element = element.strip()
            if element:
                yield _pair(element, "for") if header.lower() == FORWARDED else element


def proto(values: Sequence[str]) -> str:
    """Return the protocol that the nearest proxy reports in `Forwarded`; "" if none."""
    last = ",".join(values).rpartition(",")[2]
    return _pair(last, "proto").lower()


def _pair(element: str, name: str) -> str:
    """Return the last value of a name in an element of `Forwarded`, unquoted; "" if none."""
    for pair in reversed(element.split(";")):
        key, _, value = pair.partition("=")
        if key.strip().lower() == name:
            return value.strip().removeprefix('"').removesuffix('"')
    return ""
